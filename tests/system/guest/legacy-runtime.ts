/**
 * The way out of long mode and back, and the handler of exceptions in 32-bit protected mode, which logs as the one of
 * long mode does. Ring 0's code there is flat and 32 bits wide, its selectors those of the long-mode guest's GDT.
 */

import { type Assembler, label, mem } from "../../../src/isa/assembler.ts";
import { RF } from "../../../src/isa/flags.ts";
import { at, by, CaseCode } from "./case-code.ts";
import {
  ALIAS,
  CR0_BASE,
  CR4_BASE,
  EFER_BASE,
  END_VECTOR,
  PD_LEGACY,
  PDPT_PAE,
  PLAY,
  PML4,
  SELECTOR,
  STACK,
  STUB32_BYTES,
  STUBS32,
  VARIABLE,
} from "./layout.ts";

const ERROR_CODES = [8, 10, 11, 12, 13, 14, 17, 21].reduce((mask, vector) => mask | (1 << vector), 0);
const MOST_EXCEPTIONS = 40;
const EFER = 0xc000_0080;
const VM = 1 << 17;
export const PG = 2 ** 31;
export const PSE = 1 << 4;
export const PAE = 1 << 5;

/** Stubs, handler, and `leave32`, which goes back to long mode and ends the case. In 32-bit code. */
export function legacyRuntime(asm: Assembler): void {
  asm.bits(32);
  if (asm.here !== BigInt(STUBS32)) throw new RangeError(`the 32-bit stubs lie at 0x${asm.here.toString(16)}`);
  for (let vector = 0; vector < 256; vector++) {
    // By SS: from virtual-8086 mode the others come as null.
    asm.mov({ ...at(VARIABLE.gpr, 32), segment: "ss" }, "eax").mov("eax", vector);
    asm.emit("JMP", vector === END_VECTOR ? "leave32" : "exception32");
    while (asm.here < BigInt(STUBS32 + (vector + 1) * STUB32_BYTES)) asm.db(0xcc);
  }
  const code = new CaseCode(asm, "exception32", { bits: 32 });
  asm
    .label("exception32")
    .emit("CLD")
    .mov({ ...at(VARIABLE.gpr + 8, 32), segment: "ss" }, "ecx");
  // The segments may be anything; CS must be good, and it can be read.
  asm.mov("ecx", SELECTOR.kernelData).mov("ds", "cx").mov("es", "cx").mov("esi", "esp").mov("ecx", "eax");
  code.log("v", "eax");
  asm.emit("CMP", "eax", 32).emit("JAE", "plain32").mov("eax", ERROR_CODES).emit("BT", "eax", "ecx");
  asm.emit("JAE", "plain32").mov("ebx", by("esi", 32)).emit("ADD", "esi", 4);
  code.log("e", "ebx");
  asm.label("plain32").emit("CMP", "ecx", 14).emit("JNE", "frame32");
  code.logSystem("cr2", "cr2");
  asm.label("frame32").emit("CMP", at(VARIABLE.terse, 32), 0).emit("JNE", "counted32");
  asm.mov("ebx", by("esi", 32)).mov("edx", "ebx").emit("SUB", "edx", at(VARIABLE.base, 32));
  asm.emit("CMP", "edx", 0x1000).emit("JAE", "notOwn32");
  code.log("ip", "edx").emit("JMP", "located32");
  asm.label("notOwn32").emit("SUB", "edx", ALIAS).emit("CMP", "edx", 0x1000).emit("JAE", "elsewhere32");
  code.log("uip", "edx").emit("JMP", "located32");
  asm.label("elsewhere32");
  code.log("rip", "ebx");
  asm.label("located32").emit("MOVZX", "ebx", by("esi", 16, 4));
  code.log("cs", "ebx");
  asm
    .mov("edx", by("esi", 32, 8))
    .mov("ebx", "edx")
    .emit("AND", "ebx", ~RF);
  code.log("fl", "ebx");
  // From another ring, or from virtual-8086 mode, the frame has a stack; from the latter four segments besides.
  asm
    .emit("TEST", "edx", VM)
    .emit("JNE", "outer32")
    .emit("MOVZX", "ebx", by("esi", 16, 4));
  asm.mov("eax", "cs").emit("XOR", "eax", "ebx").emit("TEST", "al", 3).emit("JNE", "outer32");
  asm.emit("ADD", "esi", 12).emit("JMP", "stack32");
  asm.label("outer32").mov("ebx", by("esi", 32, 12));
  code.log("sp", "ebx");
  asm.emit("MOVZX", "ebx", by("esi", 16, 16));
  code.log("ss", "ebx");
  asm.emit("TEST", "edx", VM).emit("JE", "noVirtual32");
  for (const [i, name] of ["es", "ds", "fs", "gs"].entries()) {
    asm.emit("MOVZX", "ebx", by("esi", 16, 20 + i * 4));
    code.log(name, "ebx");
  }
  asm.emit("ADD", "esi", 16);
  asm.label("noVirtual32").emit("ADD", "esi", 20);
  asm.label("stack32");
  code.log("h", "esi");
  asm.mov("ebx", "ss");
  code.log("hss", "ebx");
  asm.label("counted32").emit("INC", at(VARIABLE.count, 32)).emit("CMP", at(VARIABLE.count, 32), MOST_EXCEPTIONS);
  asm.emit("JA", "leave32").mov("eax", SELECTOR.kernelData);
  for (const segment of ["ss", "ds", "es"]) asm.mov(segment, "ax");
  asm.mov("esp", STACK.kernel).emit("PUSH", 2).emit("POPF").emit("JMP", at(VARIABLE.resume32, 32));

  asm.label("leave32").emit("CLI").emit("CLD").mov("eax", SELECTOR.kernelData);
  for (const segment of ["ss", "ds", "es"]) asm.mov(segment, "ax");
  asm
    .mov("eax", CR0_BASE - PG)
    .mov("cr0", "eax")
    .mov("eax", CR4_BASE)
    .mov("cr4", "eax")
    .mov("eax", PML4)
    .mov("cr3", "eax");
  asm
    .mov("ecx", EFER)
    .mov("eax", EFER_BASE)
    .mov("edx", 0)
    .emit("WRMSR")
    .mov("eax", CR0_BASE | 0)
    .mov("cr0", "eax");
  asm.emit("JMP far", label("finish"), SELECTOR.kernelCode).bits(64);
}

export type LegacyPaging = "none" | "two-level" | "pae";

/**
 * From 64-bit code of ring 0 to 32-bit protected mode, flat, with a TSS and the 32-bit IDT. What follows must end by
 * `end32`, or by an exception.
 */
export function legacyMode(
  c: CaseCode,
  {
    paging = "none",
    cr4,
    nxe = true,
    wp = true,
  }: { paging?: LegacyPaging; cr4?: number; nxe?: boolean; wp?: boolean } = {},
): CaseCode {
  c.lea("rax", ".legacy")
    .mov(at(PLAY, 32), "eax")
    .mov(at(PLAY + 4, 16), SELECTOR.kernelCode32)
    .mov("ebx", PLAY);
  c.emit("JMP far-memory", mem({ base: "rbx" }), { size: 32 })
    .label(".legacy")
    .bits(32);
  // PLAY's pattern comes back.
  c.mov(at(PLAY, 32), PLAY).mov(at(PLAY + 4, 32), 0);
  const cr0 = CR0_BASE - (wp ? 0 : 1 << 16);
  c.mov("eax", cr0 - PG)
    .mov("cr0", "eax")
    .mov("ecx", EFER)
    .mov("eax", nxe ? 0x801 : 1)
    .mov("edx", 0)
    .emit("WRMSR");
  const features = cr4 ?? (paging === "pae" ? 0x600 | PAE : paging === "two-level" ? 0x600 | PSE : 0x600);
  c.mov("eax", features).mov("cr4", "eax");
  if (paging !== "none") {
    c.mov("eax", paging === "pae" ? PDPT_PAE : PD_LEGACY)
      .mov("cr3", "eax")
      .mov("eax", BigInt.asIntN(32, BigInt(cr0)));
    c.mov("cr0", "eax");
  }
  c.emit("LIDT", mem({ label: "idtr32" }))
    .mov("eax", SELECTOR.tss32)
    .emit("LTR", "ax")
    .mov("esp", STACK.kernel);
  for (const register of ["eax", "ecx", "edx", "ebx", "ebp", "esi", "edi"]) c.mov(register, 0);
  return c;
}
/** Back to long mode, and the end. */
export function end32(c: CaseCode): CaseCode {
  return c.emit("JMP", "leave32").bits(64);
}

/** To ring 3 by IRETD: 32-bit code at a label. With paging ring 3 has its pages at ALIAS. */
export function toUser32(
  c: CaseCode,
  target: string,
  { alias = 0, flags = 2, cs = SELECTOR.userCode32 | 3, ss = SELECTOR.userData | 3 } = {},
): CaseCode {
  c.mov("eax", SELECTOR.userData | 3)
    .mov("ds", "ax")
    .mov("es", "ax");
  c.emit("PUSH", ss)
    .emit("PUSH", STACK.user + alias)
    .emit("PUSH", flags)
    .emit("PUSH", cs);
  return c
    .mov("eax", label(target))
    .emit("ADD", "eax", alias)
    .emit("PUSH", "eax")
    .mov("eax", 0)
    .emit("IRET", { size: 32 });
}
