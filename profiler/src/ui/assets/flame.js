// The view of profiles: takes captures, has them drawn, compares them.

import { all, find, forget, keep, record } from "./capture.js";
import { ask, byId, element, save, say, table } from "./dom.js";
import { bytes, percent, quantity, time } from "./format.js";
import { frames, Graph } from "./graph.js";

// What the port offers under these names has no stacks to draw, or a view of its own.
const ELSEWHERE = new Set(["trace", "flight"]);

const button = (text, onclick, label) => element("button", { type: "button", onclick, "aria-label": label }, text);
const option = (value, text) => element("option", { value }, text);

export function start(kinds) {
  const captures = kinds.captures.filter((it) => !ELSEWHERE.has(it.name));
  const profiles = kinds.profiles.filter((it) => !ELSEWHERE.has(it.name));
  const offered = new Map([...captures.map((it) => [it.name, { ...it, records: true }]), ...profiles.map((it) => [it.name, it])]);
  let graph = null;
  let shown = null;
  let answer = null;
  let stop = null;
  let drawing = 0;

  const group = (label, names) => {
    const options = names.map((it) => option(it.name, it.unavailable ? `${it.name} (not in this program)` : it.name));
    return element("optgroup", { label }, ...options);
  };
  byId("kind").append(group("recorded for a while", captures), group("as it is now, or what changes", profiles));
  byId("kind").addEventListener("change", describe);

  function describe() {
    const kind = offered.get(byId("kind").value);
    const seconds = byId("seconds");
    seconds.disabled = !kind.records && !kind.changes;
    seconds.value = kind.records ? Math.min(5, kind.seconds) : "";
    seconds.placeholder = kind.records ? "" : "now";
    seconds.required = Boolean(kind.records);
    byId("kind-text").textContent = (kind.unavailable ?? kind.description)
      + (kind.changes && !kind.unavailable ? " With seconds: what changes meanwhile." : "");
    byId("capture").disabled = Boolean(kind.unavailable);
  }
  describe();

  byId("take").addEventListener("submit", async (event) => {
    event.preventDefault();
    const kind = offered.get(byId("kind").value);
    const seconds = Number(byId("seconds").value);
    const path = `../${encodeURIComponent(kind.name)}${seconds > 0 ? `?seconds=${seconds}` : ""}`;
    const name = seconds > 0 ? `${kind.name}, ${seconds} s` : kind.name;
    stop = new AbortController();
    const busy = (yes) => { byId("capture").disabled = yes; byId("cancel").hidden = !yes; };
    busy(true);
    say(`Capturing ${name}`);
    try {
      const blob = await record(path, seconds, byId("progress"), stop.signal);
      say(`Captured ${name}`);
      await show(keep(name, kind.name, blob).id);
    } catch (error) {
      say(error.name === "AbortError" ? "Capture cancelled" : error.message, error.name !== "AbortError");
    } finally { busy(false); }
  });
  byId("cancel").addEventListener("click", () => stop?.abort());
  byId("file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) await show(keep(file.name, "file", file).id);
    event.target.value = "";
  });

  function list() {
    const rows = all().map((it) => [
      it.name, it.at.toLocaleTimeString(), [bytes(it.blob.size), "number"],
      element("span", {}, button("Show", () => show(it.id), `Show ${it.name}`), " ",
        button("Download", () => save(it.blob, `${it.file}.pb.gz`), `Download ${it.name}`), " ",
        button("Forget", () => { forget(it.id); list(); }, `Forget ${it.name}`)),
    ]);
    const shownRow = all().findIndex((it) => it.id === shown?.id);
    const made = table("Captures, kept in this page only; a download is for go tool pprof",
      ["What", "When", ["Size", "number"], ""], rows);
    made.tBodies[0].rows[shownRow]?.classList.add("shown");
    byId("captures").replaceChildren(...(rows.length > 0 ? [made] : []));
    const before = byId("before");
    const chosen = before.value;
    before.replaceChildren(option("", "nothing"), ...all().filter((it) => it.id !== shown?.id)
      .map((it) => option(it.id, `${it.name}, ${it.at.toLocaleTimeString()}`)));
    before.value = [...before.options].some((it) => it.value === chosen) ? chosen : "";
    byId("compare-choices").hidden = before.value === "";
  }

  async function show(id) {
    const next = find(id);
    if (next === null) return;
    // What was chosen for one kind means nothing for another.
    if (shown?.kind !== next.kind) { byId("value").replaceChildren(); byId("label").value = ""; byId("before").value = ""; }
    shown = next;
    list();
    byId("drawing").hidden = false;
    byId("drawing-title").textContent = `${shown.name} at ${shown.at.toLocaleTimeString()}`;
    await draw();
  }

  async function draw() {
    drawing += 1;
    const turn = drawing;
    const query = new URLSearchParams();
    const other = find(Number(byId("before").value));
    if (byId("value").value) query.set("value", byId("value").value);
    if (byId("label").value.trim()) query.set("label", byId("label").value);
    if (other) {
      query.set("before", other.blob.size);
      if (byId("scale").checked) query.set("scale", "1");
      if (byId("widths").checked) query.set("widths", "before");
    }
    const body = new Blob(other ? [other.blob, shown.blob] : [shown.blob]);
    try {
      const reply = await ask(`flame?${query}`, { method: "POST", headers: { "X-Greenprof": "1" }, body });
      const data = await reply.json();
      // Of two that were asked for, the later one is shown.
      if (turn === drawing) present(data, other);
    } catch (error) {
      if (turn !== drawing) return;
      graph?.close();
      graph = null;
      byId("summary").textContent = error.message;
      say(error.message, true);
    }
  }

  function present(data, other) {
    answer = data;
    const { unit, kind } = data.value;
    byId("value").replaceChildren(...data.values.map((it) => option(it.kind, `${it.kind} (${it.unit})`)));
    byId("value").value = kind;
    graph?.close();
    graph = null;
    const spans = data.duration_nanoseconds > 0 ? ` in ${time(data.duration_nanoseconds)}` : "";
    const negative = data.negative_samples > 0 ? ` ${data.negative_samples} samples that shrank are left out.` : "";
    const compared = other
      ? ` Before: ${quantity(data.total_before, unit)}. Red has grown, blue has shrunk, in percent of the whole.` : "";
    const what = unit === "count" ? ` of ${kind}` : "";
    byId("summary").textContent = data.total > 0 || data.svg
      ? `${quantity(data.total, unit)}${what}${spans}, ${data.samples} stacks.${compared}${negative}`
      : `Nothing to draw: no sample has a value${byId("label").value.trim() ? " with these labels" : ""}.${negative}`;
    byId("detail").textContent = "";
    if (data.svg) {
      graph = new Graph(byId("graph"), unit, frames(data.svg), (text) => { byId("detail").textContent = text; });
      graph.draw();
      search();
    }
    byId("save").disabled = !data.svg;
    const rows = data.top.map((it) => [
      [quantity(it.flat, unit), "number"], [percent(it.flat, data.total), "number"],
      [quantity(it.cumulative, unit), "number"], [percent(it.cumulative, data.total), "number"],
      [button(it.name, () => { byId("search").value = it.name; search(); }, `Search ${it.name}`), "name"]]);
    byId("top").replaceChildren(table("Flat: in the function itself; cumulative: with what it calls",
      [["Flat", "number"], ["", "number"], ["Cumulative", "number"], ["", "number"], "Function"], rows));
    labels(data, unit);
    byId("comments").replaceChildren(...data.comments.map((it) => element("li", {}, it)));
    byId("comments-box").hidden = data.comments.length === 0;
    list();
    say(`Drawn: ${byId("summary").textContent}`);
  }

  function labels(data, unit) {
    const keys = Object.entries(data.labels);
    byId("label-list").replaceChildren(...keys.flatMap(([key, { values }]) => values.map((it) => option(`${key}=${it.value}`))));
    const only = (text) => { byId("label").value = text; draw(); };
    byId("by-label").replaceChildren(...keys.map(([key, { count, values }]) => table(
      `${key}${count > values.length ? `, the largest ${values.length} of ${count} values` : ""}`, ["Value", [data.value.kind, "number"], ""],
      values.map((it) => [it.value, [quantity(it.sum, unit), "number"],
        button("Only", () => only(`${key}=${it.value}`), `Only ${key}=${it.value}`)]))));
    byId("label-values").hidden = keys.length === 0;
  }

  function search() {
    const text = byId("search").value.trim();
    const found = byId("found");
    if (!graph) { found.textContent = ""; return; }
    let pattern = null;
    try {
      const expression = /^\/(.+)\/$/.exec(text);
      const part = text.toLowerCase();
      if (expression) { const regex = new RegExp(expression[1]); pattern = (name) => regex.test(name); }
      else if (text) pattern = (name) => name.toLowerCase().includes(part);
    } catch { found.textContent = "This is no regular expression."; return; }
    const sum = graph.search(pattern);
    found.textContent = sum === null ? "" : `${quantity(sum, answer.value.unit)}, ${percent(sum, graph.total)} in what matches`;
  }

  byId("choices").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
  for (const id of ["value", "scale", "widths", "label"]) byId(id).addEventListener("change", draw);
  byId("before").addEventListener("change", () => { byId("compare-choices").hidden = byId("before").value === ""; draw(); });
  byId("finding").addEventListener("submit", (event) => event.preventDefault());
  byId("search").addEventListener("input", search);
  byId("reset").addEventListener("click", () => { byId("search").value = ""; search(); if (graph) graph.zoom(graph.all[0]); });
  byId("save").addEventListener("click", () => save(new Blob([answer.svg], { type: "image/svg+xml" }), `${shown.file}.svg`));
  list();
  // An address with `?capture=profile` shows a first picture without a click.
  const first = new URLSearchParams(location.search).get("capture");
  if (all().length > 0) show(all().at(-1).id);
  else if (offered.has(first)) {
    byId("kind").value = first;
    describe();
    byId("take").requestSubmit();
  }
  return () => { stop?.abort(); graph?.close(); };
}
