// The page: which views there are, and which is shown. A view is a template with a script that starts it and gives what ends it.

import { ask, byId, element, say } from "./dom.js";
import * as flame from "./flame.js";
import * as leaks from "./leaks.js";
import * as live from "./live.js";
import * as trace from "./trace.js";

let end = () => {};
let turn = 0;

function views(kinds) {
  const has = (name) => [...kinds.profiles, ...kinds.captures].some((it) => it.name === name);
  return [
    ["live", "Live", live, true],
    ["profiles", "Profiles", flame, kinds.profiles.length + kinds.captures.length > 0],
    ["leaks", "Leaks", leaks, kinds.profiles.some((it) => it.name === leaks.NAME)],
    ["trace", "Trace", trace, has(trace.CAPTURE) || has(trace.RECORDER)],
  ].filter(([, , , exists]) => exists);
}

async function show(known) {
  const wanted = location.hash.slice(1);
  const [id, title, view] = known.find(([name]) => name === wanted) ?? known[0];
  turn += 1;
  const mine = turn;
  end();
  end = () => {};
  const main = byId("main");
  main.replaceChildren(byId(id).content.cloneNode(true));
  for (const link of byId("views").querySelectorAll("a")) {
    if (link.hash === `#${id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  say("");
  document.title = `${title} · ${byId("program").textContent}`;
  // Asked each time: profiles come and go, and rates change.
  const offered = await kinds();
  if (mine === turn) end = view.start(offered);
}

const kinds = async () => (await ask("kinds")).json();

try {
  const offered = await kinds();
  byId("program").textContent = `${offered.program} (${offered.process})`;
  const known = views(offered);
  byId("views").replaceChildren(...known.map(([id, title]) => element("li", {}, element("a", { href: `#${id}` }, title))),
    element("li", {}, element("a", { href: "../" }, "Index")));
  const change = () => {
    // The link that skips to the content is no view.
    if (location.hash === "#main") return;
    show(known).catch((error) => say(error.message, true));
  };
  addEventListener("hashchange", change);
  change();
} catch (error) {
  say(error.message, true);
}
