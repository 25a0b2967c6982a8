// The view of execution traces: records one and saves it.

import { record } from "./capture.js";
import { byId, element, save, say } from "./dom.js";
import { bytes } from "./format.js";

export const CAPTURE = "trace";
export const RECORDER = "flight";

export function start(kinds) {
  const capture = kinds.captures.find((it) => it.name === CAPTURE);
  const recorder = kinds.profiles.find((it) => it.name === RECORDER);
  const stop = new AbortController();
  const form = byId("record");
  const done = (blob, name) => {
    const result = element("button", { type: "button", onclick: () => save(blob, name) }, `Download ${name}, ${bytes(blob.size)}`);
    byId("trace-result").replaceChildren(result, " Open it with ", element("code", {}, `go tool trace ${name}`), ".");
    result.focus();
    say("Recorded a trace");
  };
  async function run(path, seconds, name) {
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    try { done(await record(path, seconds, byId("trace-progress"), stop.signal), name); }
    catch (error) { if (error.name !== "AbortError") say(error.message, true); }
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  }
  if (capture) {
    const seconds = element("input", { type: "number", min: 0.1, max: 3600, step: "any", value: capture.seconds, required: true });
    form.append(element("label", {}, "Seconds ", seconds), element("button", { type: "submit" }, "Record"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      run(`../${CAPTURE}?seconds=${Number(seconds.value)}`, Number(seconds.value), "trace");
    });
  }
  if (recorder && !recorder.unavailable) {
    form.append(element("button", { type: "button", onclick: () => run(`../${RECORDER}`, 0, "flight") }, "Take from the flight recorder"));
  }
  byId("trace-text").textContent = [capture?.description, recorder?.unavailable ?? recorder?.description].filter(Boolean).join(" ");
  return () => stop.abort();
}
