// The view of execution traces: records one or opens a file, saves it, hands it to Perfetto, and draws its timeline.

import { record } from "./capture.js";
import { byId, element, save, say } from "./dom.js";
import { bytes } from "./format.js";
import * as perfetto from "./perfetto.js";
import { Timeline } from "./timeline.js";

export const CAPTURE = "trace";
export const RECORDER = "flight";

export function start(kinds) {
  const capture = kinds.captures.find((it) => it.name === CAPTURE);
  const recorder = kinds.profiles.find((it) => it.name === RECORDER);
  const stop = new AbortController();
  const form = byId("record");
  const result = byId("trace-result");
  let timeline = null;

  async function done(blob, name) {
    const button = element("button", { type: "button", onclick: () => save(blob, name) }, `Download ${name}, ${bytes(blob.size)}`);
    result.replaceChildren(button, " Open it with ", element("code", {}, `go tool trace ${name}`), ".");
    timeline?.close();
    timeline = new Timeline(blob, stop.signal);
    await timeline.show();
    say(`Drawn: ${name}`);
  }

  async function doneForPerfetto(blob) {
    if (await perfetto.isGoTrace(blob)) throw new Error("this program's port does not write traces for Perfetto");
    const name = "trace.perfetto-trace";
    result.replaceChildren(
      element("button", { type: "button", onclick: () => save(blob, name) }, `Download ${name}, ${bytes(blob.size)}`), " ",
      element("a", { href: perfetto.SITE, id: "open-perfetto", onclick: (event) => {
        event.preventDefault();
        perfetto.open(blob, byId("program").textContent).catch((error) => say(error.message, true));
      } }, "Open in Perfetto"),
      element("span", { class: "note" }, " The link opens another site, which then reads the capture in your browser. The page itself asks no other host."));
    say("Recorded for Perfetto");
  }

  async function run(path, seconds, then) {
    const buttons = form.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    say("Recording");
    try { await then(await record(path, seconds, byId("trace-progress"), stop.signal)); }
    catch (error) { if (error.name !== "AbortError") say(error.message, true); }
    for (const button of buttons) button.disabled = false;
  }

  if (capture) {
    const seconds = element("input", { type: "number", min: 0.1, max: 3600, step: "any", value: capture.seconds, required: true });
    const path = (more) => `../${CAPTURE}?seconds=${Number(seconds.value)}${more}`;
    form.append(element("label", {}, "Seconds ", seconds), element("button", { type: "submit" }, "Record"),
      element("button", { type: "button", id: "record-perfetto",
        onclick: () => run(path("&format=perfetto"), Number(seconds.value), doneForPerfetto) }, "Record for Perfetto"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      run(path(""), Number(seconds.value), (blob) => done(blob, "trace"));
    });
  }
  if (recorder && !recorder.unavailable) {
    form.append(element("button", { type: "button", onclick: () => run(`../${RECORDER}`, 0, (blob) => done(blob, "flight")) },
      "Take from the flight recorder"));
  }
  form.append(element("label", {}, "or open a file ", element("input", { type: "file", id: "trace-file", onchange: (event) => {
    const file = event.target.files[0];
    if (file) done(file, file.name).catch((error) => { if (error.name !== "AbortError") say(error.message, true); });
  } })));
  byId("trace-text").textContent = [capture?.description, recorder?.unavailable ?? recorder?.description].filter(Boolean).join(" ");
  return () => { stop.abort(); timeline?.close(); };
}
