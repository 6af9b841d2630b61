/**
 * A Multiboot kernel of the tests' own that knows no serial port: it writes "keys:" to the text screen, then the code of
 * each key pressed, in hexadecimal, and on Enter ends the virtual machine by isa-debug-exit with the count of them.
 */

import { Assembler, mem } from "../../src/isa/assembler.ts";
import { elfOf, multibootHeaderOf } from "../../src/machine/boot/sample-kernels.ts";

const ORIGIN = 0x10_0000;
const SCREEN = 0xb8000;
/** White on blue. */
const ATTRIBUTE = 0x1f00;
const KEYBOARD_STATUS = 0x64;
const KEYBOARD_DATA = 0x60;
const ENTER = 0x1c;

export function screenProgram(debugExitPort: number): Uint8Array {
  const a = new Assembler({ bits: 32, origin: BigInt(ORIGIN) });
  a.db(...multibootHeaderOf(0));
  const entry = a.here;
  a.mov("esp", ORIGIN + 0x10_0000)
    .mov("edi", SCREEN)
    .mov("ebp", 0);
  for (const character of "keys:") a.mov("eax", ATTRIBUTE | character.charCodeAt(0)).emit("CALL", "put");

  a.label("wait").emit("IN", "al", KEYBOARD_STATUS).emit("TEST", "al", 1).emit("JE", "wait");
  a.emit("IN", "al", KEYBOARD_DATA).emit("TEST", "al", 0x80).emit("JNE", "wait");
  a.emit("CMP", "al", ENTER).emit("JE", "end").emit("INC", "ebp").emit("MOVZX", "ebx", "al");
  a.mov("eax", ATTRIBUTE | 0x20)
    .emit("CALL", "put")
    .mov("eax", "ebx")
    .emit("SHR", "eax", 4)
    .emit("CALL", "digit");
  a.mov("eax", "ebx").emit("AND", "eax", 15).emit("CALL", "digit").emit("JMP", "wait");

  a.label("end").mov("edx", debugExitPort).mov("eax", "ebp").emit("OUT", "dx", "al");
  a.label("stop").emit("HLT").emit("JMP", "stop");

  // The hexadecimal digit in EAX, then the cell in AX, at EDI.
  a.label("digit")
    .emit("ADD", "eax", ATTRIBUTE + 48)
    .emit("CMP", "eax", ATTRIBUTE + 58)
    .emit("JB", "put");
  a.emit("ADD", "eax", 39);
  a.label("put")
    .mov(mem({ base: "edi", bits: 16 }), "ax")
    .emit("ADD", "edi", 2)
    .emit("RET");
  return elfOf({ bits: 32, entry: Number(entry), segments: [{ physical: ORIGIN, contents: a.finish() }] });
}
