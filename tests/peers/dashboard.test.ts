/**
 * The dashboard in Debian's Chromium, on a server with real VMs: create, watch the boot, type, pause, resume, stop,
 * delete, by mouse and by keyboard. axe-core looks at each view. Screenshots go to out/dashboard.
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";
const ROOT = join(import.meta.dirname, "../..");
const SHOTS = join(ROOT, "out/dashboard");
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** A boot of Debian on a busy host. */
const BOOT_MILLISECONDS = 120_000;
const STEP_MILLISECONDS = 30_000;
/** Chromium tries to reach its maker otherwise. */
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let state = "";
let server: ChildProcess;
let browser: Browser;
let page: Page;
/** What the page complained of. */
const complaints: string[] = [];

function isola(...args: string[]): ChildProcess {
  return spawn(process.execPath, [join(ROOT, "bin/isola.js"), ...args], { stdio: ["ignore", "pipe", "pipe"] });
}

/** The link that `isola up` prints. */
function link(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let told = "";
    const look = (chunk: Buffer): void => {
      told += chunk.toString();
      const found = /http:\/\/\S+#token=\S+/.exec(told);
      if (found !== null) resolve(found[0]);
    };
    child.stdout?.on("data", look);
    child.stderr?.on("data", look);
    child.once("exit", (status) => reject(new Error(`isola up ended with status ${status}: ${told}`)));
  });
}

before(async () => {
  accessSync(CHROMIUM);
  mkdirSync(SHOTS, { recursive: true });
  state = mkdtempSync(join(tmpdir(), "isola-dashboard-"));
  server = isola("up", "--no-demo", "--listen", "127.0.0.1:0", "--state", state);
  const address = await link(server);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  page = await browser.newPage({ viewport: { width: 1300, height: 950 } });
  page.setDefaultTimeout(STEP_MILLISECONDS);
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    // A refusal by the server is shown in the page; the browser lists it as well.
    if (message.type() === "error" && !message.text().includes("status of 4")) complaints.push(message.text());
  });
  await page.goto(address);
});

/** Runs a command of isola's to its end, however that is. */
const ended = (...args: string[]): Promise<unknown> =>
  once(isola(...args, "--server", `unix:${join(state, "isola.sock")}`), "exit");

after(async () => {
  await browser?.close();
  await ended("rm", "--force", "box", "bare");
  await ended("down");
  server?.kill();
  rmSync(state, { recursive: true, force: true, maxRetries: 5 });
});

/** Fails for each rule that the page as it is violates. */
async function accessible(name: string): Promise<void> {
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
  // Not by a script element: the page's own policy lets none in but the server's.
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as {
      axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> };
    };
    const { violations: found } = await axe.run();
    return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`);
  });
  assert.deepEqual(violations, [], name);
}

/** A step of one story: after one that failed the others only say so. */
let broken: string | undefined;
function step(name: string, run: () => Promise<void>): void {
  test(name, async () => {
    assert.equal(broken, undefined, "an earlier step failed");
    broken = name;
    try {
      await run();
    } catch (error) {
      await page.screenshot({ path: join(SHOTS, "failed.png") });
      throw error;
    }
    broken = undefined;
  });
}

const terminalHas = (text: string): Promise<unknown> =>
  page.waitForFunction(
    (wanted) => document.querySelector(".terminal .xterm")?.textContent?.includes(wanted) === true,
    text,
    { timeout: BOOT_MILLISECONDS },
  );
const badge = (word: string): Promise<unknown> =>
  page.locator(".card .badge", { hasText: word }).waitFor({ timeout: BOOT_MILLISECONDS });
const detailButton = (name: string) => page.locator(".detail .actions button", { hasText: name });

step("the link signs in, and the token leaves the address bar", async () => {
  await page.locator(".host .allocation").first().waitFor();
  assert.equal(new URL(page.url()).hash, "");
  assert.equal(await page.locator(".card").count(), 0);
  await accessible("empty");
});

step("a VM that is too large is refused before it is made, and drawn as too much", async () => {
  await page.getByRole("button", { name: "New VM" }).click();
  await page.getByLabel("Name").fill("box");
  await page.getByLabel("Disk, MiB").fill("900000000");
  await page.locator(".slice-excess").waitFor();
  await page.locator(".dialog .problem").waitFor();
  await accessible("create-refused");
  await page.getByLabel("Disk, MiB").fill("64");
  await page.locator(".dialog .problem").waitFor({ state: "detached" });
  assert.equal(await page.locator(".slice-excess").count(), 0);
});

step("by keyboard alone: create, and the boot runs through the console", async () => {
  await page.getByLabel("RAM, MiB").fill("128");
  await page.getByLabel("Name").focus();
  await page.keyboard.press("Enter");
  await badge("running");
  await terminalHas("root@debian");
  await accessible("booted");
});

step("what is typed reaches the guest, and F6 leaves the terminal", async () => {
  await page.locator(".terminal textarea").focus();
  await page.keyboard.type("echo it is $((6 * 7)); ls /dev/vda\n", { delay: 10 });
  await terminalHas("it is 42");
  await terminalHas("/dev/vda");
  await page.keyboard.press("F6");
  assert.equal(await page.evaluate(() => document.activeElement?.className), "console-notice");
});

step("pause, resume, and what the plots show", async () => {
  await detailButton("Pause").click();
  await badge("paused");
  await detailButton("Resume").click();
  await badge("running");
  await page.getByRole("tab", { name: "Console" }).focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  await page.locator(".plot canvas").first().waitFor();
  await accessible("resources");
  await page.getByRole("tab", { name: "Settings" }).click();
  await page.getByLabel("CPU cap").fill("50");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  await page.locator(".card-spec", { hasText: "cap 50 %" }).waitFor();
  await accessible("settings");
});

step("a guest without a serial port is seen on its screen, and hears its keyboard", async () => {
  await ended("create", "memtest86+", "--name", "bare", "--memory", "32M", "--cap", "50", "--start");
  await page.locator(".card-name", { hasText: "bare" }).click();
  await page.getByRole("tab", { name: "Screen" }).click();
  await terminalHas("<F1> Configuration");
  await accessible("screen");
  await page.locator(".terminal textarea").focus();
  await page.keyboard.press("F1");
  await terminalHas("Settings:");
  await page.keyboard.press("F6");
  await ended("rm", "--force", "bare");
  await page.locator(".card", { hasText: "bare" }).waitFor({ state: "detached" });
  await page.locator(".card-name", { hasText: "box" }).click();
});

step("dark, and on a phone: nothing is wider than the page", async () => {
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 360, height: 740 });
  await page.getByRole("tab", { name: "Console" }).click();
  await terminalHas("root@debian");
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "no sideways scrolling");
  await accessible("phone-dark");
  await page.setViewportSize({ width: 1300, height: 950 });
  await page.emulateMedia({ colorScheme: "light" });
});

step("stop by the power button, then delete after a question", async () => {
  await detailButton("Stop").click();
  await badge("stopped");
  await detailButton("Delete").click();
  await page.getByRole("dialog").getByText("This cannot be undone").waitFor();
  await accessible("delete");
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.locator(".card").waitFor({ state: "detached" });
  assert.deepEqual(complaints, []);
});

step("a token that is not valid is told so", async () => {
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token").fill("isola_0_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator(".sign-in .problem").waitFor();
  await accessible("sign-in");
});
