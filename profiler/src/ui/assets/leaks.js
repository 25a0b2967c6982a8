// The view of leaked tasks: the report of the detector, as text. Its profile is drawn like any other.

import { ask, byId, element, say } from "./dom.js";

export const NAME = "goroutineleak";

export function start(kinds) {
  const kind = kinds.profiles.find((it) => it.name === NAME);
  const unavailable = Boolean(kind.unavailable);
  byId("leak-text").textContent = kind.unavailable ?? kind.description;
  byId("detect").disabled = unavailable;
  if (!unavailable) {
    byId("leak-links").append(element("a", { href: `../${NAME}`, download: "" }, "Download for go tool pprof"), " ",
      element("a", { href: `../${NAME}?debug=2` }, "All tasks, with the leaked ones marked"));
  }
  byId("detect").addEventListener("click", async () => {
    const report = byId("leak-report");
    byId("detect").disabled = true;
    say("Looking through the program's memory");
    try {
      report.textContent = await (await ask(`../${NAME}?debug=1`)).text();
      report.hidden = false;
      say(report.textContent.split("\n")[0]);
    } catch (error) { say(error.message, true); }
    byId("detect").disabled = false;
  });
  return () => {};
}
