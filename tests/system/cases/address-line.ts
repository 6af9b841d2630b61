/**
 * Gate A20: while it is shut, bit 20 of every physical address is 0, whoever made it: paging, page tables, fetches.
 * [IBM PS/2 Technical Reference, system control port A; SDM 3 §9.9.2 of real-mode addresses above 1 MiB]
 *
 * The guest's program lies at an odd MiB: what runs while the gate is shut lies in PLAY, at an even one, or below 1 MiB.
 */

import { type Assembler, mem } from "../../../src/isa/assembler.ts";
import { at, by, type CaseCode } from "../guest/case-code.ts";
import { PAGE, PDE_TEST, PLAY, pte, WINDOW } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { real } from "./real-mode.ts";

const MIB = 0x10_0000;
const CONTROL_PORT_A = 0x92;
const KEYBOARD = { data: 0x60, command: 0x64 } as const;
/** Where a case's code is copied to, and where code of its own may lie, 1 MiB apart. */
const MOVED = PLAY + 0x4000;
const ROUTINE = PLAY + 0x6000;

type Gate = (asm: Assembler | CaseCode, open: boolean) => void;
const byPort92: Gate = (asm, open) => {
  asm.mov("al", open ? 2 : 0).emit("OUT", CONTROL_PORT_A, "al");
};
/** The controller's commands for the gate alone. */
const byCommand: Gate = (asm, open) => {
  asm.mov("al", open ? 0xdf : 0xdd).emit("OUT", KEYBOARD.command, "al");
};
/** Its output port as a whole; bit 0 keeps the processor out of reset. */
const byOutputPort: Gate = (asm, open) => {
  asm.mov("al", 0xd1).emit("OUT", KEYBOARD.command, "al");
  asm.mov("al", open ? 0xdf : 0xdd).emit("OUT", KEYBOARD.data, "al");
};

/** Segment 0xffff reaches 64 KiB less 16 bytes beyond 1 MiB: what lies there when shut is what lies at address 0. */
const realMode = (name: string, gate: Gate): SystemCase =>
  real(`addresses wrap at 1 MiB, ${name}`, (a) => {
    a.emit("XOR", "bx", "bx").mov("ds", "bx").mov("bx", 0xffff).mov("es", "bx");
    a.mov(mem({ disp: 0x600, bits: 16 }), 0x1234).mov(mem({ disp: 0x602, bits: 16 }), 0x5678);
    gate(a, false);
    a.mov("cx", mem({ disp: 0x610, segment: "es", bits: 16 }));
    a.mov(mem({ disp: 0x612, segment: "es", bits: 16 }), 0x9abc);
    gate(a, true);
    a.mov("dx", mem({ disp: 0x602, bits: 16 })).mov("si", mem({ disp: 0x610, segment: "es", bits: 16 }));
    // What lies there in truth is the program, whatever it is.
    a.emit("CMP", "si", 0x1234).emit("SETE", "al").emit("MOVZX", "eax", "al").emit("XOR", "si", "si");
  });

/** `body` runs from PLAY; it finds the gate open, and has to leave it so. */
function moved(name: string, body: (c: CaseCode) => void, prepare: (c: CaseCode) => void = () => {}): SystemCase {
  return {
    name: `gate A20: ${name}`,
    spec: "PS/2, system control port A",
    code(c) {
      c.lea("rsi", ".body").lea("rcx", ".end").emit("SUB", "rcx", "rsi").mov("edi", MOVED).rep().emit("MOVSB");
      for (const [place, value] of [
        [PLAY, 0x11],
        [PLAY + MIB, 0x22],
      ] as const) {
        c.poke(place, BigInt(value));
      }
      prepare(c);
      c.lea("r15", ".end").mov("eax", MOVED).emit("JMP", "rax").label(".body");
      body(c);
      c.emit("JMP", "r15").label(".end");
    },
  };
}

/** A routine that returns `value` in EAX: MOV EAX, imm32; RET. */
const routine = (c: CaseCode, place: number, value: number): CaseCode =>
  c.poke(place, 0xb8n | (BigInt(value) << 8n) | (0xc3n << 40n));
const call = (c: CaseCode, place: number): CaseCode => c.mov("ebx", place).emit("CALL", "rbx").log("got", "rax");

export const ADDRESS_LINE: readonly SystemCase[] = [
  realMode("by port 92h", byPort92),
  realMode("by the keyboard controller's commands", byCommand),
  realMode("by its output port", byOutputPort),
  moved("loads and stores in 64-bit mode", (c) => {
    // Both pages are known to the TLB when the gate moves.
    c.logMemory("low", at(PLAY)).logMemory("high", at(PLAY + MIB));
    byPort92(c, false);
    c.logMemory("low", at(PLAY)).logMemory("high", at(PLAY + MIB));
    c.mov(at(PLAY + MIB, 32), 0x33).logMemory("low", at(PLAY));
    byPort92(c, true);
    c.logMemory("low", at(PLAY)).logMemory("high", at(PLAY + MIB));
  }),
  moved(
    "the page that an entry names",
    (c) => {
      c.logMemory("open", at(WINDOW));
      byPort92(c, false);
      c.logMemory("shut", at(WINDOW));
      byPort92(c, true);
      c.logMemory("open", at(WINDOW));
    },
    (c) => c.poke(pte(0), BigInt(PLAY + MIB) | PAGE.P | PAGE.W).emit("INVLPG", at(WINDOW, 8)),
  ),
  moved(
    "page tables themselves",
    (c) => {
      // The table of WINDOW moves to an odd MiB; at the even one below lies another, whose first page is PLAY's.
      c.mov("ebx", WINDOW).logMemory("open", by("rbx"));
      byPort92(c, false);
      c.emit("INVLPG", by("rbx", 8)).logMemory("shut", by("rbx"));
      byPort92(c, true);
      c.emit("INVLPG", by("rbx", 8)).logMemory("open", by("rbx"));
    },
    (c) => {
      const table = PLAY + 0x7000;
      c.poke(table + MIB, BigInt(PLAY + 0x1000) | PAGE.P | PAGE.W).poke(table, BigInt(PLAY) | PAGE.P | PAGE.W);
      c.poke(PDE_TEST, BigInt(table + MIB) | PAGE.P | PAGE.W | PAGE.U).emit("INVLPG", at(WINDOW, 8));
    },
  ),
  moved(
    "code",
    (c) => {
      call(call(c, ROUTINE), ROUTINE + MIB);
      byPort92(c, false);
      call(call(c, ROUTINE), ROUTINE + MIB);
      byPort92(c, true);
      call(call(c, ROUTINE), ROUTINE + MIB);
    },
    (c) => routine(routine(c, ROUTINE, 0x44), ROUTINE + MIB, 0x55),
  ),
  moved(
    "code that is written through the other address",
    (c) => {
      byPort92(c, false);
      call(c, ROUTINE + MIB);
      routine(c, ROUTINE, 0x66);
      call(c, ROUTINE + MIB);
      routine(c, ROUTINE + MIB, 0x77);
      call(c, ROUTINE);
      byPort92(c, true);
      call(call(c, ROUTINE), ROUTINE + MIB);
    },
    (c) => routine(routine(c, ROUTINE, 0x44), ROUTINE + MIB, 0x55),
  ),
];
