/** Programs that know a PC's screen and keyboard, and no serial port. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { screenLines } from "../../src/devices/pc/text-screen.ts";
import { ImageStore } from "../../src/images/store.ts";
import { Guest, GuestProcess, MIB } from "./guest.ts";
import { screenProgram } from "./screen-program.ts";

test("a bare-metal program writes to the text screen, reads keys and reports its status", async () => {
  const directory = mkdtempSync(join(tmpdir(), "isola-screen-"));
  const kernel = join(directory, "kernel");
  writeFileSync(kernel, screenProgram(0x501));
  try {
    const options = ["--memory", "16M", "--screen", "text", "--debug-exit"];
    await using guest = new GuestProcess(["run", "--kernel", kernel, ...options]);
    guest.type("aB\x1b[A\n");
    // a; Shift and b; the arrow's prefix counts as released, for its bit 7 is set; so five codes.
    assert.deepEqual(await guest.end(), { status: 2 * 4 + 1, signal: null, stderr: "" });
    assert.equal(guest.text, "keys: 1e 2a 30 48\n");
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("Memtest86+ shows its screen, and its menu opens by F1 and closes by Escape", async () => {
  const { commandLine: _, ...image } = await new ImageStore().open("memtest86+");
  await using guest = await Guest.start({ memoryBytes: 32 * MIB, ...image, commandLine: "" });
  const shown = async (pattern: RegExp): Promise<void> => {
    const deadline = performance.now() + 120_000;
    for (;;) {
      const screen = guest.vm.screen();
      const lines = screen === undefined ? [] : screenLines(screen);
      if (lines.some((line) => pattern.test(line))) return;
      if (performance.now() > deadline) assert.fail(`the screen has no ${pattern}:\n${lines.join("\n")}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  await shown(/^ +Memtest86\+ v\d/);
  await shown(/<ESC> Exit +<F1> Configuration/);
  guest.vm.keyboard.write(Uint8Array.of(0x3b, 0xbb));
  await shown(/Settings:/);
  // Zero leaves the menu; Escape then ends the program by a reset.
  guest.vm.keyboard.write(Uint8Array.of(0x0b, 0x8b));
  await shown(/Pass +\d+%/);
  guest.vm.keyboard.write(Uint8Array.of(0x01, 0x81));
  assert.deepEqual(await guest.end(), { kind: "reset" });
});
