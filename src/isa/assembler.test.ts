/** The assembler against encodings worked out from the manual. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Assembler, label, mem } from "./assembler.ts";
import type { Mode } from "./encode.ts";

function hex(bytes: Uint8Array): string {
  return [...bytes].map((b) => b.toString(16).padStart(2, "0")).join(" ");
}
function assembled(bits: Mode, build: (asm: Assembler) => void): string {
  const asm = new Assembler({ bits, origin: 0x1000n });
  build(asm);
  return hex(asm.finish());
}

const CASES: readonly [Mode, (asm: Assembler) => void, string][] = [
  [64, (a) => a.mov("rax", 5n), "48 c7 c0 05 00 00 00"],
  [64, (a) => a.mov("rax", 0x1122334455667788n), "48 b8 88 77 66 55 44 33 22 11"],
  [64, (a) => a.mov("ah", "dl"), "88 d4"],
  [64, (a) => a.mov("spl", 1), "40 b4 01"],
  [64, (a) => a.emit("ADD", "rax", mem({ base: "rbx", disp: 8, bits: 64 })), "48 03 43 08"],
  [64, (a) => a.emit("ADD", mem({ base: "r13", index: "r12", scale: 4, bits: 16 }), 5), "66 43 83 44 a5 00 05"],
  [64, (a) => a.emit("SHL", "ecx", 1), "d1 e1"],
  [64, (a) => a.emit("SHL", "rcx", 7), "48 c1 e1 07"],
  [64, (a) => a.emit("SAR", mem({ base: "rax", bits: 8 }), "cl"), "d2 38"],
  [64, (a) => a.emit("PUSH", "r9"), "41 51"],
  [64, (a) => a.emit("PUSH", -1), "6a ff"],
  [64, (a) => a.emit("IMUL", "eax", "ecx", 1000), "69 c1 e8 03 00 00"],
  [64, (a) => a.lock().emit("CMPXCHG", mem({ base: "rdi" }), "rsi"), "f0 48 0f b1 37"],
  [64, (a) => a.rep().emit("MOVSB"), "f3 a4"],
  [64, (a) => a.emit("MOV", mem({ disp: 0x10, segment: "gs" }), "eax"), "65 89 04 25 10 00 00 00"],
  [64, (a) => a.emit("PADDD", "xmm9", "xmm1"), "66 44 0f fe c9"],
  [64, (a) => a.mov("cr3", "rax"), "0f 22 d8"],
  [64, (a) => a.mov("ds", "ax").emit("SWAPGS"), "8e d8 0f 01 f8"],
  [64, (a) => a.emit("MOV", "eax", mem({ base: "ecx" })), "67 8b 01"],
  [64, (a) => a.label("top").emit("DEC", "ecx").emit("JNE", "top"), "ff c9 75 fc"],
  [64, (a) => a.emit("JMP", "end").emit("NOP", "eax").label("end"), "e9 03 00 00 00 0f 0d c0"],
  [
    64,
    (a) =>
      a
        .emit("LEA", "rax", mem({ label: "data" }))
        .emit("RET")
        .label("data")
        .dq(label("data")),
    "48 8d 05 01 00 00 00 c3 08 10 00 00 00 00 00 00",
  ],
  [
    32,
    (a) =>
      a
        .emit("PUSHA")
        .emit("MOV", "eax", mem({ label: "data" }))
        .label("data"),
    "60 a1 06 10 00 00",
  ],
  [32, (a) => a.emit("JMP far", label("next"), 8).label("next"), "ea 07 10 00 00 08 00"],
  [16, (a) => a.emit("LGDT", mem({ label: "gdt" })).label("gdt"), "0f 01 16 05 10"],
  [16, (a) => a.emit("JMP far", label("next"), 8, { size: 32 }).label("next"), "66 ea 08 10 00 00 08 00"],
  [16, (a) => a.mov("eax", "cr0").emit("OR", "al", 1).mov("cr0", "eax"), "0f 20 c0 0c 01 0f 22 c0"],
  [16, (a) => a.emit("MOV", mem({ base: "bx", index: "si", disp: 3 }), "al"), "88 40 03"],
];

test("instructions are assembled as elsewhere", () => {
  for (const [mode, build, expected] of CASES) assert.equal(assembled(mode, build), expected, build.toString());
});

test("data, alignment and the present address", () => {
  const asm = new Assembler({ bits: 16, origin: 0x7c00n });
  asm.db("AB", 1).align(4, 0).dw(0x1234).dd(-1);
  assert.equal(asm.here, 0x7c0an);
  assert.equal(hex(asm.finish()), "41 42 01 00 34 12 ff ff ff ff");
});

test("what cannot be meant is refused", () => {
  const wrong: [Mode, (asm: Assembler) => void][] = [
    [64, (a) => a.emit("FROB", "rax")],
    [64, (a) => a.emit("ADD", mem({ base: "rax" }), 1)],
    [64, (a) => a.emit("MOVZX", "eax", mem({ base: "rax" }))],
    [64, (a) => a.emit("ADD", "rax", "ecx")],
    [64, (a) => a.emit("JMP", "nowhere")],
    [64, (a) => a.label("x").label("x")],
    [32, (a) => a.mov("rax", 1)],
    [64, (a) => a.emit("MOV", "ah", "r8b")],
    [64, (a) => a.db(256)],
  ];
  for (const [mode, build] of wrong) assert.throws(() => assembled(mode, build), RangeError, build.toString());
});
