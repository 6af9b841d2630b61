/**
 * A Multiboot kernel of the tests' own: it prints on the serial port what the loader told it, in hexadecimal, and resets
 * the machine by the keyboard controller. [Multiboot 0.6.96 §3.2, §3.3]
 *
 *   EAX, the information's flags
 *   one line a module: first byte, length, the first four letters of its command line
 *   one line an entry of the memory map: base (high, low), length (high, low), type
 */

import { Assembler, mem } from "../../src/isa/assembler.ts";
import { elfOf, multibootHeaderOf } from "../../src/machine/boot/sample-kernels.ts";

const ORIGIN = 0x10_0000;
const STACK = 0x20_0000;
/** Both alignment of modules and memory information are asked for. */
const HEADER_FLAGS = 3;
const COM1 = 0x3f8;
const LINE_STATUS = COM1 + 5;
const KEYBOARD_CONTROLLER = 0x64;
const PULSE_RESET = 0xfe;

const at = (base: string, disp: number) => mem({ base, disp, bits: 32 });

export function multibootProgram(): Uint8Array {
  const header = multibootHeaderOf(HEADER_FLAGS);
  const a = new Assembler({ bits: 32, origin: BigInt(ORIGIN) });
  const call = (name: string) => a.emit("CALL", name);
  const show = (disp: number) => {
    a.mov("eax", at("esi", disp));
    call("hex");
  };

  a.db(...header);
  const entry = a.here;
  a.mov("esp", STACK).mov("ebp", "ebx");
  call("hex");
  a.mov("eax", at("ebp", 0));
  call("hex");
  call("line");

  a.mov("esi", at("ebp", 24)).mov("edi", at("ebp", 20));
  a.label("module").emit("TEST", "edi", "edi").emit("JE", "modules-done");
  a.mov("eax", at("esi", 0)).emit("MOVZX", "eax", mem({ base: "eax", bits: 8 }));
  call("hex");
  a.mov("eax", at("esi", 4)).emit("SUB", "eax", at("esi", 0));
  call("hex");
  a.mov("eax", at("esi", 8)).mov("eax", at("eax", 0));
  call("hex");
  call("line");
  a.emit("ADD", "esi", 16).emit("DEC", "edi").emit("JMP", "module");

  a.label("modules-done").mov("esi", at("ebp", 48)).mov("edi", at("ebp", 44)).emit("ADD", "edi", "esi");
  a.label("entry").emit("CMP", "esi", "edi").emit("JAE", "entries-done");
  for (const disp of [8, 4, 16, 12, 20]) show(disp);
  call("line");
  a.emit("ADD", "esi", at("esi", 0)).emit("ADD", "esi", 4).emit("JMP", "entry");

  a.label("entries-done").mov("al", PULSE_RESET).emit("OUT", KEYBOARD_CONTROLLER, "al");
  a.label("wait").emit("JMP", "wait");

  // Eight digits of EAX, and a space.
  a.label("hex").mov("ecx", 8);
  a.label("digit").emit("ROL", "eax", 4).mov("ebx", "eax").emit("AND", "ebx", 15).emit("PUSH", "eax");
  a.emit("ADD", "ebx", 48).emit("CMP", "ebx", 58).emit("JB", "decimal").emit("ADD", "ebx", 39);
  a.label("decimal");
  call("put");
  a.emit("POP", "eax").emit("DEC", "ecx").emit("JNE", "digit").mov("ebx", 32).emit("JMP", "put");
  a.label("line").mov("ebx", 10);
  // The character in BL, once the transmitter is empty.
  a.label("put").mov("edx", LINE_STATUS);
  a.label("busy").emit("IN", "al", "dx").emit("TEST", "al", 0x20).emit("JE", "busy");
  a.mov("edx", COM1).mov("al", "bl").emit("OUT", "dx", "al").emit("RET");

  return elfOf({ bits: 32, entry: Number(entry), segments: [{ physical: ORIGIN, contents: a.finish() }] });
}
