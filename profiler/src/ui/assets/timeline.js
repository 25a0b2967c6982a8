// The timeline of an execution trace. The port draws no picture: it reads the posted file and gives the bars of a window; zooming asks
// for another window. The picture is a canvas; who does not see it has the same in words: a table of the tasks with their sums, and
// keys that walk from bar to bar, each told.

import { ask, byId, element, say, stack, table } from "./dom.js";
import { count, time } from "./format.js";
import { Lanes } from "./lanes.js";

// The shortest window, in nanoseconds: some single events.
const SHORTEST = 2000;

export class Timeline {
  constructor(blob, signal) {
    Object.assign(this, { blob, signal, window: null, chosen: null, turn: 0 });
    byId("timeline").hidden = false;
    this.lanes = new Lanes(byId("lanes"), {
      choose: (id) => this.choose(id),
      window: (from, to) => this.show(from, to),
      detail: (text) => { byId("lane-detail").textContent = text; },
    });
    this.buttons = new AbortController();
    for (const [id, factor] of [["zoom-in", 0.5], ["zoom-out", 2]]) this.button(id, () => this.scale(factor));
    this.button("earlier", () => this.move(-0.5));
    this.button("later", () => this.move(0.5));
    this.button("all-time", () => this.show());
  }

  button(id, action) {
    byId(id).addEventListener("click", () => action().catch((error) => say(error.message, true)), { signal: this.buttons.signal });
  }

  close() {
    this.turn += 1;
    this.buttons.abort();
    this.lanes.close();
  }

  scale(factor) {
    const { from, to } = this.data;
    const [middle, half] = [(from + to) / 2, (to - from) * factor / 2];
    return this.show(middle - half, middle + half);
  }

  move(part) {
    const { from, to } = this.data;
    const step = (to - from) * part;
    return this.show(from + step, to + step);
  }

  async show(from = 0, to = Infinity) {
    this.turn += 1;
    const mine = this.turn;
    const whole = this.data?.duration_nanoseconds ?? Infinity;
    const length = Math.min(Math.max(to - from, SHORTEST), whole);
    const start = Math.round(Math.max(0, Math.min(from, whole - length)));
    const query = new URLSearchParams({ columns: this.lanes.columns() });
    if (Number.isFinite(length) && length < whole) {
      query.set("from", start);
      query.set("to", Math.round(start + length));
    }
    if (this.chosen !== null) query.set("task", this.chosen);
    const answer = await ask(`timeline?${query}`, { method: "POST", headers: { "X-Greenprof": "1" }, body: this.blob, signal: this.signal });
    const data = await answer.json();
    if (mine !== this.turn) return;
    this.data = data;
    this.draw();
  }

  name(id) {
    return id === 0 ? "several" : `${this.data.names[id] ?? "task"} (${id})`;
  }

  draw() {
    const { data } = this;
    this.lanes.draw(data, (id) => this.name(id), this.chosen);
    const part = data.to - data.from < data.duration_nanoseconds ? `${time(data.from)} to ${time(data.to)} of ` : "";
    const left = [[data.tasks_left_out, "tasks"], [data.arrows_left_out, "arrows: zoom in"]]
      .filter(([number]) => number > 0).map(([number, what]) => `${count(number)} more ${what}`).join("; ");
    byId("window").textContent = `${part}${time(data.duration_nanoseconds)}; ${count(data.events)} events, ` +
      `${count(data.tasks_of_trace)} tasks${left ? `; not shown: ${left}` : ""}`;
    const sums = data.tasks.filter((task) => task.summary);
    byId("task-sums").replaceChildren(table("Tasks with a row, and their sums over the whole trace",
      ["task", "ran", "runnable", "blocking", "waited", "99 % started within"],
      sums.map(({ id, summary: it }) => [
        element("button", { type: "button", "aria-pressed": String(id === this.chosen), onclick: () => this.choose(id) }, this.name(id)),
        ...[it.running, it.runnable, it.syscall, it.waits.reduce((sum, wait) => sum + wait[1], 0), it.latency_p99].map((value) => [time(value), "number"]),
      ])));
    this.tell();
  }

  choose(id) {
    this.chosen = this.chosen === id ? null : id;
    if (this.chosen !== null && !this.data.tasks.some((task) => task.id === id)) {
      // It has no row yet.
      return this.show(this.data.from, this.data.to).catch((error) => say(error.message, true));
    }
    this.draw();
    return Promise.resolve();
  }

  // What is known of the chosen task.
  tell() {
    const box = byId("task-summary");
    const task = this.data.tasks.find((it) => it.id === this.chosen);
    box.hidden = !task?.summary;
    if (box.hidden) return;
    const { summary: it, longest_wait: wait } = task;
    const line = (what, value) => element("div", {}, element("dt", {}, what), element("dd", {}, value));
    box.replaceChildren(element("h4", {}, this.name(task.id)),
      element("dl", { class: "legend" }, line("ran", time(it.running)), line("runnable, without a processor", time(it.runnable)),
        line("in blocking sections", time(it.syscall)), line("starts", count(it.starts)),
        line("from runnable to running, half within", time(it.latency_p50)), line("99 % within", time(it.latency_p99)),
        line("at the end", it.ended ? "ended" : "alive")),
      table("What it waited for", ["reason", "time", "times"],
        it.waits.sort((a, b) => b[1] - a[1]).map(([reason, total, times]) => [reason || "–", [time(total), "number"], [count(times), "number"]])),
      element("p", {}, wait.nanoseconds > 0 ? `Its longest wait: ${time(wait.nanoseconds)}, ${wait.reason}, in` : "It has not waited."),
      stack(wait.stack));
    say(`${this.name(task.id)}: ran ${time(it.running)}`);
  }
}
