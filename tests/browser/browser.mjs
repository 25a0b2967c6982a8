// A browser to test pages with: Chromium without a window, driven by playwright-core, which `.ci/run` installs into target/browser. It
// watches what no page of ours may do: errors in the console, and requests to another host.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

// How long anything may take.
const PATIENCE = 60_000;

// Chromium itself is not to ask anybody either.
const FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--hide-scrollbars"];

export class Browser {
  static async start({ chromium, packages, address, images }) {
    const { chromium: engine } = createRequire(join(packages, "package.json"))("playwright-core");
    const it = Object.assign(new Browser(), { address, images, wrong: [], elsewhere: [] });
    it.browser = await engine.launch({ executablePath: chromium, headless: true, chromiumSandbox: false, args: FLAGS });
    const context = await it.browser.newContext({ viewport: { width: 1280, height: 1000 }, colorScheme: "light" });
    context.setDefaultTimeout(PATIENCE);
    it.page = await context.newPage();
    it.page.on("console", (message) => { if (message.type() === "error") it.wrong.push(message.text()); });
    it.page.on("pageerror", (error) => it.wrong.push(error.message));
    context.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      if (protocol.startsWith("http") && origin !== address) it.elsewhere.push(request.url());
    });
    return it;
  }

  // A picture in both colour schemes: of the page, or of one element of it.
  async picture(name, locator) {
    if (!this.images) return;
    if (!locator) await this.page.evaluate(() => scrollTo(0, 0));
    for (const colorScheme of ["light", "dark"]) {
      await this.page.emulateMedia({ colorScheme });
      await (locator ?? this.page).screenshot({ path: join(this.images, `page-${name}-${colorScheme}.png`) });
    }
    await this.page.emulateMedia({ colorScheme: "light" });
  }

  // Everything that can be used has a name for who does not see it.
  async hasNames() {
    const nameless = await this.page.evaluate(() => [...document.querySelectorAll("main button, main input, main select, main canvas, main progress")]
      .filter((it) => !(it.textContent.trim() || it.getAttribute("aria-label") || it.labels?.length)).map((it) => it.outerHTML));
    assert.deepEqual(nameless, [], "elements without a name");
  }

  async end() {
    assert.deepEqual(this.elsewhere, [], "asked elsewhere");
    assert.deepEqual(this.wrong, [], "errors in the console");
  }

  close() { return this.browser.close(); }
}
