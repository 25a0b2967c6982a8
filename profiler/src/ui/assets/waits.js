// Who waits for whom: tasks on the left, what they wait for on the right. Full arrows lead to what a task waits for, dashed ones from
// there to who could wake it; a circle of arrows is a deadlock. The same in sentences, for who does not see the picture.

import { drawn, element } from "./dom.js";

const WIDTH = 900;
const BOX = [330, 40];
const STEP = 64;

// Tasks that are drawn: more cannot be read.
const DRAWN = 24;

const cut = (text) => text.length > 46 ? `…${text.slice(-45)}` : text;

// The part of a report's graph that is drawn: the first tasks, which tell most, and what they wait for.
function part({ leaked, candidates, primitives, deadlocks, graph: whole }) {
  const circle = new Set(deadlocks.flatMap((it) => it.tasks.map(({ task }) => task)));
  const tasks = new Map([...leaked, ...candidates].slice(0, DRAWN).map((it) => [it.id, it]));
  const waited = new Set([...tasks.values()].flatMap((it) => it.waits_on.map((on) => on.primitive)));
  const things = new Map(primitives.filter((it) => waited.has(it.number)).map((it) => [it.number, it]));
  const nodes = [];
  for (const { id, task, primitive } of whole.nodes) {
    const [who, what] = [tasks.get(task), things.get(primitive)];
    if (who) {
      const inCircle = circle.has(task);
      const more = inCircle ? ", in a circle" : who.hostage ? ", only waits for the others" : "";
      nodes.push({ id, isTask: true, inCircle, title: `${who.name ?? "task"} (${task})`, note: `${who.wait_reason}${more}` });
    } else if (what) nodes.push({ id, isTask: false, title: `${what.kind} #${primitive}`, note: what.created_at && `made at ${what.created_at}` });
  }
  const there = new Set(nodes.map((node) => node.id));
  return { nodes, edges: whole.edges.filter((edge) => there.has(edge.from) && there.has(edge.to)), tasks: tasks.size };
}

// Draws it, and gives the number of tasks that are drawn.
export function graph(host, text, report) {
  const { nodes, edges, tasks } = part(report);
  const columns = [nodes.filter((node) => node.isTask), nodes.filter((node) => !node.isTask)];
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
    const wakes = edge.relation !== "waits for";
    // Both directions of a pair leave and arrive at different heights.
    const [y, y2] = [from.y + (wakes ? 28 : 12), to.y + (wakes ? 28 : 12)];
    const line = from.side === to.side
      ? `M${BOX[0]} ${y} C${BOX[0] + 120} ${y} ${BOX[0] + 120} ${y2} ${BOX[0]} ${y2}`
      : `M${from.side === 0 ? BOX[0] : from.x} ${y} L${to.side === 0 ? BOX[0] : to.x} ${y2}`;
    svg.append(drawn("path", { d: line, class: wakes ? "wakes" : "waits", "marker-end": "url(#head)" }));
  }
  for (const node of nodes) {
    const { x, y } = place.get(node.id);
    svg.append(drawn("g", { class: node.inCircle ? "node circle" : "node" },
      drawn("rect", { x, y, width: BOX[0], height: BOX[1], rx: 6 }),
      drawn("text", { x: x + 10, y: y + 17 }, cut(node.title)), drawn("text", { x: x + 10, y: y + 33, class: "soft" }, cut(node.note))));
  }
  host.replaceChildren(svg);
  const name = new Map(nodes.map((node) => [node.id, node.isTask ? `task ${node.title}` : node.title]));
  // First what the tasks wait for.
  const sorted = [...edges].sort((a, b) => (a.relation === "waits for" ? 0 : 1) - (b.relation === "waits for" ? 0 : 1));
  text.replaceChildren(...sorted.map((edge) => element("li", {}, `${name.get(edge.from)} ${edge.relation} ${name.get(edge.to)}`)));
  return tasks;
}
