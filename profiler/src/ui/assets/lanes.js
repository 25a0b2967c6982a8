// The picture of a timeline: rows of processors, workers and tasks on a canvas, with arrows from who wakes to who is woken.
// Wheel and drag move and zoom; keys walk.

import { time } from "./format.js";

const ROW = 20;
const GAP = 26;
const LABEL = 190;
const TOP = 22;
const STATES = ["several states", "running", "runnable", "waiting", "blocking section"];

export class Lanes {
  constructor(canvas, on) {
    Object.assign(this, { canvas, on, rows: [], at: null, drag: null });
    this.ended = new AbortController();
    const listen = (name, action, more = {}) => canvas.addEventListener(name, action, { signal: this.ended.signal, ...more });
    listen("click", (event) => this.click(event));
    listen("mousemove", (event) => this.hover(event));
    listen("mousedown", (event) => { this.drag = { x: event.offsetX, moved: false }; });
    listen("mouseup", (event) => this.drop(event));
    listen("wheel", (event) => this.wheel(event), { passive: false });
    listen("keydown", (event) => this.key(event));
    this.watcher = new ResizeObserver(() => this.paint());
    this.watcher.observe(canvas.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint(), { signal: this.ended.signal });
  }

  close() { this.ended.abort(); this.watcher.disconnect(); }
  columns() { return Math.max(100, Math.min(4000, this.canvas.parentElement.clientWidth - LABEL)); }

  draw(data, name, chosen) {
    Object.assign(this, { data, name, chosen });
    const lanes = (kind, rows) => rows.map((row) => ({ kind, id: row.id, bars: row.bars, label: `${kind} ${row.id}` }));
    const tasks = data.tasks.map((task) => ({ kind: "task", id: task.id, bars: task.bars, label: name(task.id) }));
    this.groups = [["Processors", lanes("processor", data.processors)], ["Workers", lanes("thread", data.workers)], ["Tasks", tasks]];
    this.rows = [];
    let y = TOP;
    for (const [title, rows] of this.groups) {
      this.rows.push({ title, y, bars: [] });
      y += GAP;
      for (const row of rows) { row.y = y; y += ROW; this.rows.push(row); }
    }
    this.height = y + 6;
    this.at = null;
    this.paint();
  }

  x(at) {
    const { from, to } = this.data;
    return LABEL + (at - from) / (to - from) * (this.width - LABEL);
  }

  timeAt(x) {
    const { from, to } = this.data;
    return from + (x - LABEL) / (this.width - LABEL) * (to - from);
  }

  paint() {
    if (!this.data) return;
    const scale = devicePixelRatio;
    this.width = this.canvas.parentElement.clientWidth;
    this.canvas.width = this.width * scale;
    this.canvas.height = this.height * scale;
    // Through the object model, which the policy allows, unlike an attribute.
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = `${this.height}px`;
    const pen = this.canvas.getContext("2d");
    const colours = getComputedStyle(this.canvas);
    const colour = (key) => colours.getPropertyValue(`--${key}`).trim();
    pen.scale(scale, scale);
    pen.clearRect(0, 0, this.width, this.height);
    pen.font = "12px ui-monospace, monospace";
    pen.textBaseline = "middle";
    this.axis(pen, colour);
    for (const row of this.rows) {
      pen.fillStyle = colour(row.title ? "soft" : "text");
      const label = row.title ?? row.label;
      pen.fillText(label.length > 25 ? `${label.slice(0, 14)}…${label.slice(-10)}` : label, 4, row.y + (row.title ? GAP / 2 : ROW / 2));
      for (const bar of row.bars) {
        const [x, wide] = [this.x(bar[0]), Math.max(0.6, this.x(bar[0] + bar[1]) - this.x(bar[0]))];
        pen.fillStyle = this.fill(row, bar, colour);
        // Waiting is a line, so that what happens stands out.
        const thin = row.kind === "task" && bar[2] === 3;
        pen.fillRect(x, row.y + (thin ? ROW / 2 - 2 : 2), wide, thin ? 4 : ROW - 4);
        if (row.kind !== "task" && wide > 60 && bar[2] !== 0) {
          pen.fillStyle = "#111";
          pen.fillText(this.name(bar[2]).slice(0, Math.floor(wide / 7.4)), x + 3, row.y + ROW / 2);
        }
      }
    }
    this.arrows(pen, colour);
    if (this.at) {
      const bar = this.at.row.bars[this.at.index];
      pen.strokeStyle = colour("text");
      pen.lineWidth = 2;
      pen.strokeRect(this.x(bar[0]) - 1, this.at.row.y + 1, Math.max(3, this.x(bar[0] + bar[1]) - this.x(bar[0])) + 2, ROW - 2);
    }
  }

  // A task has one colour in all rows, by its number.
  fill(row, bar, colour) {
    if (row.kind === "task") return colour(["state-many", "state-running", "state-runnable", "state-waiting", "state-blocking"][bar[2]] ?? "soft");
    if (bar[2] === 0) return colour("state-many");
    if (this.chosen !== null && bar[2] === this.chosen) return colour("found");
    return `hsl(${(bar[2] * 67) % 360} 55% 68%)`;
  }

  axis(pen, colour) {
    const { from, to } = this.data;
    const wanted = (to - from) / Math.max(2, (this.width - LABEL) / 120);
    const power = 10 ** Math.floor(Math.log10(wanted));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((it) => it >= wanted);
    for (let at = Math.ceil(from / step) * step; at < to; at += step) {
      const x = this.x(at);
      pen.fillStyle = colour("line");
      pen.fillRect(x, TOP - 6, 1, this.height);
      pen.fillStyle = colour("soft");
      pen.fillText(time(at), x + 3, TOP / 2);
    }
  }

  // Of the chosen task in all rows; of the others between processors, as long as they are few enough to be told apart.
  arrows(pen, colour) {
    const place = new Map(this.rows.filter((row) => row.kind).map((row) => [`${row.kind} ${row.id}`, row.y]));
    const chosen = this.chosen;
    const few = this.data.arrows.length + this.data.arrows_left_out <= (this.width - LABEL) / 8;
    this.shown = 0;
    for (const [at, by, task, ran, from, to] of this.data.arrows) {
      const mine = chosen !== null && (by === chosen || task === chosen);
      if (!mine && (!few || chosen !== null)) continue;
      const ends = mine && place.has(`task ${task}`) ? [place.get(`task ${by}`) ?? place.get(`processor ${from}`), place.get(`task ${task}`)]
        : [place.get(`processor ${from}`), place.get(`processor ${to}`)];
      if (ends.some((y) => y === undefined)) continue;
      this.shown += 1;
      this.arrow(pen, this.x(at), ends[0] + ROW / 2, this.x(ran), ends[1] + ROW / 2, colour(mine ? "text" : "arrow"));
    }
  }

  arrow(pen, x, y, x2, y2, stroke) {
    if (Math.max(x, x2) < LABEL) return;
    x = Math.max(x, LABEL);
    const angle = Math.atan2(y2 - y, x2 - x);
    pen.strokeStyle = stroke;
    pen.fillStyle = stroke;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(x2, y2);
    pen.stroke();
    pen.beginPath();
    pen.moveTo(x2, y2);
    for (const turn of [-0.4, 0.4]) pen.lineTo(x2 - 7 * Math.cos(angle + turn), y2 - 7 * Math.sin(angle + turn));
    pen.fill();
  }

  find(x, y) {
    const row = this.rows.find((it) => it.kind && y >= it.y && y < it.y + ROW);
    if (!row) return null;
    const at = this.timeAt(x);
    const near = 2 / (this.width - LABEL) * (this.data.to - this.data.from);
    const index = row.bars.findIndex((bar) => at >= bar[0] - near && at <= bar[0] + bar[1] + near);
    return { row, index };
  }

  text({ row, index }) {
    const bar = row.bars[index];
    if (!bar) return row.label;
    const [start, length, what, times, reason] = bar;
    const doing = row.kind === "task" ? [STATES[what], this.data.reasons[reason]].filter(Boolean).join(", ") : this.name(what);
    return `${row.label}: ${doing}, ${time(length)} from ${time(start)}${times > 1 ? `, ${times} stretches` : ""}`;
  }

  task({ row, index }) {
    return row.kind === "task" ? row.id : row.bars[index]?.[2] || null;
  }

  click(event) {
    if (this.drag?.moved) { this.drag = null; return; }
    this.drag = null;
    const found = this.data && this.find(event.offsetX, event.offsetY);
    const id = found && this.task(found);
    if (id) this.on.choose(id);
  }

  hover(event) {
    if (!this.data) return;
    if (this.drag && Math.abs(event.offsetX - this.drag.x) > 4) this.drag.moved = true;
    const found = this.find(event.offsetX, event.offsetY);
    if (found) this.on.detail(this.text(found));
  }

  drop(event) {
    if (!this.drag?.moved) return;
    const shift = this.timeAt(this.drag.x) - this.timeAt(event.offsetX);
    this.on.window(this.data.from + shift, this.data.to + shift).catch(() => {});
  }

  // Scrolls as far as is needed to see a row.
  reveal(row) {
    const box = this.canvas.parentElement;
    box.scrollTop = Math.min(Math.max(box.scrollTop, row.y + 2 * ROW - box.clientHeight), Math.max(0, row.y - GAP));
  }

  // With Ctrl, so that the page can still be scrolled.
  wheel(event) {
    if (!this.data || !event.ctrlKey) return;
    event.preventDefault();
    const { from, to } = this.data;
    const [at, factor] = [this.timeAt(event.offsetX), event.deltaY > 0 ? 1.5 : 1 / 1.5];
    clearTimeout(this.later);
    this.later = setTimeout(() => this.on.window(at - (at - from) * factor, at + (to - at) * factor).catch(() => {}), 120);
  }

  key(event) {
    if (!this.data) return;
    const rows = this.rows.filter((row) => row.bars.length > 0);
    if (rows.length === 0) return;
    const { row, index } = this.at ?? { row: rows[0], index: -1 };
    const beside = (step) => {
      const other = rows[Math.max(0, Math.min(rows.length - 1, rows.indexOf(row) + step))];
      const middle = row.bars[Math.max(0, index)][0];
      const place = other.bars.findIndex((bar) => bar[0] + bar[1] >= middle);
      return { row: other, index: place < 0 ? other.bars.length - 1 : place };
    };
    const { from, to } = this.data;
    const zoom = (factor) => {
      const bar = this.at?.row.bars[this.at.index];
      const [middle, half] = [bar ? bar[0] + bar[1] / 2 : (from + to) / 2, (to - from) * factor / 2];
      this.on.window(middle - half, middle + half).catch(() => {});
    };
    const moves = {
      ArrowRight: () => ({ row, index: Math.min(row.bars.length - 1, index + 1) }),
      ArrowLeft: () => ({ row, index: Math.max(0, index - 1) }),
      ArrowDown: () => beside(1), ArrowUp: () => beside(-1),
      Home: () => ({ row, index: 0 }), End: () => ({ row, index: row.bars.length - 1 }),
    };
    if (moves[event.key]) {
      this.at = moves[event.key]();
      this.on.detail(this.text(this.at));
      this.reveal(this.at.row);
      this.paint();
    } else if (event.key === "Enter" && this.at) {
      const id = this.task(this.at);
      if (id) this.on.choose(id);
    } else if (event.key === "+") zoom(0.5);
    else if (event.key === "-") zoom(2);
    else return;
    event.preventDefault();
  }
}
