/** Guests that mean harm, or know no better: the monitor ends them or runs them on, and stays whole itself. */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Assembler, label, mem } from "../../src/isa/assembler.ts";
import { elfOf } from "../../src/machine/boot/sample-kernels.ts";
import { Guest, GuestProcess, MIB } from "./guest.ts";
import { runHostileGuests } from "./hostile/main.ts";

const ENTRY = 0x100000;
const COM1 = 0x3f8;
const CASES = 40;

/** A 64-bit kernel, entered by Linux's protocol; `build` writes its code. */
function kernel(build: (asm: Assembler) => void): Uint8Array {
  const asm = new Assembler({ bits: 64, origin: BigInt(ENTRY) });
  build(asm);
  return elfOf({ entry: ENTRY, segments: [{ physical: ENTRY, contents: asm.finish() }] });
}

/** The same for a 32-bit kernel, entered by its PVH note. */
function kernel32(build: (asm: Assembler) => void): Uint8Array {
  const asm = new Assembler({ bits: 32, origin: BigInt(ENTRY) });
  build(asm);
  const contents = new Uint8Array(4);
  new DataView(contents.buffer).setUint32(0, ENTRY, true);
  return elfOf({
    bits: 32,
    entry: ENTRY,
    segments: [{ physical: ENTRY, contents: asm.finish() }],
    notes: [{ owner: "Xen", type: 18, contents }],
  });
}

/** Sends a character and stops for good. */
function sayDone(asm: Assembler): void {
  asm
    .mov("edx", COM1)
    .mov("al", 0x21)
    .emit("OUT", "dx", "al")
    .label("stop")
    .emit("CLI")
    .emit("HLT")
    .emit("JMP", "stop");
}

async function start(image: Uint8Array): Promise<Guest> {
  return Guest.start({ memoryBytes: 16 * MIB, kernel: image, commandLine: "" });
}

test("random bytes as code, and code that reaches for everything", async (t) => {
  const seed = Math.floor(Date.now() / 1000);
  t.diagnostic(`seed ${seed}; again: node tests/guests/hostile/main.ts --seed ${seed} --count ${CASES}`);
  const { failures, outcomes, instructions } = await runHostileGuests(seed, 0, CASES);
  t.diagnostic(`${instructions} instructions; ${JSON.stringify(outcomes)}`);
  assert.deepEqual(failures, []);
  assert.ok(instructions > 100_000, "the guests hardly ran");
});

const TRIPLE_FAULTS: Readonly<Record<string, Uint8Array>> = {
  "an undefined instruction without an IDT": kernel((asm) => asm.emit("UD2")),
  "a jump into nothing": kernel((asm) => asm.mov("rax", 0x7fff_ffff_f000n).emit("JMP", "rax")),
  "a page table in nothing": kernel((asm) =>
    asm.mov("rax", 0xff_ffff_f000n).emit("MOV", "cr3", "rax").label("on").emit("JMP", "on"),
  ),
  "a garbage GDT and a segment of it": kernel((asm) =>
    asm
      .emit("LGDT", mem({ label: "garbage" }))
      .mov("eax", 0x18)
      .emit("MOV", "ds", "ax")
      .label("garbage")
      .dq(0xffff_ffff_ffff_ffffn)
      .dq(0xffff_ffff_ffff_ffffn),
  ),
  "a garbage IDT and an interrupt": kernel((asm) =>
    asm
      .emit("LIDT", mem({ label: "garbage" }))
      .emit("INT3")
      .label("garbage")
      .dq(0x1234_5678_ffffn)
      .dq(label("garbage")),
  ),
  "32-bit code without an IDT": kernel32((asm) => asm.emit("UD2")),
};

for (const [name, image] of Object.entries(TRIPLE_FAULTS)) {
  test(`a triple fault ends the guest: ${name}`, async () => {
    await using guest = await start(image);
    const result = await guest.end();
    assert.equal(result.kind, "triple-fault");
    assert.match("message" in result ? result.message : "", /^[^\n]*rip 0x[0-9a-f]+$/);
  });
}

test("every port is written and read by every width, but for those that end the guest", async () => {
  // Power-off and reset: PM1 control, the reset register, the keyboard controller and the system control port.
  const ends = [0x604, 0x605, 0xcf9, 0x64, 0x92];
  const image = kernel((asm) => {
    asm.mov("esi", 1).label("round").mov("edx", 0).label("port");
    // A port's neighbours are within reach of a 4-byte access.
    for (const port of ends) {
      for (let near = port - 3; near <= port; near++) asm.emit("CMP", "edx", near).emit("JE", "next");
    }
    asm.emit("IMUL", "esi", "esi", 1664525).emit("ADD", "esi", 1013904223).mov("eax", "esi");
    asm.emit("OUT", "dx", "al").emit("OUT", "dx", "ax").emit("OUT", "dx", "eax");
    asm.emit("IN", "al", "dx").emit("IN", "ax", "dx").emit("IN", "eax", "dx");
    asm.label("next").emit("INC", "edx").emit("CMP", "edx", 0x10000).emit("JB", "port");
    // The line's divisor latch may be open now: LCR, then data.
    asm
      .mov("edx", COM1 + 3)
      .mov("al", 3)
      .emit("OUT", "dx", "al")
      .mov("edx", COM1 + 4)
      .mov("al", 0)
      .emit("OUT", "dx", "al");
    sayDone(asm);
  });
  await using guest = await start(image);
  await guest.expect(/!$/);
});

test("all unmapped space below 4 GiB is written and read, the devices' windows at every register", async () => {
  const image = kernel((asm) => {
    const sweep = (name: string, from: number, to: number, step: number) => {
      asm.mov("rdi", BigInt(from)).mov("rbx", BigInt(to)).label(name);
      asm.emit("IMUL", "esi", "esi", 1664525).emit("ADD", "esi", 1013904223);
      asm.emit("MOV", mem({ base: "rdi" }), "esi").emit("MOV", "eax", mem({ base: "rdi" }));
      asm
        .emit("MOV", mem({ base: "rdi" }), "sil")
        .emit("MOV", mem({ base: "rdi" }), "rsi")
        .emit("MOV", "rax", mem({ base: "rdi" }));
      asm.emit("ADD", "rdi", step).emit("CMP", "rdi", "rbx").emit("JB", name);
    };
    sweep("holes", 16 * MIB, 0x1_0000_0000, 0x10000 - 4);
    sweep("vga", 0xa0000, 0xc0000, 0xffc);
    sweep("ioapic", 0xfec00000, 0xfec00100, 1);
    sweep("hpet", 0xfed00000, 0xfed00400, 1);
    sweep("lapic", 0xfee00000, 0xfee01000, 4);
    sayDone(asm);
  });
  await using guest = await start(image);
  await guest.expect(/!$/);
});

const directory = mkdtempSync(join(tmpdir(), "isola-hostile-"));
after(() => rmSync(directory, { recursive: true }));

test("isola run: a triple fault has its status and one line", async () => {
  const path = join(directory, "triple-fault");
  writeFileSync(
    path,
    kernel((asm) => asm.emit("UD2")),
  );
  await using isola = new GuestProcess(["run", "--kernel", path, "--memory", "16M"]);
  const { status, stderr } = await isola.end();
  assert.equal(status, 4);
  assert.match(stderr, /^isola: the guest ended in a triple fault: [^\n]*rip 0x100000\n$/);
});

test("isola run: a guest that never halts is stopped by a signal, and the parent sees it", async () => {
  const path = join(directory, "endless");
  writeFileSync(
    path,
    kernel((asm) => asm.mov("edx", COM1).mov("al", 0x21).emit("OUT", "dx", "al").label("on").emit("JMP", "on")),
  );
  await using isola = new GuestProcess(["run", "--kernel", path, "--memory", "16M"]);
  await isola.expect(/!/);
  isola.child.kill("SIGINT");
  assert.deepEqual(await isola.end(), { status: null, signal: "SIGINT", stderr: "" });
});
