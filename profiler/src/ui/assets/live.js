// The live view: asks for the figures each second while somebody can see them.

import { Chart } from "./chart.js";
import { ask, byId, element, say, table } from "./dom.js";
import * as format from "./format.js";

const PERIOD = 1000;

// Fewer tasks than that say nothing about one in a hundred.
const ENOUGH = 20;

const perSecond = (value) => `${format.count(Math.round(value))}/s`;
const cores = (value) => value.toFixed(2);

// Each chart: title, series, format, and its values from the figures `now`, those `before` (nothing the first time) and the
// seconds between.
const rate = (now, before, seconds) => before === null ? NaN : (now - before) / seconds;
const CHARTS = [
  ["Tasks", ["running", "runnable", "waiting"], format.count,
    (now) => [now.tasks.running, now.tasks.runnable, now.tasks.waiting]],
  ["Run queues", ["of workers", "shared"], format.count,
    (now) => [now.scheduler.queued_local, now.scheduler.queued_global]],
  ["Scheduling latency", ["median", "99th percentile"], format.time, latency],
  ["Workers", ["busy", "idle", "threads"], format.count,
    ({ scheduler: it }) => [Math.max(0, it.workers - it.idle_workers), it.idle_workers, it.threads]],
  ["Scheduling", ["task switches", "spawned", "steals"], perSecond, (now, before, seconds) => [
    rate(now.scheduler.runs, before?.scheduler.runs ?? null, seconds),
    rate(now.tasks.created, before?.tasks.created ?? null, seconds),
    rate(now.scheduler.steals, before?.scheduler.steals ?? null, seconds)]],
  ["Memory", ["heap in use", "resident"], format.bytes,
    (now) => [now.heap?.in_use_bytes ?? NaN, now.process.resident_bytes ?? NaN]],
  ["Allocation", ["bytes a second"], (value) => `${format.bytes(value)}/s`,
    (now, before, seconds) => [now.heap ? rate(now.heap.allocated_bytes, before?.heap?.allocated_bytes ?? null, seconds) : NaN]],
  ["Contention: time waited a second", ["primitives", "locks"], (value) => `${format.time(value)}/s`,
    (now, before, seconds) => [
      rate(now.contention.block_nanoseconds, before?.contention.block_nanoseconds ?? null, seconds),
      rate(now.contention.mutex_nanoseconds, before?.contention.mutex_nanoseconds ?? null, seconds)]],
  ["Leaked tasks", ["found by the last look"], format.count, (now) => [now.leaked]],
  ["Processors used", ["program", "this port"], cores, (now, before, seconds) => [
    rate(now.process.cpu_seconds, before?.process.cpu_seconds ?? null, seconds),
    rate(now.process.port_cpu_seconds, before?.process.port_cpu_seconds ?? null, seconds)]],
];

// Quantiles of what was counted since the last look: the upper bounds of the buckets in which they lie.
function latency(now, before) {
  if (before === null) return [NaN, NaN];
  const counts = now.scheduler.latencies.map(([, count], index) => count - before.scheduler.latencies[index][1]);
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all < ENOUGH) return [NaN, NaN];
  return [0.5, 0.99].map((share) => {
    let seen = 0;
    const index = counts.findIndex((count) => (seen += count) >= share * all);
    return now.scheduler.latencies[index][0] ?? NaN;
  });
}

function remarks(now) {
  const block = now.rates.block_nanoseconds ?? 0;
  const mutex = now.rates.mutex_fraction ?? 0;
  const off = [block === 0 ? "primitives" : "", mutex === 0 ? "locks" : ""].filter(Boolean).join(" and ");
  return new Map([
    ["Contention: time waited a second", off === "" ? "" : `Not recorded for ${off}: set a rate below.`],
    ["Allocation", now.heap ? "" : "The program's allocator is not the runtime's, so its heap is not known."],
    ["Leaked tasks", "A look stops the program, so it is made only when somebody asks: under Leaks."],
    ["Scheduling latency", `From runnable to running, of one in about 60; shown when there are ${ENOUGH} in a second.`],
  ]);
}

function showRates(kinds) {
  const rows = kinds.rates.map((rate) => {
    const input = element("input", { type: "number", min: 0, value: rate.value, "aria-label": rate.name });
    const set = async (event) => {
      event.preventDefault();
      try {
        const body = JSON.stringify({ [rate.name]: Number(input.value) });
        const answer = await ask("/debug/greenprof/rates", { method: "POST", headers: { "X-Greenprof": "1" }, body });
        input.value = (await answer.json())[rate.name];
        say(`${rate.name} is ${input.value}`);
      } catch (error) { say(error.message, true); }
    };
    const form = element("form", { onsubmit: set }, input, " ", element("button", { type: "submit" }, "Set"));
    return [[rate.name, "name"], form, rate.description];
  });
  byId("rates").replaceChildren(table("", ["Rate", "Value", "What it means"], rows));
}

export function start(kinds) {
  const charts = CHARTS.map(([title, names, shown, values]) => ({ title, values, chart: new Chart(title, names, shown) }));
  byId("charts").replaceChildren(...charts.map(({ chart }) => chart.figure));
  showRates(kinds);
  let before = null;
  let paused = false;
  let timer = null;
  let ended = false;
  const pause = byId("pause");
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    if (paused) say("Paused");
  });
  async function look() {
    if (!paused && !document.hidden) {
      try {
        const answer = await ask("live", { signal: AbortSignal.timeout(5000) });
        const now = await answer.json();
        if (ended) return;
        const seconds = before === null ? NaN : Math.max(1e-3, (now.time_nanoseconds - before.time_nanoseconds) / 1e9);
        for (const { values, chart } of charts) chart.add(values(now, before, seconds));
        const notes = remarks(now);
        for (const { title, chart } of charts) chart.remark(notes.get(title) ?? "");
        before = now;
        if (!paused) say("Live");
      } catch (error) {
        if (ended) return;
        before = null;
        say(`No figures: ${error.message}`, true);
      }
    }
    if (!ended) timer = setTimeout(look, PERIOD);
  }
  look();
  return () => { ended = true; clearTimeout(timer); };
}
