// Uses the page at /debug/pprof/ui/ as a person would, and says what is wrong with it.
//
//     node page.mjs CHROMIUM ADDRESS FUNCTION LABEL [FOLDER]
//
// The program at ADDRESS (http://127.0.0.1:6060) must be busy in FUNCTION, in tasks with LABEL (tenant=acme) and in others.
// Screenshots go into FOLDER.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { Browser } from "./browser.mjs";

const [program, address, hot, label, folder] = process.argv.slice(2);
const browser = await Browser.start(program);
const wrong = [];
const asked = new Set();

browser.heard = (method, params) => {
  if (method === "Runtime.exceptionThrown") wrong.push(params.exceptionDetails.exception?.description ?? "an exception");
  if (method === "Runtime.consoleAPICalled" && params.type === "error") wrong.push(JSON.stringify(params.args));
  if (method === "Log.entryAdded" && params.entry.level === "error") wrong.push(params.entry.text);
  if (method === "Network.requestWillBeSent") asked.add(new URL(params.request.url));
};

const click = (id) => browser.value(`document.getElementById(${JSON.stringify(id)}).click()`);
const choose = (id, value) => browser.value(`{ const it = document.getElementById(${JSON.stringify(id)});
  it.value = ${JSON.stringify(value)}; it.dispatchEvent(new Event("input")); it.dispatchEvent(new Event("change")); }`);
const text = (id) => browser.value(`document.getElementById(${JSON.stringify(id)}).textContent`);

async function picture(name) {
  if (!folder) return;
  for (const scheme of ["light", "dark"]) {
    await browser.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    const { data } = await browser.send("Page.captureScreenshot", { format: "png" });
    writeFileSync(join(folder, `${name}-${scheme}.png`), Buffer.from(data, "base64"));
  }
}

async function capture(kind, seconds) {
  const before = await browser.value("document.querySelectorAll('#captures tbody tr').length");
  await choose("kind", kind);
  if (seconds) await choose("seconds", seconds);
  await click("capture");
  await browser.until(`document.querySelectorAll('#captures tbody tr').length > ${before}
    && document.getElementById('status').textContent.startsWith('Drawn')`);
}

try {
  await browser.open("about:blank");
  await browser.send("Emulation.setDeviceMetricsOverride", { width: 1280, height: 1000, deviceScaleFactor: 1, mobile: false });
  await browser.send("Page.navigate", { url: `${address}/debug/pprof/ui/` });

  await browser.until("document.querySelectorAll('#charts figure').length >= 5");
  // Figures that need two looks are there after the second.
  await browser.until("[...document.querySelectorAll('#charts figure')].at(-1).querySelector('dd').textContent !== '–'");
  const elements = "document.querySelectorAll('*').length";
  const many = await browser.value(elements);
  await new Promise((resolve) => setTimeout(resolve, 4000));
  assert.equal(await browser.value(elements), many, "the live view makes more and more elements");
  await picture("live");

  await browser.value("location.hash = '#profiles'");
  await browser.until("document.getElementById('kind')?.options.length > 0");
  await capture("profile", 2);
  const frames = () => browser.value("[...document.querySelectorAll('#graph g')].map((it) => it.getAttribute('aria-label'))");
  const all = await frames();
  assert.ok(all.some((it) => it.includes(hot)), `${hot} is not among ${all.join("\n")}`);
  assert.ok((await text("top")).includes(hot), "the table lacks the function");
  await picture("flame");

  await choose("search", hot);
  assert.match(await text("found"), /%/);
  assert.ok(await browser.value("document.querySelectorAll('#graph g.found').length > 0"), "nothing is marked");
  await choose("search", "/(/");
  assert.match(await text("found"), /no regular expression/);
  await choose("search", "");

  // By keys: to the caller at the top, down, and zoom.
  await browser.value("document.querySelector('#graph g[tabindex=\"0\"]').focus()");
  const key = (name) => browser.value(`document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "${name}", bubbles: true }))`);
  await key("ArrowDown");
  const below = await browser.value("document.activeElement.getAttribute('aria-label')");
  assert.notEqual(below, all[0]);
  await key("Enter");
  assert.equal(await browser.value("document.querySelectorAll('#graph g.around').length"), 1, "zoomed to the second row");
  await key("Escape");
  assert.equal((await frames()).length, all.length);

  const value = () => browser.value("document.getElementById('summary').textContent");
  const whole = await value();
  await choose("label", label);
  await browser.until(`document.getElementById('summary').textContent !== ${JSON.stringify(whole)}`);
  assert.ok((await frames()).some((it) => it.includes(hot)));
  await choose("label", "");
  await browser.until(`document.getElementById('summary').textContent === ${JSON.stringify(whole)}`);

  await capture("profile", 1);
  await browser.value("{ const it = document.getElementById('before'); it.value = it.options[1].value; it.dispatchEvent(new Event('change')); }");
  await browser.until("document.getElementById('summary').textContent.includes('Before: ')");
  assert.ok((await frames()).some((it) => it.includes("change ")), "no frame says what changed");
  await picture("difference");

  await capture("goroutine");
  await picture("tasks");

  // What has a view of its own, where the program has it.
  const has = (view) => browser.value(`document.querySelector('#views a[href="#${view}"]') !== null`);
  if (await has("leaks")) {
    await browser.value("location.hash = '#leaks'");
    await browser.until("document.getElementById('leak-text')?.textContent");
    if (!(await browser.value("document.getElementById('detect').disabled"))) {
      await click("detect");
      await browser.until("!document.getElementById('leak-report').hidden");
      assert.match(await text("leak-report"), /^goroutineleak profile: total \d+/);
    }
    await picture("leaks");
  }
  if (await has("trace")) {
    await browser.value("location.hash = '#trace'");
    await browser.until("document.querySelector('#record button[type=submit]')");
    await browser.value("document.querySelector('#record button[type=submit]').click()");
    await browser.until("document.getElementById('trace-result').textContent.includes('go tool trace')");
    await picture("trace");
  }

  assert.deepEqual([...asked].filter((it) => it.protocol === "http:" && it.origin !== address).map(String), [], "asked elsewhere");
  assert.deepEqual(wrong, [], "errors in the console");
} catch (error) {
  console.error(error.message, wrong);
  process.exitCode = 1;
} finally {
  await browser.close();
}
