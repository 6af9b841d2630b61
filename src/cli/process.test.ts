/** The command line as a process: pipes, signals, statuses; the virtual machine is a fake. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("testing/main.ts", import.meta.url));
const LAUNCHER = fileURLToPath(new URL("../../bin/isola.js", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "isola-process-"));
after(() => rmSync(directory, { recursive: true }));

let scripts = 0;
/** A fake kernel that does what `script` says (testing/fake-vm.ts). */
function kernel(script: string): string {
  scripts += 1;
  const path = join(directory, `kernel-${scripts}`);
  writeFileSync(path, script);
  return path;
}

function start(script: string, ...flags: string[]): ChildProcess {
  return spawn(process.execPath, [MAIN, "run", "--kernel", kernel(script), ...flags], { stdio: "pipe" });
}

interface Ended {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

async function end(child: ChildProcess): Promise<Ended> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
  const [status, signal] = (await once(child, "close")) as [number | null, string | null];
  return { status, signal, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}

test("a pipe's input reaches the guest whole, though it reads slowly, and comes back whole", async () => {
  // No EOT (4) inside: it ends the fake guest.
  const input = Buffer.from(Array.from({ length: 300_000 }, (_, index) => 5 + ((index * 7) % 251)));
  const child = start("echo print:done");
  child.stdin?.end(Buffer.concat([input, Buffer.from([4])]));
  const { status, stdout, stderr } = await end(child);
  assert.equal(stderr, "");
  assert.equal(status, 0);
  assert.ok(stdout.equals(Buffer.concat([input, Buffer.from("done")])));
});

test("the end of stdin is not the end of the guest", async () => {
  const child = start("print:up forever");
  child.stdin?.end();
  const ended = end(child);
  await once(child.stdout ?? child, "data");
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(child.exitCode, null);
  child.kill("SIGTERM");
  assert.equal((await ended).signal, "SIGTERM");
});

test("a slow reader gets every byte", async () => {
  const count = 2_000_000;
  const child = start(`flood:${count}`);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const { status, stdout } = await end(child);
  assert.equal(status, 0);
  assert.equal(stdout.length, count);
  assert.ok(stdout.every((byte, index) => byte === (index & 0xff)));
});

test("a reader that goes away ends the guest with one line", async () => {
  const child = start("flood:1000000 forever");
  const ended = end(child);
  await once(child.stdout ?? child, "data");
  child.stdout?.destroy();
  const { status, stderr } = await ended;
  assert.equal(status, 1);
  assert.match(stderr, /^isola: cannot write the guest's output: [^\n]*EPIPE[^\n]*\n$/);
});

test("signals stop the guest, and the parent sees the signal", async () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    const child = start("print:up forever");
    const ended = end(child);
    await once(child.stdout ?? child, "data");
    child.kill(signal);
    const { status, signal: seen, stderr } = await ended;
    assert.deepEqual({ status, seen, stderr }, { status: null, seen: signal, stderr: "" });
  }
});

test("a signal ends isola though nobody reads the guest's output", async () => {
  const child = start("flood:3000000 forever");
  const exit = once(child, "exit");
  await once(child.stdout ?? child, "readable");
  child.kill("SIGTERM");
  assert.deepEqual(await exit, [null, "SIGTERM"]);
});

test("an engine that does not stop is left behind after a while", async () => {
  const child = start("print:up stuck");
  const ended = end(child);
  await once(child.stdout ?? child, "data");
  child.kill("SIGTERM");
  const { status, stderr } = await ended;
  assert.equal(status, 5);
  assert.match(stderr, /^isola: the engine did not stop within \d+ ms\n$/);
});

test("a guest that resets starts anew, with the input it has not read; --no-reboot ends it", async () => {
  const child = start("count reset-once echo");
  child.stdin?.end(Buffer.from("kept\x04"));
  const { status, stdout, stderr } = await end(child);
  assert.equal(status, 0);
  assert.equal(stdout.toString(), "start 1\nstart 2\nkept");
  assert.equal(stderr, "isola: the guest reset itself and is started anew\n");
  assert.equal((await end(start("reset", "--no-reboot"))).status, 3);
});

test("a bug is one line and a status, with the stack under ISOLA_DEBUG=1", async () => {
  const { status, stderr } = await end(start("throw"));
  assert.equal(status, 1);
  assert.equal(stderr, "isola: unexpected failure: Error: a bug in two lines (ISOLA_DEBUG=1 shows where)\n");
});

test("the launcher passes arguments, output and status on", async () => {
  const version = await end(spawn(process.execPath, [LAUNCHER, "--version"], { stdio: "pipe" }));
  assert.equal(version.status, 0);
  assert.match(version.stdout.toString(), /^\d+\.\d+\.\d+\n$/);
  const wrong = await end(spawn(process.execPath, [LAUNCHER, "run", "--cpus", "0"], { stdio: "pipe" }));
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /^isola: --cpus 0: [^\n]+\n$/);
});
