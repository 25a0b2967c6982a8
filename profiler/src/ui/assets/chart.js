// Small line charts. Each has a fixed number of points in a fixed number of elements, so a page that is open for days is as
// large as one that was just opened.

import { drawn, element } from "./dom.js";

const POINTS = 120;
const WIDTH = 240;
const HEIGHT = 84;

export class Chart {
  // `names` of at most three series, `format` for their values.
  constructor(title, names, format) {
    this.format = format;
    this.series = names.map(() => new Float64Array(POINTS).fill(NaN));
    this.lines = names.map((_, index) => drawn("path", { class: `series${index}` }));
    this.values = names.map(() => element("dd", {}, "–"));
    this.scale = element("span", { class: "scale" }, "");
    const legend = names.map((name, index) => element("div", {},
      drawn("svg", { class: "key", viewBox: "0 0 18 4", "aria-hidden": "true" },
        drawn("path", { class: `series${index}`, d: "M0 2H18" })),
      element("dt", {}, name), this.values[index]));
    this.note = element("p", { class: "note", hidden: true });
    this.figure = element("figure", {},
      element("figcaption", {}, title, this.scale),
      // The numbers below say what the picture does, for now; the past is for eyes.
      drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        drawn("path", { class: "axis", d: `M0 ${HEIGHT - 1}H${WIDTH}` }), ...this.lines),
      element("dl", { class: "legend" }, ...legend), this.note);
  }

  // One value for each series; NaN where nothing is known.
  add(values) {
    values.forEach((value, index) => {
      this.series[index].copyWithin(0, 1);
      this.series[index][POINTS - 1] = value;
      this.values[index].textContent = Number.isNaN(value) ? "–" : this.format(value);
    });
    let top = 0;
    for (const points of this.series) for (const value of points) if (value > top) top = value;
    this.scale.textContent = top > 0 ? `up to ${this.format(top)}` : "";
    this.lines.forEach((line, index) => line.setAttribute("d", path(this.series[index], top)));
  }

  remark(text) {
    this.note.hidden = text === "";
    if (this.note.textContent !== text) this.note.textContent = text;
  }
}

function path(points, top) {
  let text = "";
  let joined = false;
  points.forEach((value, index) => {
    if (Number.isNaN(value)) { joined = false; return; }
    const x = index * WIDTH / (POINTS - 1);
    const y = HEIGHT - 2 - (top > 0 ? value / top : 0) * (HEIGHT - 6);
    // A point by itself is a line to itself, which a line's ends make visible.
    text += joined ? `L${x.toFixed(1)} ${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}h.1`;
    joined = true;
  });
  return text;
}
