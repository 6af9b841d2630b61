/** Kernels that never stop doing harm: they write everywhere, touch every device, keep the processor. */

import { type Assembler, mem } from "../../../src/isa/assembler.ts";
import { kernel, mapAll } from "../../fleet/canary-kernels.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** What they map: RAM, the devices' windows below 4 GiB, and nothing. */
const MAPPED_BYTES = 6 * GIB;
/** Above the page tables and the kernel itself. */
const FREE = 4 * MIB;
/** Power-off and reset: PM1 control, the reset register, the keyboard controller and the system control port. */
const ENDS = [0x604, 0x605, 0xcf9, 0x64, 0x92];

/** Every 8 bytes of RAM, and every 64 KiB less 4 of all that lies above, again and again. */
export function writingKernel(ramBytes: number): Uint8Array {
  return kernel((asm) => {
    mapAll(asm, MAPPED_BYTES);
    const sweep = (name: string, from: number, to: number, step: number): void => {
      asm.mov("rdi", BigInt(from)).mov("rcx", BigInt(to)).label(name);
      asm
        .emit("MOV", mem({ base: "rdi" }), "rdi")
        .emit("ADD", "rdi", step)
        .emit("CMP", "rdi", "rcx")
        .emit("JB", name);
    };
    asm.label("round");
    sweep("ram", FREE, ramBytes, 8);
    sweep("above", ramBytes, MAPPED_BYTES, 0x10000 - 4);
    asm.emit("JMP", "round");
  });
}

/** Every port by every width but those that end the guest, and every register of the devices in memory. */
export function floodingKernel(): Uint8Array {
  return kernel((asm) => {
    asm.mov("esi", 1).label("round").mov("edx", 0).label("port");
    // A port's neighbours are within reach of a 4-byte access.
    for (const port of ENDS) {
      for (let near = port - 3; near <= port; near++) asm.emit("CMP", "edx", near).emit("JE", "next");
    }
    asm.emit("IMUL", "esi", "esi", 1664525).emit("ADD", "esi", 1013904223).mov("eax", "esi");
    asm.emit("OUT", "dx", "al").emit("OUT", "dx", "ax").emit("OUT", "dx", "eax");
    asm.emit("IN", "al", "dx").emit("IN", "eax", "dx");
    asm.label("next").emit("INC", "edx").emit("CMP", "edx", 0x10000).emit("JB", "port");
    for (const [name, base] of Object.entries({ ioapic: 0xfec0_0000, hpet: 0xfed0_0000, lapic: 0xfee0_0000 })) {
      registers(asm, name, base);
    }
    asm.emit("JMP", "round");
  });
}

function registers(asm: Assembler, name: string, base: number): void {
  asm
    .mov("rdi", BigInt(base))
    .mov("rcx", BigInt(base + 0x1000))
    .label(name);
  asm
    .emit("IMUL", "esi", "esi", 1664525)
    .emit("MOV", mem({ base: "rdi" }), "esi")
    .emit("MOV", "eax", mem({ base: "rdi" }));
  asm.emit("ADD", "rdi", 4).emit("CMP", "rdi", "rcx").emit("JB", name);
}

/** With interrupts off for good. */
export function spinningKernel(): Uint8Array {
  return kernel((asm) => asm.emit("CLI").label("on").emit("JMP", "on"));
}
