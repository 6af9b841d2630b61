/**
 * A person's terminal, made by script(1): its mode before and after isola must be the same, whatever way isola ends.
 * The virtual machine is the fake one of the command line's tests.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../src/cli/testing/main.ts", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "isola-terminal-"));
after(() => rmSync(directory, { recursive: true }));

interface Session {
  readonly screen: string;
  readonly status: number;
  /** What `stty -a` shows before, while the guest runs, and after. */
  readonly modes: { readonly before: string; readonly during: string; readonly after: string };
}

/** Runs isola on a terminal of its own; types `keys`, or sends `signal`, once the guest has said READY. */
async function session(guest: string, { keys, signal }: { keys?: string; signal?: NodeJS.Signals }): Promise<Session> {
  const at = (name: string): string => join(directory, name);
  writeFileSync(at("kernel"), guest);
  const script = [
    `cd '${directory}'; stty -a > before`,
    // In the background for its process id; without job control it may read the terminal all the same.
    `'${process.execPath}' '${MAIN}' run --kernel kernel < /dev/tty &`,
    "echo $! > pid; wait $!; echo $? > status",
    "stty -a > after",
  ];
  writeFileSync(at("session.sh"), script.join("\n"));
  const child = spawn("script", ["-qec", `sh '${at("session.sh")}'`, "/dev/null"], { stdio: "pipe" });
  let screen = "";
  let during = "";
  child.stdout.on("data", (chunk: Buffer) => {
    screen += chunk.toString();
    if (during !== "" || !screen.includes("READY")) return;
    const pid = Number(readFileSync(at("pid"), "utf8"));
    const stty = spawn("sh", ["-c", `stty -a < /proc/${pid}/fd/1 > '${at("during")}'`]);
    during = "asked";
    stty.on("exit", () => {
      if (keys !== undefined) child.stdin.write(keys);
      if (signal !== undefined) process.kill(pid, signal);
    });
  });
  await once(child, "close");
  assert.ok(screen.includes("READY"), screen);
  const read = (name: string): string => readFileSync(at(name), "utf8");
  return {
    screen,
    status: Number(read("status")),
    modes: { before: read("before"), during: read("during"), after: read("after") },
  };
}

const SIGTERM_STATUS = 128 + 15;

test("the terminal is transparent while the guest runs, and as before after Ctrl-A x", async () => {
  const { screen, status, modes } = await session("print:READY echo", { keys: "ab\x03\x1a\x01hc\x01x" });
  assert.equal(status, 0);
  assert.match(modes.before, / icanon/);
  assert.match(modes.during, /-icanon/);
  assert.match(modes.during, /-opost/);
  assert.match(modes.during, /-echo /);
  assert.match(modes.during, /-isig/);
  assert.equal(modes.after, modes.before);
  assert.match(screen, /Ctrl-A x leaves.*Ctrl-A Ctrl-A {2}send Ctrl-A/s);
});

test("a guest that powers off, a signal and a bug leave the terminal as it was", async () => {
  const ends = [
    await session("print:READY echo", { keys: "\x04" }),
    await session("print:READY forever", { signal: "SIGTERM" }),
    await session("print:READY echo throw", { keys: "\x04" }),
    await session("print:READY stuck", { keys: "\x01x" }),
  ];
  assert.deepEqual(
    ends.map(({ status }) => status),
    [0, SIGTERM_STATUS, 1, 5],
  );
  for (const { modes } of ends) {
    assert.match(modes.during, /-icanon/);
    assert.equal(modes.after, modes.before);
  }
});
