// A browser to test pages with: Chromium without a window, driven over its pipe, without packages.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// How long anything may take.
const PATIENCE = 60_000;

export class Browser {
  static async start(program) {
    const it = new Browser();
    it.folder = mkdtempSync(join(tmpdir(), "greenprof-browser-"));
    it.process = spawn(program, ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
      "--disable-background-networking", "--remote-debugging-pipe", `--user-data-dir=${it.folder}`],
    { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    it.waiting = new Map();
    it.number = 0;
    it.rest = "";
    it.heard = () => {};
    it.process.stdio[4].setEncoding("utf8").on("data", (text) => it.read(text));
    it.process.on("exit", () => { for (const { reject } of it.waiting.values()) reject(new Error("the browser has ended")); });
    return it;
  }

  read(text) {
    const messages = (this.rest + text).split("\0");
    this.rest = messages.pop();
    for (const message of messages.map((it) => JSON.parse(it))) {
      const asked = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (!asked) this.heard(message.method, message.params);
      else if (message.error) asked.reject(new Error(message.error.message));
      else asked.resolve(message.result);
    }
  }

  send(method, params = {}) {
    this.number += 1;
    const id = this.number;
    this.process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: this.session })}\0`);
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  async open(address) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    this.session = (await this.send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    for (const domain of ["Page", "Runtime", "Network", "Log"]) await this.send(`${domain}.enable`);
    await this.send("Page.navigate", { url: address });
  }

  // The value of an expression in the page.
  async value(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate",
      { expression, awaitPromise: true, returnByValue: true, userGesture: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  // Waits until an expression is true.
  async until(expression) {
    const end = Date.now() + PATIENCE;
    while (!(await this.value(`Boolean(${expression})`))) {
      if (Date.now() > end) throw new Error(`never true: ${expression}; the page says: ${await this.value("document.body.innerText")}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async close() {
    this.process.removeAllListeners("exit");
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill();
    await ended;
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
