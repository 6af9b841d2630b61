/** Kernels that leave a mark in all of their RAM, and that look for it in all they can reach. */

import { Assembler, mem } from "../../src/isa/assembler.ts";
import { elfOf } from "../../src/machine/boot/sample-kernels.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const ENTRY = 0x10_0000;
const COM1 = 0x3f8;
/** Page tables of the searcher, and where RAM begins that holds nothing of the kernel's. */
const TABLES = 3 * MIB;
const FREE = 4 * MIB;
const PAGE_BYTES = 4096;
const LARGE_PAGE_BYTES = 2 * MIB;
/** Present, writable; and a large page. [SDM 3 §4.5] */
const TABLE = 3;
const LARGE = 0x83;

export function kernel(build: (asm: Assembler) => void): Uint8Array {
  const asm = new Assembler({ bits: 64, origin: BigInt(ENTRY) });
  build(asm);
  return elfOf({ entry: ENTRY, segments: [{ physical: ENTRY, contents: asm.finish() }] });
}

/** The mark into RBX, by two halves: no code and no file of a kernel holds it. */
function loadMark(asm: Assembler): void {
  asm.mov("rbx", 0x1bad_5eed_0ddb_a115n).mov("rax", 0x4d1f_b02d_d3a9_7b6en).emit("XOR", "rbx", "rax");
}

function say(asm: Assembler): void {
  asm.mov("edx", COM1).emit("OUT", "dx", "al");
}

function stop(asm: Assembler): void {
  asm.mov("al", "!".charCodeAt(0));
  say(asm);
  asm.label("stop").emit("CLI").emit("HLT").emit("JMP", "stop");
}

/** Fills its RAM from 4 MiB on with the mark, then says "!" and halts. */
export function markingKernel(ramBytes: number): Uint8Array {
  return kernel((asm) => {
    loadMark(asm);
    asm.mov("rdi", BigInt(FREE)).mov("rcx", BigInt(ramBytes)).label("fill");
    asm
      .emit("MOV", mem({ base: "rdi" }), "rbx")
      .emit("ADD", "rdi", 8)
      .emit("CMP", "rdi", "rcx")
      .emit("JB", "fill");
    stop(asm);
  });
}

/** Maps physical memory to `limit`, a multiple of 1 GiB, one to one. */
export function mapAll(asm: Assembler, limit: number): void {
  const [directories, directory] = [TABLES + PAGE_BYTES, TABLES + 2 * PAGE_BYTES];
  asm
    .mov("rdi", BigInt(TABLES))
    .mov("rax", BigInt(directories + TABLE))
    .emit("MOV", mem({ base: "rdi" }), "rax");
  asm.mov("rdi", BigInt(directories)).mov("rax", BigInt(directory + TABLE));
  asm.mov("rcx", BigInt(limit / GIB)).label("directories");
  asm
    .emit("MOV", mem({ base: "rdi" }), "rax")
    .emit("ADD", "rdi", 8)
    .emit("ADD", "rax", PAGE_BYTES);
  asm.emit("SUB", "rcx", 1).emit("JNE", "directories");
  asm
    .mov("rdi", BigInt(directory))
    .mov("rax", BigInt(LARGE))
    .mov("rcx", BigInt(limit / LARGE_PAGE_BYTES))
    .label("pages");
  asm
    .emit("MOV", mem({ base: "rdi" }), "rax")
    .emit("ADD", "rdi", 8)
    .emit("ADD", "rax", LARGE_PAGE_BYTES);
  asm.emit("SUB", "rcx", 1).emit("JNE", "pages");
  asm.mov("rax", BigInt(TABLES)).emit("MOV", "cr3", "rax");
}

/**
 * Looks for the mark in every 8 bytes of its own RAM, which it never wrote, and in every page above it to `limit`; says
 * how often it was there, at most 9. Then it leaves the mark in one place of its RAM, says how often it is in RAM now,
 * and "!".
 */
export function searchingKernel(ramBytes: number, limit: number): Uint8Array {
  return kernel((asm) => {
    mapAll(asm, limit);
    loadMark(asm);
    const search = (name: string, from: number, to: number, step: number): void => {
      asm.mov("rdi", BigInt(from)).mov("rcx", BigInt(to)).label(name);
      asm
        .emit("CMP", mem({ base: "rdi" }), "rbx")
        .emit("JNE", `${name}-other`)
        .emit("ADD", "r8", 1)
        .label(`${name}-other`);
      asm.emit("ADD", "rdi", step).emit("CMP", "rdi", "rcx").emit("JB", name);
    };
    const tell = (name: string): void => {
      asm.emit("CMP", "r8", 9).emit("JBE", name).mov("r8", 9n).label(name);
      asm.emit("MOV", "rax", "r8").emit("ADD", "al", 0x30);
      say(asm);
    };
    asm.mov("r8", 0n);
    search("ram", 0, ramBytes, 8);
    search("above", ramBytes, limit, PAGE_BYTES);
    tell("told");
    asm
      .mov("rdi", BigInt(ramBytes - PAGE_BYTES))
      .emit("MOV", mem({ base: "rdi" }), "rbx")
      .mov("r8", 0n);
    search("again", 0, ramBytes, 8);
    tell("told again");
    stop(asm);
  });
}
