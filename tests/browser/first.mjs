// Opens an address that asks for a capture, as a demo prints it, and waits for the frames of its flame graph.
//
//     node first.mjs '{"chromium": PATH, "packages": FOLDER, "address": "http://127.0.0.1:6060", "url": URL, "hot": FUNCTION}'
//
// Prints, as JSON: from here until there was a browser, and until there were frames, in milliseconds, and how many frames those are.

import assert from "node:assert/strict";

import { Browser } from "./browser.mjs";

const began = Date.now();
const wanted = JSON.parse(process.argv[2]);
const browser = await Browser.start(wanted);
const opened = Date.now();
try {
  const { page } = browser;
  await page.goto(wanted.url);
  await page.waitForSelector("#graph g");
  const drawn = Date.now();
  const frames = await page.locator("#graph g").evaluateAll((all) => all.map((it) => it.getAttribute("aria-label")));
  assert.ok(frames.some((it) => it.includes(wanted.hot)), `${wanted.hot} is not among ${frames.join("\n")}`);
  await browser.end();
  console.log(JSON.stringify({ browser: opened - began, frames: drawn - began, count: frames.length }));
} catch (error) {
  console.error(error.message, browser.wrong);
  process.exitCode = 1;
} finally {
  await browser.close();
}
