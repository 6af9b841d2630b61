/**
 * A Multiboot kernel of the tests' own that lives by interrupts: the 8254 through the 8259, a hundred a second, while the
 * processor halts. Every fifth prints the next letter of the alphabet, again and again, so that one which is lost, or
 * comes twice, shows.
 */

import { Assembler } from "../../src/isa/assembler.ts";
import { elfOf, multibootHeaderOf } from "../../src/machine/boot/sample-kernels.ts";

const ORIGIN = 0x10_0000;
const COM1 = 0x3f8;
const VECTOR = 0x20;
const CODE = 0x08;
const DATA = 0x10;
/** Of the 8254's 1.193 MHz: a hundred a second. */
const DIVISOR = 11_932;
const TICKS_A_LETTER = 5;

export function tickProgram(): Uint8Array {
  const a = new Assembler({ bits: 32, origin: BigInt(ORIGIN) });
  a.db(...multibootHeaderOf(0));
  const out = (port: number, ...values: readonly number[]): void => {
    for (const value of values) a.mov("edx", port).mov("al", value).emit("OUT", "dx", "al");
  };
  // The interrupt: ESI counts down to the next letter, which is in BL.
  a.align(16).label("tick").emit("DEC", "esi").emit("JNE", "done").mov("esi", TICKS_A_LETTER);
  a.mov("edx", COM1 + 5)
    .label("busy")
    .emit("IN", "al", "dx")
    .emit("TEST", "al", 0x20)
    .emit("JE", "busy");
  a.mov("edx", COM1).mov("al", "bl").emit("OUT", "dx", "al");
  a.emit("INC", "bl")
    .emit("CMP", "bl", "z".charCodeAt(0) + 1)
    .emit("JNE", "done")
    .mov("bl", "a".charCodeAt(0));
  a.label("done");
  out(0x20, 0x20);
  a.db(0xcf); // IRET
  const handler = Number(a.address("tick"));
  a.align(16).label("gdt").dq(0n, 0x00cf_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn);
  a.label("gdtr").dw(23).dd(a.address("gdt"));
  a.align(16).label("idt");
  for (let vector = 0; vector <= VECTOR; vector++) a.dw(handler & 0xffff, CODE, 0x8e00, handler >>> 16);
  a.label("idtr")
    .dw(8 * (VECTOR + 1) - 1)
    .dd(a.address("idt"));
  const entry = a.here;
  a.db(0x0f, 0x01, 0x15).dd(a.address("gdtr")); // LGDT
  const far = Number(a.here) + 7;
  a.db(0xea).dd(far).dw(CODE); // JMP CODE:next
  a.mov("eax", DATA).db(0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0); // MOV DS, EAX; MOV ES, EAX; MOV SS, EAX
  a.mov("esp", ORIGIN + 0x10_0000)
    .db(0x0f, 0x01, 0x1d)
    .dd(a.address("idtr")); // LIDT
  a.mov("esi", TICKS_A_LETTER).mov("ebx", "a".charCodeAt(0));
  out(0x20, 0x11);
  out(0x21, VECTOR, 4, 1, 0xfe);
  out(0xa0, 0x11);
  out(0xa1, VECTOR + 8, 2, 1, 0xff);
  out(0x43, 0x34);
  out(0x40, DIVISOR & 0xff, DIVISOR >> 8);
  a.db(0xfb).label("wait").db(0xf4).emit("JMP", "wait"); // STI; HLT
  return elfOf({ bits: 32, entry: Number(entry), segments: [{ physical: ORIGIN, contents: a.finish() }] });
}
