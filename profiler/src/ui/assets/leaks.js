// The view of leaked tasks: groups with their stacks, the graph of who waits for whom, and for what is blocked but not leaked the chain
// that keeps it alive. Its profile is drawn like any other.

import { ask, byId, element, say, stack, table } from "./dom.js";
import { count, time } from "./format.js";
import { graph } from "./waits.js";

export const NAME = "goroutineleak";

// No list of the report is longer: more is not read, and a program may have leaked very many.
const LIMIT = 100;

// Numbers of tasks that a group tells.
const TASKS = 20;

function group(it) {
  const labels = Object.entries(it.labels).map(([key, value]) => `${key}=${value}`).join(" ");
  const who = [it.name ?? "tasks without a name", labels].filter(Boolean).join(", ");
  const hostages = it.hostages > 0 ? ` ${count(it.hostages)} only wait for other leaked tasks.` : "";
  const tasks = it.tasks.slice(0, TASKS);
  const more = it.count > tasks.length ? ` and ${count(it.count - tasks.length)} more` : "";
  return element("details", { open: true },
    element("summary", {}, `${count(it.count)} × ${it.wait_reason}: ${who}`),
    element("p", {}, `Spawned at ${it.spawned_at || "an unknown place"}; the longest wait is ${time(it.blocked_nanoseconds)}.${hostages} ` +
      `Tasks ${tasks.join(", ")}${more}.`),
    stack(it.stack));
}

async function why(task, box) {
  say(`Looking for what keeps task ${task} alive`);
  const found = await (await ask(`../why?format=json&task=${task}`)).json();
  box.replaceChildren(element("h4", {}, `Task ${task}`), element("p", {}, found.verdict),
    element("ol", { class: "chain" }, ...found.chain.map((link) => element("li", {}, link))));
  box.hidden = false;
  box.focus();
  say(found.live ? `Task ${task} is alive` : `Task ${task} is not alive`);
}

function show(found) {
  const { counts, cost } = found;
  const verdict = found.complete ? `${count(counts.leaked)} leaked, of ${count(counts.tasks)} tasks, ${count(counts.blocked)} of them blocked.`
    : `Nothing is reported, as the look was not complete: ${found.incomplete}. ${count(counts.candidates)} candidates:`;
  const copied = found.not_copied ? ` No copy was looked at: ${found.not_copied}.` : "";
  byId("leak-verdict").textContent = `${verdict} The program stood still for ${time(cost.stopped_nanoseconds)}.${copied}`;
  byId("leak-groups").replaceChildren(...found.groups.map(group));
  const circles = found.deadlocks.map(({ tasks }) => element("li", {}, `Tasks ${tasks.map((it) => it.task).join(", ")} wait for locks of each other.`));
  byId("leak-circles").replaceChildren(...circles);
  byId("leak-waits").hidden = found.graph.nodes.length === 0;
  const left = counts.leaked + counts.candidates - graph(byId("waits"), byId("waits-text"), found);
  byId("waits-rest").textContent = left > 0 ? `${count(left)} more tasks are not drawn.` : "";
  const box = byId("why");
  byId("blocked").replaceChildren(table("Blocked, and something live could wake them", ["task", "waits in", "for", "in", ""],
    found.blocked.map((it) => [`${it.name ?? "task"} (${it.id})`, it.wait_reason, [time(it.blocked_nanoseconds), "number"],
      [it.stack[0]?.function ?? "", "name"],
      element("button", { type: "button", onclick: () => why(it.id, box).catch((error) => say(error.message, true)) }, "Why alive?")])));
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
      element("a", { href: `../${NAME}?debug=2` }, "All tasks, with the leaked ones marked"), " ",
      element("a", { href: `../${NAME}?format=json` }, "For programs"));
  }
  byId("find-leaks").addEventListener("submit", async (event) => {
    event.preventDefault();
    byId("detect").disabled = true;
    byId("why").hidden = true;
    byId("leak-progress").hidden = false;
    say("Looking through the program's memory");
    try {
      const mode = byId("copy").checked ? "&mode=fork" : "";
      const found = await (await ask(`../${NAME}?format=json&limit=${LIMIT}${mode}`)).json();
      show(found);
      say(found.complete ? `${count(found.counts.leaked)} leaked tasks` : "The look was not complete");
    } catch (error) { say(error.message, true); }
    byId("leak-progress").hidden = true;
    byId("detect").disabled = false;
  });
  return () => {};
}
