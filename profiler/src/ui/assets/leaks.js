// The view of leaked tasks: groups with their stacks, the graph of who waits for whom, and for what is blocked but not leaked the chain
// that keeps it alive. Its profile is drawn like any other.

import { ask, byId, element, say, stack, table } from "./dom.js";
import { count, time } from "./format.js";
import { graph } from "./waits.js";

export const NAME = "goroutineleak";

function group(it) {
  const labels = Object.entries(it.labels).map(([key, value]) => `${key}=${value}`).join(" ");
  const who = [it.name ?? "tasks without a name", labels].filter(Boolean).join(", ");
  const hostages = it.hostages > 0 ? ` ${count(it.hostages)} only wait for other leaked tasks.` : "";
  const more = it.count > it.tasks.length ? ` and ${count(it.count - it.tasks.length)} more` : "";
  return element("details", { open: true },
    element("summary", {}, `${count(it.count)} × ${it.reason}: ${who}`),
    element("p", {}, `Spawned at ${it.spawned_at ?? "an unknown place"}; the longest wait is ${time(it.longest_wait_nanoseconds)}.${hostages} ` +
      `Tasks ${it.tasks.join(", ")}${more}.`),
    stack(it.stack));
}

async function why(task, box) {
  say(`Looking for what keeps task ${task} alive`);
  const found = await (await ask(`why?task=${task}`)).json();
  box.replaceChildren(element("h4", {}, `Task ${task}`), element("p", {}, found.verdict),
    element("ol", { class: "chain" }, ...found.chain.map((link) => element("li", {}, link))));
  box.hidden = false;
  box.focus();
  say(found.alive ? `Task ${task} is alive` : `Task ${task} is not alive`);
}

function show(found) {
  const { counts, cost } = found;
  const candidates = found.groups.reduce((sum, it) => sum + it.count, 0);
  const verdict = found.incomplete ? `Nothing is reported, as the look was not complete: ${found.incomplete}. ${count(candidates)} candidates:`
    : `${count(found.leaked)} leaked, of ${count(counts.tasks)} tasks, ${count(counts.blocked)} of them blocked.`;
  byId("leak-verdict").textContent = `${verdict} The program stood still for ${time(cost.stopped_nanoseconds)}.`;
  byId("leak-groups").replaceChildren(...found.groups.map(group));
  const circles = found.deadlocks.map((circle) => element("li", {}, `Tasks ${circle.map((it) => it.task).join(", ")} wait for locks of each other.`));
  byId("leak-circles").replaceChildren(...circles);
  byId("leak-waits").hidden = found.graph.nodes.length === 0;
  graph(byId("waits"), byId("waits-text"), found.graph);
  byId("waits-rest").textContent = found.graph_left_out > 0 ? `${count(found.graph_left_out)} more tasks are not drawn.` : "";
  const box = byId("why");
  byId("blocked").replaceChildren(table("Blocked, and something live could wake them", ["task", "waits in", "for", "in", ""],
    found.blocked.map((it) => [`${it.name ?? "task"} (${it.task})`, it.reason, [time(it.waited_nanoseconds), "number"],
      [it.stack[0]?.function ?? "", "name"],
      element("button", { type: "button", onclick: () => why(it.task, box).catch((error) => say(error.message, true)) }, "Why alive?")])));
  byId("leak-report").hidden = false;
}

export function start(kinds) {
  const kind = kinds.profiles.find((it) => it.name === NAME);
  const unavailable = Boolean(kind.unavailable);
  byId("leak-text").textContent = kind.unavailable ?? kind.description;
  byId("detect").disabled = unavailable;
  byId("copy").disabled = unavailable;
  if (!unavailable) {
    byId("leak-links").append(element("a", { href: `../${NAME}`, download: "" }, "Download for go tool pprof"), " ",
      element("a", { href: `../${NAME}?debug=1` }, "As text"), " ",
      element("a", { href: `../${NAME}?debug=2` }, "All tasks, with the leaked ones marked"));
  }
  byId("find-leaks").addEventListener("submit", async (event) => {
    event.preventDefault();
    byId("detect").disabled = true;
    byId("why").hidden = true;
    byId("leak-progress").hidden = false;
    say("Looking through the program's memory");
    try {
      const found = await (await ask(byId("copy").checked ? "leaks?mode=fork" : "leaks")).json();
      show(found);
      say(found.incomplete ? "The look was not complete" : `${count(found.leaked)} leaked tasks`);
    } catch (error) { say(error.message, true); }
    byId("leak-progress").hidden = true;
    byId("detect").disabled = false;
  });
  return () => {};
}
