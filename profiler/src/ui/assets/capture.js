// Captures, kept in the page: the files that the port gave, a bounded number of them.

import { ask } from "./dom.js";

const MOST = 12;

let number = 0;
const kept = [];

export const all = () => kept;
export const find = (id) => kept.find((it) => it.id === id) ?? null;

export function keep(name, kind, blob) {
  number += 1;
  const capture = { id: number, name, kind, blob, at: new Date(), file: `${name.replace(/[^\w.-]+/g, "-")}-${number}` };
  kept.push(capture);
  if (kept.length > MOST) kept.shift();
  return capture;
}

export function forget(id) {
  const index = kept.findIndex((it) => it.id === id);
  if (index >= 0) kept.splice(index, 1);
}

// Asks the port to record, and shows how far it is: the port is silent until the end, so that is by the clock.
export async function record(path, seconds, progress, signal) {
  const began = performance.now();
  const tick = () => {
    progress.value = seconds > 0 ? Math.min(1, (performance.now() - began) / 1000 / seconds) : 1;
  };
  progress.hidden = false;
  const timer = setInterval(tick, 200);
  tick();
  try {
    return await (await ask(path, { signal })).blob();
  } finally {
    clearInterval(timer);
    progress.hidden = true;
  }
}
