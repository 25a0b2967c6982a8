// Uses the page at /debug/pprof/ui/ as a person would, and says what is wrong with it.
//
//     node page.mjs '{"chromium": PATH, "packages": FOLDER, "address": "http://127.0.0.1:6060", ...}'
//
// | key | meaning |
// |---|---|
// | `hot`, `label` | the program is busy in this function, in tasks with this label (`tenant=acme`) and in others |
// | `task` | a task of this name runs all the time |
// | `leak` | a task of this name is leaked, in a circle of locks with another; only leaks are looked for then |
// | `images` | screenshots go into this folder |

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Browser } from "./browser.mjs";

const wanted = JSON.parse(process.argv[2]);
const browser = await Browser.start(wanted);
const { page } = browser;
const text = (selector) => page.locator(selector).textContent();
const view = async (name) => { await page.locator(`#views a[href="#${name}"]`).click(); };

async function live() {
  await page.waitForFunction(() => document.querySelectorAll("#charts figure").length >= 5);
  // Figures that need two looks are there after the second.
  await page.waitForFunction(() => [...document.querySelectorAll("#charts figure")].at(-1).querySelector("dd").textContent !== "–");
  const elements = () => page.evaluate(() => document.querySelectorAll("*").length);
  const many = await elements();
  await page.waitForTimeout(4000);
  assert.equal(await elements(), many, "the live view makes more and more elements");
  await browser.hasNames();
  await browser.picture("live");
}

async function capture(kind, seconds) {
  const before = await page.locator("#captures tbody tr").count();
  await page.selectOption("#kind", kind);
  if (seconds) await page.fill("#seconds", String(seconds));
  await page.click("#capture");
  if (seconds) await page.waitForSelector("#progress:not([hidden])");
  await page.waitForFunction((count) => document.querySelectorAll("#captures tbody tr").length > count
    && document.getElementById("status").textContent.startsWith("Drawn"), before);
}

const frames = () => page.locator("#graph g").evaluateAll((all) => all.map((it) => it.getAttribute("aria-label")));

async function profiles({ hot, label }) {
  await view("profiles");
  await page.waitForFunction(() => document.getElementById("kind")?.options.length > 0);
  await capture("profile", 2);
  const all = await frames();
  assert.ok(all.some((it) => it.includes(hot)), `${hot} is not among ${all.join("\n")}`);
  assert.ok((await text("#top")).includes(hot), "the table lacks the function");
  await browser.hasNames();
  await browser.picture("flame");

  await page.fill("#search", hot);
  assert.match(await text("#found"), /%/);
  assert.ok(await page.locator("#graph g.found").count() > 0, "nothing is marked");
  await page.fill("#search", "/(/");
  assert.match(await text("#found"), /no regular expression/);
  await page.fill("#search", "");

  // By keys: to the caller at the top, down, and zoom.
  await page.locator('#graph g[tabindex="0"]').focus();
  await page.keyboard.press("ArrowDown");
  const below = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  assert.notEqual(below, all[0]);
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#graph g.around").count(), 1, "zoomed to the second row");
  await page.keyboard.press("Escape");
  assert.equal((await frames()).length, all.length);

  const whole = await text("#summary");
  await page.fill("#label", label);
  await page.press("#label", "Enter");
  await page.waitForFunction((before) => document.getElementById("summary").textContent !== before, whole);
  assert.ok((await frames()).some((it) => it.includes(hot)));
  await browser.picture("label");
  await page.fill("#label", "");
  await page.press("#label", "Enter");
  await page.waitForFunction((before) => document.getElementById("summary").textContent === before, whole);

  const [file] = await Promise.all([page.waitForEvent("download"), page.locator("#captures button", { hasText: "Download" }).first().click()]);
  assert.match(file.suggestedFilename(), /\.pb\.gz$/);

  await capture("profile", 1);
  await page.selectOption("#before", { index: 1 });
  await page.waitForFunction(() => document.getElementById("summary").textContent.includes("Before: "));
  assert.ok((await frames()).some((it) => it.includes("change ")), "no frame says what changed");
  await browser.picture("difference");

  await capture("goroutine");
  await browser.picture("tasks");

  // An address that asks for a capture, as a demo prints it.
  await page.goto(`${wanted.address}/debug/pprof/ui/?capture=goroutine#profiles`);
  await page.waitForSelector("#graph g");
  await page.goto(`${wanted.address}/debug/pprof/ui/`);
}

async function trace({ task }) {
  await view("trace");
  await page.fill("#record input[type=number]", "0.5");
  await page.click("#record button[type=submit]");
  await page.waitForFunction(() => document.getElementById("trace-result").textContent.includes("go tool trace"));
  await page.waitForSelector("#task-sums button");
  const whole = await text("#window");
  assert.match(whole, /events/);
  await browser.hasNames();

  // A task, in the table and by keys.
  await page.locator("#task-sums button", { hasText: task }).first().click();
  assert.match(await text("#task-summary"), /99 % within/);
  assert.ok((await text("#task-summary h4")).includes(task));
  await page.locator("#task-sums button[aria-pressed=true]").click();
  assert.ok(await page.locator("#task-summary").isHidden(), "chosen again, it is no longer chosen");
  await page.locator("#lanes").focus();
  await page.keyboard.press("ArrowRight");
  const first = await text("#lane-detail");
  assert.match(first, /^processor \d+: /);
  await page.keyboard.press("ArrowRight");
  assert.notEqual(await text("#lane-detail"), first);
  for (let row = 0; row < 200 && !(await text("#lane-detail")).includes(`${task} (`); row += 1) await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#task-summary:not([hidden])");
  const open = (yes) => page.locator("#timeline details").evaluate((it, to) => { it.open = to; }, yes);
  await open(false);
  await browser.picture("timeline", page.locator("#timeline"));
  await open(true);

  // With the mouse: the first row under the processors' heading, in the middle.
  await page.locator("#task-sums button[aria-pressed=true]").click();
  const box = await page.locator("#lanes").boundingBox();
  let found = false;
  for (let x = 300; x < box.width && !found; x += 7) {
    await page.locator("#lanes").click({ position: { x, y: 22 + 26 + 10 } });
    found = await page.locator("#task-summary").isVisible();
  }
  assert.ok(found, "no click on a processor's row chose a task");

  await page.click("#zoom-in");
  await page.waitForFunction((before) => document.getElementById("window").textContent !== before, whole);
  assert.match(await text("#window"), / to .* of /);
  await browser.picture("timeline-zoomed", page.locator("#lanes").locator(".."));
  await page.click("#all-time");
  await page.waitForFunction((before) => document.getElementById("window").textContent === before, whole);

  // What was saved can be opened again; what is no trace is told.
  const [file] = await Promise.all([page.waitForEvent("download"), page.locator("#trace-result button").click()]);
  await page.setInputFiles("#trace-file", await file.path());
  await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Drawn"));
  await page.click("#record-perfetto");
  await page.waitForFunction(() => /Recorded for Perfetto|does not write traces for Perfetto/.test(document.getElementById("status").textContent));
  if ((await text("#status")) === "Recorded for Perfetto") assert.ok(await page.locator("#open-perfetto").isVisible());
  browser.wrong.length > 0 && console.error(browser.wrong);
  const none = join(tmpdir(), `greenprof-no-trace-${process.pid}`);
  writeFileSync(none, "no trace");
  await page.setInputFiles("#trace-file", none);
  await page.waitForFunction(() => document.getElementById("status").textContent.includes("this is no trace"));
  // The port's refusal of that file is the one error that the console may have.
  browser.wrong.splice(0, browser.wrong.length, ...browser.wrong.filter((it) => !it.includes("400 (Bad Request)")));
}

async function leaks({ leak }) {
  await view("leaks");
  await page.waitForFunction(() => document.getElementById("leak-text")?.textContent);
  if (await page.locator("#detect").isDisabled()) return browser.picture("leaks");
  await page.click("#detect");
  await page.waitForSelector("#leak-report:not([hidden])");
  await browser.hasNames();
  if (!leak) {
    assert.match(await text("#leak-verdict"), /^\d+ leaked, of \d+ tasks/);
    const why = page.locator("#blocked button").first();
    if (await why.count() > 0) {
      await why.click();
      await page.waitForSelector("#why:not([hidden])");
      assert.match(await text("#why"), /is alive, because of this chain|is a root itself|has no chain that keeps it alive/);
      await browser.picture("why", page.locator("#why"));
    }
    return undefined;
  }
  // Found, and explained: the groups, the circle, and the graph in words.
  assert.ok((await text("#leak-groups")).includes(leak), "the leak is not among the groups");
  assert.match(await text("#leak-circles"), /wait for locks of each other/);
  assert.ok(await page.locator("#waits .circle").count() >= 2, "the circle is not drawn");
  const words = await page.locator("#waits-text").evaluate((it) => it.textContent);
  assert.match(words, /waits for Mutex #\d+/);
  assert.match(words, /Mutex #\d+ could be woken by task/);
  await browser.picture("leaks");
  await page.check("#copy");
  await page.click("#detect");
  await page.waitForFunction(() => !document.getElementById("detect").disabled);
  assert.ok((await text("#leak-groups")).includes(leak), "the leak is not found in a copy");
  return undefined;
}

try {
  await page.goto(`${wanted.address}/debug/pprof/ui/`);
  await live();
  if (wanted.leak) await leaks(wanted);
  else {
    await profiles(wanted);
    await leaks(wanted);
    await trace(wanted);
  }
  await browser.end();
} catch (error) {
  console.error(error.message, browser.wrong, await page.locator("#status").textContent({ timeout: 1000 }).catch(() => "no page"));
  process.exitCode = 1;
} finally {
  await browser.close();
}
