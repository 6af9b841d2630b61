/**
 * A Multiboot kernel of the tests' own: it sends back what it receives on the serial port, after a first ">", and on a
 * line feed ends the virtual machine by isa-debug-exit with the count of the bytes.
 */

import { Assembler } from "../../src/isa/assembler.ts";
import { elfOf, multibootHeaderOf } from "../../src/machine/boot/sample-kernels.ts";

const ORIGIN = 0x10_0000;
const COM1 = 0x3f8;
const MODEM_CONTROL = COM1 + 4;
const LINE_STATUS = COM1 + 5;
const DTR_RTS = 3;
const LINE_FEED = 10;

export function echoProgram(debugExitPort: number): Uint8Array {
  const a = new Assembler({ bits: 32, origin: BigInt(ORIGIN) });
  a.db(...multibootHeaderOf(0));
  const entry = a.here;
  a.mov("esp", ORIGIN + 0x10_0000).mov("esi", 0);
  a.mov("edx", MODEM_CONTROL).mov("al", DTR_RTS).emit("OUT", "dx", "al");
  a.mov("ebx", ">".charCodeAt(0)).emit("CALL", "put");

  a.label("next").mov("edx", LINE_STATUS);
  a.label("wait").emit("IN", "al", "dx").emit("TEST", "al", 1).emit("JE", "wait");
  a.mov("edx", COM1).emit("IN", "al", "dx").emit("CMP", "al", LINE_FEED).emit("JE", "end");
  a.emit("INC", "esi").emit("MOVZX", "ebx", "al").emit("CALL", "put").emit("JMP", "next");

  a.label("end").mov("edx", debugExitPort).mov("eax", "esi").emit("OUT", "dx", "al");
  a.label("stop").emit("HLT").emit("JMP", "stop");

  // The character in BL, once the transmitter is empty.
  a.label("put").mov("edx", LINE_STATUS);
  a.label("busy").emit("IN", "al", "dx").emit("TEST", "al", 0x20).emit("JE", "busy");
  a.mov("edx", COM1).mov("al", "bl").emit("OUT", "dx", "al").emit("RET");
  return elfOf({ bits: 32, entry: Number(entry), segments: [{ physical: ORIGIN, contents: a.finish() }] });
}
