/** Debian's kernel to a shell and to its end, as a VM of this process and by the command line. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ImageStore } from "../../src/images/store.ts";
import { Guest, GuestProcess, MIB } from "./guest.ts";

const PROMPT = /root@debian:[^\n]*# /;

test("Debian boots to a shell that answers, and powers off", async () => {
  const image = await new ImageStore().open("debian");
  await using guest = await Guest.start({ memoryBytes: 256 * MIB, ...image });
  await guest.expect(PROMPT);
  guest.type("echo $((6 * 7)) $(uname -m)\n");
  await guest.expect(/\n42 x86_64\r\n/);
  await guest.expect(PROMPT);
  guest.type("poweroff\n");
  assert.deepEqual(await guest.end(), { kind: "power-off" });
  assert.match(guest.text, /reboot: Power down/);
});

test("a kernel that panics resets under panic=-1", async () => {
  const { kernel, commandLine } = await new ImageStore().open("debian");
  // Without an initrd there is no root file system.
  await using guest = await Guest.start({ memoryBytes: 128 * MIB, kernel, commandLine });
  await guest.expect(/Kernel panic - not syncing: VFS: Unable to mount root fs/);
  assert.deepEqual(await guest.end(), { kind: "reset" });
});

test("isola run debian: commands from a pipe, status 0 at power-off", async () => {
  await using isola = new GuestProcess(["run", "debian"]);
  // Typed before there is a shell: what the guest has not read yet must wait, not be lost.
  isola.type("echo $((6 * 7)) $(cat /proc/cmdline)\n");
  await isola.expect(/\n42 console=ttyS0 panic=-1\r\n/);
  isola.child.stdin.end("exit\n");
  assert.deepEqual(await isola.end(), { status: 0, signal: null, stderr: "" });
});

test("isola run --no-reboot: a guest that reboots gives status 3", async () => {
  await using isola = new GuestProcess(["run", "--no-reboot", "--append", "quiet", "--memory", "128M"]);
  await isola.expect(PROMPT);
  isola.type("reboot\n");
  const { status, stderr } = await isola.end();
  assert.equal(status, 3);
  assert.match(stderr, /^isola: the guest reset itself[^\n]*\n$/);
});
