/** A tiny guest that prints "line N" for N from 0 on, with a pause between, for as long as it lives. */

import { Assembler } from "../src/isa/assembler.ts";
import { elfOf, multibootHeaderOf } from "../src/machine/boot/sample-kernels.ts";

const ORIGIN = 0x10_0000;
const COM1 = 0x3f8;
const LINE_STATUS = COM1 + 5;
const TRANSMITTER_EMPTY = 0x20;
/** Turns of an empty loop between two lines: a guest with a fiftieth of a processor prints some lines a second. */
const PAUSE = 10_000;
const DIGITS = 10;

export function printingKernel(): Uint8Array {
  const a = new Assembler({ bits: 32, origin: BigInt(ORIGIN) });
  a.db(...multibootHeaderOf(0));
  const entry = a.here;
  a.mov("esp", ORIGIN + 0x10_0000).mov("esi", 0);
  a.label("line");
  for (const character of "line ") a.mov("ebx", character.charCodeAt(0)).emit("CALL", "put");
  // The digits go to the stack, the last one first.
  a.mov("eax", "esi").mov("ecx", 0).label("divide").mov("edx", 0).mov("ebx", DIGITS).emit("DIV", "ebx");
  a.emit("PUSH", "edx").emit("INC", "ecx").emit("CMP", "eax", 0).emit("JNE", "divide");
  a.label("digit").emit("POP", "ebx").emit("ADD", "ebx", 0x30).emit("CALL", "put");
  a.emit("SUB", "ecx", 1).emit("JNE", "digit");
  a.mov("ebx", 10).emit("CALL", "put").emit("INC", "esi");
  a.mov("ecx", PAUSE).label("pause").emit("SUB", "ecx", 1).emit("JNE", "pause").emit("JMP", "line");

  // The character in BL, once the transmitter is empty.
  a.label("put").mov("edx", LINE_STATUS);
  a.label("busy").emit("IN", "al", "dx").emit("TEST", "al", TRANSMITTER_EMPTY).emit("JE", "busy");
  a.mov("edx", COM1).mov("al", "bl").emit("OUT", "dx", "al").emit("RET");
  return elfOf({ bits: 32, entry: Number(entry), segments: [{ physical: ORIGIN, contents: a.finish() }] });
}
