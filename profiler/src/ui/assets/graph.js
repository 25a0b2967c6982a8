// A flame graph from inferno's picture: the same frames and colours, with zoom, search and keys, and without scripts inside the
// picture, which the page's policy forbids. Only frames that can be seen are elements.

import { drawn } from "./dom.js";
import { percent, quantity } from "./format.js";

const ROW = 18;
const NARROWEST = 0.4;
const LETTER = 7.3;

// Frames of a picture, callers before callees.
export function frames(text) {
  // Only the frames are read: around them are the script and the style that a saved picture needs.
  const start = text.indexOf('<svg id="frames"');
  const inside = text.slice(start, text.indexOf("</svg>", start) + "</svg>".length);
  const whole = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:fg="frames">${inside}</svg>`;
  const picture = new DOMParser().parseFromString(whole, "image/svg+xml");
  if (picture.querySelector("parsererror")) throw new Error("the picture cannot be read");
  const found = [];
  for (const group of picture.querySelectorAll("#frames g")) {
    const rect = group.querySelector("rect");
    const title = group.querySelector("title")?.textContent ?? "";
    const cut = title.lastIndexOf(" (");
    found.push({
      name: title.slice(0, cut < 0 ? undefined : cut),
      change: /; ([+-]?[\d.,]+%)\)$/.exec(title)?.[1] ?? "",
      start: Number(rect.getAttribute("fg:x")),
      width: Number(rect.getAttribute("fg:w")),
      row: Number(rect.getAttribute("y")),
      fill: rect.getAttribute("fill"),
    });
  }
  const rows = [...new Set(found.map((frame) => frame.row))].sort((a, b) => a - b);
  for (const frame of found) frame.depth = rows.indexOf(frame.row);
  found.sort((a, b) => a.depth - b.depth || a.start - b.start);
  const last = [];
  for (const frame of found) {
    // Those of one row come from left to right, so the caller is the first of the row above that has not ended.
    const above = last[frame.depth - 1] ?? [];
    frame.parent = above.find((it) => it.start <= frame.start && frame.start + frame.width <= it.start + it.width) ?? null;
    (last[frame.depth] ??= []).push(frame);
  }
  return found;
}

// What fits: the whole, or the end of its path, which says more than its beginning, or as much of that as there is room for.
function shortened(name, letters) {
  if (name.length <= letters) return name;
  const end = /[^:]+(?:::\{\{closure\}\})*$/.exec(name)?.[0];
  const best = end === undefined || name.includes("<") ? name : end;
  return best.length <= letters ? best : `${best.slice(0, letters - 1)}…`;
}

export class Graph {
  constructor(host, unit, all, detail) {
    Object.assign(this, { host, unit, all, detail });
    this.total = all[0]?.width ?? 0;
    this.root = all[0] ?? null;
    this.pattern = null;
    this.current = this.root;
    this.nodes = new Map();
    this.svg = drawn("svg", { role: "group", "aria-label": "Flame graph" });
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.watcher = new ResizeObserver(() => this.draw());
    host.replaceChildren(this.svg);
    this.watcher.observe(host);
  }

  close() {
    this.watcher.disconnect();
    this.host.replaceChildren();
  }

  text(frame) {
    const change = frame.change === "" ? "" : `, change ${frame.change}`;
    return `${frame.name}: ${quantity(frame.width, this.unit)}, ${percent(frame.width, this.total)}${change}`;
  }

  zoom(frame) {
    this.root = frame;
    this.current = frame;
    this.draw();
    this.focus(frame);
  }

  // The share of the whole in functions that match, each stack counted once.
  search(pattern) {
    this.pattern = pattern;
    this.draw();
    if (pattern === null) return null;
    const inside = new Set();
    let sum = 0;
    for (const frame of this.all) {
      if (inside.has(frame.parent)) inside.add(frame);
      else if (pattern(frame.name)) { inside.add(frame); sum += frame.width; }
    }
    return sum;
  }

  draw() {
    const width = this.host.clientWidth;
    if (this.root === null || width === 0) return;
    const focused = this.svg.contains(document.activeElement);
    const { start, width: whole } = this.root;
    const unit = width / Math.max(1, whole);
    this.nodes.clear();
    let deepest = 0;
    const groups = [];
    for (const frame of this.all) {
      const from = Math.max(frame.start, start);
      const wide = (Math.min(frame.start + frame.width, start + whole) - from) * unit;
      const around = frame.depth < this.root.depth;
      if (wide < NARROWEST || (!around && (frame.start < start || frame.start + frame.width > start + whole))) continue;
      deepest = Math.max(deepest, frame.depth);
      const x = (from - start) * unit;
      const letters = Math.floor((wide - 6) / LETTER);
      const kinds = [around ? "around" : "", this.pattern?.(frame.name) ? "found" : ""].filter(Boolean).join(" ");
      const node = drawn("g", { role: "button", tabindex: -1, "aria-label": this.text(frame), class: kinds || null,
        onclick: () => this.zoom(frame), onfocus: () => { this.current = frame; this.detail(this.text(frame)); },
        onmouseenter: () => this.detail(this.text(frame)) },
      drawn("rect", { x: x.toFixed(2), y: frame.depth * ROW, width: wide.toFixed(2), height: ROW - 1, rx: 1, fill: frame.fill }));
      if (letters >= 3) {
        const name = shortened(frame.name, letters);
        node.append(drawn("text", { x: (x + 3).toFixed(2), y: frame.depth * ROW + 12.5, "aria-hidden": "true" }, name));
      }
      this.nodes.set(frame, node);
      groups.push(node);
    }
    const height = (deepest + 1) * ROW;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.svg.replaceChildren(...groups);
    if (!this.nodes.has(this.current)) this.current = this.root;
    this.nodes.get(this.current).setAttribute("tabindex", 0);
    if (focused) this.nodes.get(this.current).focus();
  }

  focus(frame) {
    const node = this.nodes.get(frame);
    if (!node) return;
    this.nodes.get(this.current)?.setAttribute("tabindex", -1);
    node.setAttribute("tabindex", 0);
    node.focus();
  }

  key(event) {
    const seen = (frame) => this.nodes.has(frame);
    const beside = (step) => {
      const row = this.all.filter((frame) => frame.depth === this.current.depth && seen(frame));
      return row[row.indexOf(this.current) + step];
    };
    const widest = () => this.all.filter((frame) => frame.parent === this.current && seen(frame))
      .reduce((best, frame) => best === null || frame.width > best.width ? frame : best, null);
    const moves = {
      ArrowUp: () => this.current.parent, ArrowDown: widest,
      ArrowLeft: () => beside(-1), ArrowRight: () => beside(1), Home: () => this.root,
    };
    if (event.key === "Enter" || event.key === " ") this.zoom(this.current);
    else if (event.key === "Escape") this.zoom(this.all[0]);
    else if (moves[event.key]) { const frame = moves[event.key](); if (frame) this.focus(frame); }
    else return;
    event.preventDefault();
  }
}
