/**
 * The long-mode test guest: a 32-bit ELF that QEMU and isola start by its PVH note. It runs a list of cases, each from
 * the same state: registers zero, tables and a piece of memory as new, devices quiet. What a case logs, and every
 * exception it raises, is written to the serial port as text, a line for each case:
 *   @<number in hex>\n<name>=<hex> <name>=<hex> ...\n
 */

import { Assembler, mem } from "../../../src/isa/assembler.ts";
import { RF } from "../../../src/isa/flags.ts";
import { elfOf } from "../../../src/machine/boot/sample-kernels.ts";
import { GPR_NAMES } from "../../../src/cpu/vcpu.ts";
import { at, by, CaseCode } from "./case-code.ts";
import {
  ALIAS,
  CR0_BASE,
  CR4_BASE,
  EFER_BASE,
  END_VECTOR,
  EXIT_PORT,
  EXIT_VALUE,
  GDT,
  IDT,
  IDT32,
  IMAGE,
  LOG_START,
  PLAY,
  PLAY_BYTES,
  PML4,
  PRISTINE_TABLES,
  SELECTOR,
  SERIAL,
  STACK,
  STUB_BYTES,
  STUBS,
  TABLES,
  TABLES_BYTES,
  VARIABLE,
  VARIABLES,
} from "./layout.ts";
import { legacyRuntime } from "./legacy-runtime.ts";
import { pristineTables } from "./tables.ts";

export interface SystemCase {
  readonly name: string;
  /** Where the manual says it. */
  readonly spec: string;
  /** The ring that the case's code runs in; 0 unless given. */
  readonly ring?: 0 | 3;
  /** 64-bit code. Falling out of its end ends the case. */
  code(c: CaseCode): unknown;
}

const XEN_ELFNOTE_PHYS32_ENTRY = 18;
/** Exceptions with an error code, as a mask of vectors. [SDM 3 table 6-1] */
const ERROR_CODES = [8, 10, 11, 12, 13, 14, 17, 21].reduce((mask, vector) => mask | (1 << vector), 0);
/** A case that raises more exceptions than this is ended. */
const MOST_EXCEPTIONS = 40;

/** Registers that every case finds alike: index and value. */
const MSRS: readonly (readonly [number, bigint])[] = [
  [0x174, 0n],
  [0x175, 0n],
  [0x176, 0n],
  [0xc000_0081, (BigInt(SELECTOR.userCode32 | 3) << 48n) | (BigInt(SELECTOR.kernelCode) << 32n)],
  [0xc000_0082, 0n],
  [0xc000_0083, 0n],
  [0xc000_0084, 0n],
  [0xc000_0100, 0n],
  [0xc000_0101, 0n],
  [0xc000_0102, 0n],
];

/** The program's bytes, from IMAGE on. Throws RangeError where it is too long or a case is wrong. */
function program(cases: readonly SystemCase[]): Uint8Array {
  const asm = new Assembler({ bits: 32, origin: BigInt(IMAGE) });
  start(asm);
  while (asm.here < BigInt(STUBS)) asm.db(0xcc);
  asm.bits(64);
  for (let vector = 0; vector < 256; vector++) {
    asm
      .mov(at(VARIABLE.gpr), "rax")
      .mov("eax", vector)
      .emit("JMP", vector === END_VECTOR ? "finish" : "exception");
    while (asm.here < BigInt(STUBS + (vector + 1) * STUB_BYTES)) asm.db(0xcc);
  }
  legacyRuntime(asm);
  exceptionHandler(asm);
  runner(asm, cases.length);
  printer(asm);
  asm.align(16).label("cases");
  for (const [i, { ring = 0 }] of cases.entries()) asm.dq({ kind: "label", name: `c${i}` }, ring);
  for (const [i, one] of cases.entries()) {
    // Each on cache lines of its own, well apart, so that a case's addresses do not depend on its neighbours.
    asm.align(64, 0xcc).bits(64).label(`c${i}`);
    const code = new CaseCode(asm, `c${i}`, { ring: one.ring ?? 0 });
    try {
      one.code(code);
    } catch (error) {
      throw new RangeError(`case "${one.name}": ${error instanceof Error ? error.message : String(error)}`);
    }
    code.end();
  }
  const bytes = asm.finish();
  if (bytes.length > TABLES - IMAGE) throw new RangeError(`the program has ${bytes.length} bytes, too many`);
  return bytes;
}

/** From PVH's 32-bit entry to the runner in 64-bit mode. */
function start(asm: Assembler): void {
  asm
    .emit("CLI")
    .emit("CLD")
    .emit("LGDT", at(IMAGE + 0x800));
  asm.mov("esp", STACK.runtime);
  // The tables are not there yet: the GDT used first is the pristine one.
  asm
    .mov("esi", PRISTINE_TABLES)
    .mov("edi", TABLES)
    .mov("ecx", TABLES_BYTES / 4)
    .rep()
    .emit("MOVS", { size: 32 });
  asm.mov("eax", CR4_BASE).mov("cr4", "eax").mov("eax", PML4).mov("cr3", "eax");
  asm.mov("ecx", 0xc000_0080).mov("eax", EFER_BASE).mov("edx", 0).emit("WRMSR");
  asm.mov("eax", CR0_BASE).mov("cr0", "eax");
  asm.emit("JMP far", { kind: "label", name: "begin" }, SELECTOR.kernelCode);
  while (asm.here < BigInt(IMAGE + 0x800)) asm.db(0xcc);
  asm.dw(0xfff).dd(PRISTINE_TABLES);
  asm.align(16).label("gdtr").dw(0xfff).dq(GDT).align(16).label("idtr").dw(0xfff).dq(IDT);
  asm.align(16).label("idtr32").dw(0x7ff).dd(IDT32);
  asm.align(16).label("msrs");
  for (const [index, value] of MSRS) asm.dq(index).dq(value);
  asm.label("fpu").dd(0x1f80);
}

/** RAX: vector. Logs the frame, then goes on in ring 0 where the case wants. */
function exceptionHandler(asm: Assembler): void {
  const code = new CaseCode(asm, "exception");
  asm.label("exception").emit("CLD");
  for (const [i, register] of GPR_NAMES.entries()) if (i !== 0) asm.mov(at(VARIABLE.gpr + i * 8), register);
  asm.mov(at(VARIABLE.vector), "rax").mov("rsi", "rsp").mov("ecx", "eax");
  code.log("v", "rax");
  asm.emit("CMP", "eax", 32).emit("JAE", "plain").mov("eax", ERROR_CODES).emit("BT", "eax", "ecx");
  asm.emit("JAE", "plain").mov("rbx", by("rsi")).emit("ADD", "rsi", 8);
  code.log("e", "rbx");
  asm.label("plain").emit("CMP", "ecx", 14).emit("JNE", "frame");
  code.logSystem("cr2", "cr2");
  asm.label("frame").emit("CMP", at(VARIABLE.terse), 0).emit("JNE", "registers");
  // RIP as an offset in the case, where it lies in it, in ring 0's view or ring 3's.
  asm.mov("rbx", by("rsi")).mov("rdx", "rbx").emit("SUB", "rdx", at(VARIABLE.base));
  asm.emit("CMP", "rdx", 0x800).emit("JAE", "notOwn");
  code.log("ip", "rdx").emit("JMP", "located");
  asm.label("notOwn").emit("SUB", "rdx", ALIAS).emit("CMP", "rdx", 0x800).emit("JAE", "elsewhere");
  code.log("uip", "rdx").emit("JMP", "located");
  asm.label("elsewhere");
  code.log("rip", "rbx");
  asm.label("located");
  for (const [name, disp] of [
    ["cs", 8],
    ["fl", 16],
    ["sp", 24],
    ["ss", 32],
  ] as const) {
    asm.mov("rbx", by("rsi", 64, disp));
    // QEMU never sets RF in what it pushes; cases of their own look at it.
    if (name === "fl") asm.emit("AND", "rbx", ~RF);
    code.log(name, "rbx");
  }
  asm.emit("ADD", "rsi", 40);
  code.log("h", "rsi");
  asm.label("registers");
  for (const [i, register] of GPR_NAMES.entries()) {
    asm.emit("BT", at(VARIABLE.registers, 32), i).emit("JAE", `without${i}`);
    asm.mov("rbx", at(VARIABLE.gpr + i * 8));
    code.log(register, "rbx");
    asm.label(`without${i}`);
  }
  asm
    .label("counted")
    .emit("INC", at(VARIABLE.count))
    .emit("CMP", at(VARIABLE.count), MOST_EXCEPTIONS)
    .emit("JA", "finish");
  asm.mov("eax", SELECTOR.kernelData);
  for (const segment of ["ss", "ds", "es"]) asm.mov(segment, "ax");
  asm.mov("rsp", STACK.kernel).emit("PUSH", 2).emit("POPF").emit("JMP", at(VARIABLE.resume));
}

/** Runs the cases one after the other. */
function runner(asm: Assembler, count: number): void {
  asm.label("begin").mov("rsp", STACK.runtime);
  // The serial line: no interrupts, FIFO on, 8 bits.
  for (const [port, value] of [
    [SERIAL + 1, 0],
    [SERIAL + 2, 1],
    [SERIAL + 3, 3],
  ] as const) {
    asm.mov("edx", port).mov("al", value).emit("OUT", "dx", "al");
  }
  asm.mov(at(VARIABLE.index), 0);
  asm.label("next").emit("CALL", "restore");
  asm.mov("rbx", at(VARIABLE.index)).emit("CMP", "rbx", count).emit("JAE", "exit").emit("INC", at(VARIABLE.index));
  asm.mov("al", 0x40).emit("CALL", "put").mov("rax", "rbx").emit("CALL", "putHex");
  asm.mov("al", 10).emit("CALL", "put");
  // What the case finds in memory.
  asm.mov("edi", PLAY).mov("ecx", PLAY_BYTES / 8);
  asm.label("pattern").mov(by("rdi"), "rdi").emit("ADD", "edi", 8).emit("DEC", "ecx").emit("JNE", "pattern");
  asm
    .mov("edi", VARIABLES)
    .mov("ecx", 0x200 / 8)
    .emit("XOR", "eax", "eax");
  asm.mov("rdx", at(VARIABLE.index)).rep().emit("STOS", { size: 64 }).mov(at(VARIABLE.index), "rdx");
  asm
    .mov(at(VARIABLE.pointer), LOG_START)
    .emit("LEA", "rax", mem({ label: "finish" }))
    .mov(at(VARIABLE.resume), "rax");
  asm.emit("LEA", "rax", mem({ label: "leave32" })).mov(at(VARIABLE.resume32), "rax");
  asm
    .emit("SHL", "ebx", 4)
    .mov("rax", mem({ base: "rbx", label: "cases", bits: 64 }))
    .mov(at(VARIABLE.base), "rax");
  // Into the case by IRETQ, with nothing in the registers.
  asm.emit("CMP", mem({ base: "rbx", label: "cases", disp: 8, bits: 64 }), 0).emit("JNE", "asUser");
  asm.emit("PUSH", SELECTOR.kernelData).emit("PUSH", STACK.kernel).emit("PUSH", 2).emit("PUSH", SELECTOR.kernelCode);
  asm.emit("PUSH", "rax").emit("JMP", "enter");
  asm
    .label("asUser")
    .emit("ADD", "rax", ALIAS)
    .mov("ecx", SELECTOR.userData | 3);
  asm
    .mov("ds", "cx")
    .mov("es", "cx")
    .emit("PUSH", "rcx")
    .emit("PUSH", ALIAS + STACK.user)
    .emit("PUSH", 2);
  asm.emit("PUSH", SELECTOR.userCode | 3).emit("PUSH", "rax");
  asm.label("enter");
  for (const register of GPR_NAMES) if (register !== "rsp") asm.mov(register, 0);
  asm.emit("IRET", { size: 64 });

  // The end of a case: in 64-bit mode, ring 0, whatever else.
  asm.label("finish").emit("CLI").emit("CLD").emit("CALL", "restore");
  asm.mov("esi", VARIABLES + LOG_START);
  asm.label("flush").mov("rax", "rsi").emit("SUB", "rax", VARIABLES).emit("CMP", "rax", at(VARIABLE.pointer));
  asm.emit("JAE", "flushed").mov("ebp", 8);
  asm.label("letter").mov("al", by("rsi", 8)).emit("INC", "rsi").emit("TEST", "al", "al").emit("JE", "noLetter");
  asm.emit("CALL", "put").label("noLetter").emit("DEC", "ebp").emit("JNE", "letter");
  asm.mov("al", 0x3d).emit("CALL", "put").mov("rax", by("rsi")).emit("ADD", "rsi", 8).emit("CALL", "putHex");
  asm.mov("al", 0x20).emit("CALL", "put").emit("JMP", "flush");
  asm.label("flushed").mov("al", 10).emit("CALL", "put").emit("JMP", "next");
  asm.label("exit").mov("al", 0x2e).emit("CALL", "put").mov("al", 10).emit("CALL", "put").emit("CALL", "drain");
  asm.mov("al", EXIT_VALUE).mov("edx", EXIT_PORT).emit("OUT", "dx", "al").label("stop").emit("HLT").emit("JMP", "stop");

  restore(asm);
}

/** Everything but general registers and stack as a case is to find it; returns on the runtime's stack. */
function restore(asm: Assembler): void {
  asm.label("restore").emit("POP", "r15");
  asm.mov("eax", SELECTOR.kernelData).mov("ss", "ax").mov("rsp", STACK.runtime).mov("ds", "ax").mov("es", "ax");
  asm.emit("PUSH", 2).emit("POPF");
  asm.mov("rax", CR0_BASE).mov("cr0", "rax").emit("XOR", "eax", "eax").mov("dr7", "rax");
  asm
    .mov("esi", PRISTINE_TABLES)
    .mov("edi", TABLES)
    .mov("ecx", TABLES_BYTES / 8)
    .rep()
    .emit("MOVS", { size: 64 });
  asm.mov("eax", PML4).mov("cr3", "rax");
  // Toggling PGE forgets global translations.
  asm
    .mov("eax", CR4_BASE | 0x80)
    .mov("cr4", "rax")
    .mov("eax", CR4_BASE)
    .mov("cr4", "rax");
  asm.emit("LGDT", mem({ label: "gdtr" })).emit("LIDT", mem({ label: "idtr" }));
  asm
    .emit("PUSH", SELECTOR.kernelCode)
    .emit("LEA", "rax", mem({ label: "ownCode" }))
    .emit("PUSH", "rax");
  asm.emit("RETF", { size: 64 }).label("ownCode");
  asm.mov("eax", SELECTOR.kernelData);
  for (const segment of ["ss", "ds", "es"]) asm.mov(segment, "ax");
  asm.emit("XOR", "eax", "eax").mov("fs", "ax").mov("gs", "ax").emit("LLDT", "ax");
  asm.mov("eax", SELECTOR.tss).emit("LTR", "ax");
  asm
    .mov("ecx", 0xc000_0080)
    .mov("eax", EFER_BASE | 0x400)
    .mov("edx", 0)
    .emit("WRMSR");
  asm.emit("LEA", "rsi", mem({ label: "msrs" })).mov("edi", MSRS.length);
  asm
    .label("nextMsr")
    .mov("rcx", by("rsi"))
    .mov("eax", by("rsi", 32, 8))
    .mov("edx", by("rsi", 32, 12))
    .emit("WRMSR");
  asm.emit("ADD", "rsi", 16).emit("DEC", "edi").emit("JNE", "nextMsr");
  asm.emit("XOR", "eax", "eax");
  for (let i = 0; i < 4; i++) asm.mov(`dr${i}`, "rax");
  asm.mov("rax", 0xffff_0ff0).mov("dr6", "rax").emit("XOR", "eax", "eax").mov("cr2", "rax").mov("cr8", "rax");
  asm.emit("FNINIT").emit("LDMXCSR", mem({ label: "fpu", bits: 32 }));
  // Both 8259s mask all.
  asm.mov("al", 0xff).emit("OUT", 0x21, "al").emit("OUT", 0xa1, "al");
  asm.emit("JMP", "r15");
}

/** `put` sends AL, `putHex` RAX without leading zeros, `drain` waits until all is sent. RCX, RDX and RAX change. */
function printer(asm: Assembler): void {
  asm
    .label("put")
    .mov("ecx", "eax")
    .mov("edx", SERIAL + 5);
  asm.label("wait").emit("IN", "al", "dx").emit("TEST", "al", 0x20).emit("JE", "wait");
  asm.mov("eax", "ecx").mov("edx", SERIAL).emit("OUT", "dx", "al").emit("RET");
  asm.label("putHex").mov("r8", "rax").mov("r9d", 60);
  asm.label("leading").emit("TEST", "r9d", "r9d").emit("JE", "digit").mov("rax", "r8").mov("ecx", "r9d");
  asm.emit("SHR", "rax", "cl").emit("TEST", "al", 15).emit("JNE", "digit").emit("SUB", "r9d", 4).emit("JMP", "leading");
  asm.label("digit").mov("rax", "r8").mov("ecx", "r9d").emit("SHR", "rax", "cl").emit("AND", "eax", 15);
  asm.emit("CMP", "al", 10).emit("JB", "decimal").emit("ADD", "al", 39);
  asm.label("decimal").emit("ADD", "al", 0x30).emit("CALL", "put").emit("SUB", "r9d", 4).emit("JNS", "digit");
  asm.emit("RET");
  asm.label("drain").mov("edx", SERIAL + 5);
  asm.label("sent").emit("IN", "al", "dx").emit("TEST", "al", 0x40).emit("JE", "sent").emit("RET");
}

/** The guest as an ELF with a PVH note. */
export function guestImage(cases: readonly SystemCase[]): Uint8Array {
  const entry = new Uint8Array(4);
  new DataView(entry.buffer).setUint32(0, IMAGE, true);
  const elf = elfOf({
    bits: 32,
    entry: IMAGE,
    notes: [{ owner: "Xen", type: XEN_ELFNOTE_PHYS32_ENTRY, contents: entry }],
    segments: [
      { physical: IMAGE, contents: program(cases) },
      { physical: PRISTINE_TABLES, contents: pristineTables() },
    ],
  });
  // The notes' alignment (p_align of the first program header): QEMU divides by it.
  new DataView(elf.buffer).setUint32(52 + 28, 4, true);
  return elf;
}
