/** A guest that is saved in the middle of its work and goes on elsewhere, again and again. */

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { echoProgram } from "./echo-program.ts";
import { ENGINE, GuestProcess } from "./guest.ts";
import { moveGuest, moveTicks } from "./saved-guest.ts";

test("a Debian guest moves from VM to VM in the middle of its work: nothing is lost, nothing comes twice", async () => {
  await moveGuest([ENGINE, ENGINE, ENGINE, ENGINE]);
});

test("a program that lives by the timer's interrupts goes on with the next letter after each move", async () => {
  await moveTicks(ENGINE, [ENGINE, ENGINE, ENGINE]);
});

test("isola run saves to a file on SIGUSR2, and isola restore goes on with it, as often as one likes", async () => {
  const directory = mkdtempSync(join(tmpdir(), "isola-save-"));
  const kernel = join(directory, "kernel");
  const saved = join(directory, "guest.saved");
  writeFileSync(kernel, echoProgram(0x501));
  try {
    await using first = new GuestProcess([
      "run",
      "--kernel",
      kernel,
      "--memory",
      "16M",
      "--debug-exit",
      "--save-to",
      saved,
    ]);
    await first.expect(/>/);
    first.type("ab");
    await first.expect(/ab/);
    first.child.kill("SIGUSR2");
    const { status, stderr } = await first.end();
    assert.equal(status, 0, stderr);
    assert.match(stderr, /the guest is in .*guest\.saved; isola restore .* goes on with it/);
    assert.equal(first.text, ">ab");
    assert.deepEqual(readdirSync(directory).toSorted(), ["guest.saved", "kernel"]);

    for (const typed of ["c", "defg"]) {
      await using again = new GuestProcess(["restore", saved]);
      again.type(`${typed}\n`);
      assert.deepEqual(await again.end(), { status: 2 * (2 + typed.length) + 1, signal: null, stderr: "" });
      assert.equal(again.text, typed);
    }

    truncateSync(saved, readFileSync(saved).length - 1);
    await using refused = new GuestProcess(["restore", saved]);
    const end = await refused.end();
    assert.equal(end.status, 1);
    assert.match(end.stderr, /^isola: [^\n]*it ends in the middle of its memory[^\n]*\n$/);
    await using absent = new GuestProcess(["restore", join(directory, "nothing")]);
    assert.match(
      (await absent.end()).stderr,
      /^isola: cannot read the saved state [^\n]*: there is no such file[^\n]*\n$/,
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a guest that cannot be saved goes on", async () => {
  const directory = mkdtempSync(join(tmpdir(), "isola-save-"));
  const kernel = join(directory, "kernel");
  writeFileSync(kernel, echoProgram(0x501));
  try {
    const nowhere = join(directory, "no", "such", "place");
    const options = ["--kernel", kernel, "--memory", "16M", "--debug-exit", "--save-to", nowhere];
    await using guest = new GuestProcess(["run", ...options]);
    await guest.expect(/>/);
    guest.child.kill("SIGUSR2");
    guest.type("abc");
    await guest.expect(/abc/);
    guest.type("\n");
    const { status, stderr } = await guest.end();
    assert.equal(status, 2 * 3 + 1);
    assert.match(
      stderr,
      /saving the VM to .*: there is no such file or directory; nothing was saved; the guest goes on/,
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});
