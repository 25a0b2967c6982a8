// Who waits for whom: tasks on the left, what they wait for on the right. Full arrows lead to what a task waits for, dashed ones from
// there to who could wake it; a circle of arrows is a deadlock. The same in sentences, for who does not see the picture.

import { drawn, element } from "./dom.js";

const WIDTH = 900;
const BOX = [330, 40];
const STEP = 64;

const isTask = (node) => node.kind === "task";
const title = (node) => isTask(node) ? `${node.name ?? "task"} (${node.id.replace("task ", "")})` : node.id;
const note = (node) => isTask(node) ? `${node.reason}${node.in_circle ? ", in a circle" : node.hostage ? ", only waits for the others" : ""}`
  : node.created_at ? `made at ${node.created_at}` : "";
const cut = (text) => text.length > 46 ? `…${text.slice(-45)}` : text;

export function graph(host, text, { nodes, edges }) {
  const columns = [nodes.filter(isTask), nodes.filter((node) => !isTask(node))];
  const place = new Map();
  columns.forEach((column, side) => column.forEach((node, index) => {
    place.set(node.id, { x: side === 0 ? 0 : WIDTH - BOX[0], y: index * STEP + 6, side });
  }));
  const height = Math.max(1, ...columns.map((column) => column.length)) * STEP;
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-labelledby": "waits-title" });
  svg.append(drawn("title", { id: "waits-title" }, `Who waits for whom: ${nodes.length} nodes, ${edges.length} arrows; in words below`));
  svg.append(drawn("defs", {}, drawn("marker", { id: "head", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto" },
    drawn("path", { d: "M0 0 L8 4 L0 8 z", class: "head" }))));
  for (const edge of edges) {
    const [from, to] = [place.get(edge.from), place.get(edge.to)];
    if (!from || !to) continue;
    const wakes = edge.kind !== "waits for";
    // Both directions of a pair leave and arrive at different heights.
    const [y, y2] = [from.y + (wakes ? 28 : 12), to.y + (wakes ? 28 : 12)];
    const line = from.side === to.side
      ? `M${BOX[0]} ${y} C${BOX[0] + 120} ${y} ${BOX[0] + 120} ${y2} ${BOX[0]} ${y2}`
      : `M${from.side === 0 ? BOX[0] : from.x} ${y} L${to.side === 0 ? BOX[0] : to.x} ${y2}`;
    svg.append(drawn("path", { d: line, class: wakes ? "wakes" : "waits", "marker-end": "url(#head)" }));
  }
  for (const node of nodes) {
    const { x, y } = place.get(node.id);
    svg.append(drawn("g", { class: node.in_circle ? "node circle" : "node" },
      drawn("rect", { x, y, width: BOX[0], height: BOX[1], rx: 6 }),
      drawn("text", { x: x + 10, y: y + 17 }, cut(title(node))), drawn("text", { x: x + 10, y: y + 33, class: "soft" }, cut(note(node)))));
  }
  host.replaceChildren(svg);
  const name = new Map(nodes.map((node) => [node.id, isTask(node) ? `task ${title(node)}` : title(node)]));
  // First what the tasks wait for.
  const sorted = [...edges].sort((a, b) => (a.kind === "waits for" ? 0 : 1) - (b.kind === "waits for" ? 0 : 1));
  text.replaceChildren(...sorted.map((edge) => element("li", {}, `${name.get(edge.from)} ${edge.kind} ${name.get(edge.to)}`)));
}
