/** Single steps and breakpoints; alignment checks. [SDM 3 §17.2, §17.3; §6.15, interrupt 17] */

import { mem } from "../../../src/isa/assembler.ts";
import { at, by, type CaseCode } from "../guest/case-code.ts";
import { ALIAS, CR0_BASE, PLAY, SELECTOR, STACK, VARIABLE } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";

const TF = 0x100;
const AC = 0x4_0000;
const AM = 0x4_0000;
const NON_CANONICAL = 0x8000_0000_0000n;
const DR6_START = 0xffff_0ff0;

/**
 * Puts a handler of #DB in place that logs where RIP points (from the case's start), and DR6, and goes on; the last 16
 * bits of the flags too where `flags`. `before` names what the handler does besides.
 */
export function tracer(c: CaseCode, { flags = false, clear = 0, resume = false } = {}): CaseCode {
  c.gate(1, { to: ".traced" }).emit("JMP", ".begin").label(".traced");
  c.mov(at(VARIABLE.free), "rbx").mov("rbx", by("rsp")).emit("SUB", "rbx", at(VARIABLE.base));
  // In ring 3 the case lies higher.
  c.emit("AND", "rbx", ALIAS - 1)
    .log("at", "rbx")
    .mov("rbx", "dr6")
    .emit("AND", "ebx", 0xf00f)
    .log("dr6", "rbx");
  c.mov("rbx", DR6_START).mov("dr6", "rbx");
  if (flags) c.emit("MOVZX", "ebx", by("rsp", 16, 16)).log("fl", "rbx");
  if (clear !== 0) c.emit("AND", by("rsp", 32, 16), ~clear);
  if (resume) c.emit("OR", by("rsp", 32, 16), 0x1_0000);
  return c.mov("rbx", at(VARIABLE.free)).emit("IRET", { size: 64 }).label(".begin");
}
/** Sets TF: the instruction after this one is the first that is stepped. */
function step(c: CaseCode, flags = 2): CaseCode {
  return c.emit("PUSH", TF | flags).emit("POPF");
}
function stop(c: CaseCode): CaseCode {
  return c.emit("PUSH", 2).emit("POPF");
}

function stepped(name: string, body: (c: CaseCode) => void, spec = "SDM 3 §17.3.1.4"): SystemCase {
  return {
    name: `single step: ${name}`,
    spec,
    code(c) {
      tracer(c);
      step(c);
      body(c);
      stop(c);
    },
  };
}
const STEPS: SystemCase[] = [
  stepped("three instructions", (c) => c.db(0x90).mov("eax", 5).emit("INC", "eax")),
  stepped("a jump", (c) => c.emit("JMP", ".over").db(0x90).label(".over")),
  stepped("a conditional jump that is taken, one that is not", (c) => {
    c.emit("XOR", "eax", "eax").emit("JE", ".over").label(".over").emit("JNE", ".over");
  }),
  stepped("CALL and RET", (c) =>
    c.emit("CALL", ".callee").emit("JMP", ".over").label(".callee").emit("RET").label(".over"),
  ),
  stepped("REP STOS traps after each", (c) => {
    c.mov("edi", PLAY).mov("ecx", 3).rep().emit("STOSB").log("rcx", "rcx");
  }),
  stepped("REP MOVS of nothing", (c) => c.mov("ecx", 0).rep().emit("MOVSB")),
  stepped(
    "MOV SS holds the trap back",
    (c) => c.mov("eax", SELECTOR.kernelData).mov("ss", "ax").db(0x90, 0x90),
    "SDM 3 §6.8.3",
  ),
  stepped("PUSHF shows TF", (c) => c.emit("PUSHF").emit("POP", "rax").log("fl", "rax")),
  stepped("POPF that clears TF is trapped itself no more", (c) => stop(c).db(0x90)),
  stepped("CPUID", (c) => c.mov("eax", 0).emit("CPUID")),
  stepped("a store to the instruction after the next", (c) => {
    c.lea("rdi", ".patch").mov(by("rdi", 8), 0x90).db(0x90).label(".patch").emit("HLT");
  }),
  stepped("PUSH SS is none, POP FS traps", (c) => c.emit("PUSH FS").emit("POP FS")),
  {
    name: "single step: INT clears TF, IRETQ brings it back",
    spec: "SDM 3 §17.3.1.4; §6.12.1.3",
    code(c) {
      tracer(c).gate(0x40, { to: ".handler" });
      step(c).emit("INT", 0x40).db(0x90);
      stop(c).end().label(".handler").logFlags("in").db(0x90).emit("IRET", { size: 64 });
    },
  },
  {
    name: "single step: a fault comes first, its handler is not stepped",
    spec: "SDM 3 §6.9, §17.3.1.4",
    code(c) {
      tracer(c).gate(6, { to: ".handler" });
      step(c).emit("UD2").label(".next").db(0x90);
      stop(c).end().label(".handler").logFlags("in").emit("ADD", by("rsp"), 2).emit("IRET", { size: 64 });
    },
  },
  {
    name: "single step: SYSCALL masks TF",
    spec: "SDM 2 SYSCALL",
    code(c) {
      tracer(c).lea("rax", ".entry").mov("rdx", 0).mov("ecx", 0xc000_0082).emit("WRMSR");
      c.mov("eax", 0x100).mov("ecx", 0xc000_0084).emit("WRMSR");
      step(c).emit("SYSCALL").label(".entry").log("r11", "r11").logFlags("fl");
    },
  },
  {
    name: "single step: SYSCALL with TF traps after it",
    spec: "SDM 2 SYSCALL",
    code(c) {
      tracer(c).lea("rax", ".entry").mov("rdx", 0).mov("ecx", 0xc000_0082).emit("WRMSR");
      step(c).emit("SYSCALL").db(0x90).label(".entry").db(0x90);
      stop(c);
    },
  },
  {
    name: "single step: in ring 3, by IRETQ",
    spec: "SDM 3 §17.3.1.4",
    code(c) {
      tracer(c)
        .toUser(".user", { flags: TF | 2 })
        .ring(3)
        .label(".user")
        .db(0x90)
        .emit("INC", "eax")
        .mark("done");
    },
  },
  {
    name: "single step: IRETQ sets TF, the next instruction is the first",
    spec: "SDM 3 §17.3.1.4",
    code(c) {
      tracer(c)
        .emit("PUSH", SELECTOR.kernelData)
        .emit("PUSH", STACK.kernel)
        .emit("PUSH", TF | 2);
      c.emit("PUSH", SELECTOR.kernelCode).lea("rax", ".to").emit("PUSH", "rax").emit("IRET", { size: 64 }).label(".to");
      c.db(0x90);
      stop(c);
    },
  },
  {
    name: "single step: the handler sees DR6.BS, and TF in the frame",
    spec: "SDM 3 §17.2.3",
    code(c) {
      tracer(c, { flags: true, clear: TF });
      step(c).db(0x90).db(0x90).logFlags("after");
    },
  },
];

/** DR7 for breakpoint 0: its local enabling bit, kind and length. */
const BREAK = { execute: 0, write: 1, access: 3 } as const;
const LENGTH = { 1: 0, 2: 1, 4: 3, 8: 2 } as const;
function watch(c: CaseCode, kind: keyof typeof BREAK, length: keyof typeof LENGTH, address: number | string): CaseCode {
  if (typeof address === "string") c.lea("rax", address);
  else c.mov("eax", address);
  c.mov("dr0", "rax").mov("eax", 0x401 | (BREAK[kind] << 16) | (LENGTH[length] << 18));
  return c.mov("dr7", "rax");
}
function broken(
  name: string,
  kind: keyof typeof BREAK,
  length: keyof typeof LENGTH,
  address: number | string,
  body: (c: CaseCode) => void,
): SystemCase {
  return {
    name: `breakpoint: ${name}`,
    spec: "SDM 3 §17.2, §17.3.1",
    code(c) {
      tracer(c, { resume: kind === "execute" }).mov("ebx", PLAY);
      watch(c, kind, length, address);
      body(c);
      c.mark("done");
    },
  };
}
const BREAKPOINTS: SystemCase[] = [
  broken("an instruction", "execute", 1, ".here", (c) => c.db(0x90).label(".here").db(0x90)),
  broken("an instruction that is not reached", "execute", 1, ".here", (c) =>
    c.emit("JMP", ".over").label(".here").db(0x90).label(".over"),
  ),
  broken("the middle of an instruction", "execute", 1, ".here", (c) => c.db(0xb8).label(".here").db(1, 0, 0, 0)),
  broken("a write", "write", 4, PLAY, (c) => c.mov(by("rbx", 32), "eax").db(0x90)),
  broken("a read where writes are watched", "write", 4, PLAY, (c) => c.mov("eax", by("rbx", 32)).db(0x90)),
  broken("a read", "access", 4, PLAY, (c) => c.mov("eax", by("rbx", 32)).db(0x90)),
  broken("a write next to it", "write", 4, PLAY, (c) => c.mov(by("rbx", 32, 4), "eax").db(0x90)),
  broken("a write of a byte in it", "write", 4, PLAY, (c) => c.mov(by("rbx", 8, 3), "al").db(0x90)),
  broken("a wide write that reaches it", "write", 1, PLAY + 7, (c) => c.mov(by("rbx"), "rax").db(0x90)),
  broken("8 bytes", "write", 8, PLAY, (c) => c.mov(by("rbx", 8, 7), "al").db(0x90)),
  broken("PUSH", "write", 8, STACK.kernel - 8, (c) => c.emit("PUSH", "rax").db(0x90)),
  broken("REP STOS", "write", 1, PLAY + 2, (c) =>
    c.mov("edi", PLAY).mov("ecx", 4).rep().emit("STOSB").log("rcx", "rcx"),
  ),
  broken("a write under MOV SS", "write", 4, PLAY, (c) => {
    c.mov(at(PLAY + 64, 16), SELECTOR.kernelData)
      .mov("ss", by("rbx", 16, 64))
      .mov(by("rbx", 32), "eax")
      .db(0x90);
  }),
];

/** AC and AM in ring 3. */
function aligned(name: string, body: (c: CaseCode) => void, { am = true, ac = true } = {}): SystemCase {
  return {
    name: `alignment: ${name}`,
    spec: "SDM 3 §6.15, interrupt 17",
    code(c) {
      c.mov("eax", am ? CR0_BASE | AM : CR0_BASE).mov("cr0", "rax");
      c.toUser(".user", { flags: ac ? AC | 2 : 2 })
        .ring(3)
        .label(".user")
        .mov("ebx", ALIAS + PLAY + 0x101);
      body(c);
      c.mark("done");
    },
  };
}
const ALIGNMENT: SystemCase[] = [
  aligned("a word", (c) => c.mov("ax", by("rbx", 16))),
  aligned("a doubleword", (c) => c.mov("eax", by("rbx", 32, 1))),
  aligned("a quadword", (c) => c.mov("rax", by("rbx", 64, 3))),
  aligned("a byte", (c) => c.mov("al", by("rbx", 8))),
  aligned("a store", (c) => c.mov(by("rbx", 32), "eax")),
  aligned("an addition", (c) => c.emit("ADD", by("rbx", 32), "eax")),
  aligned("aligned ones", (c) =>
    c
      .mov("rax", by("rbx", 64, 7))
      .mov("eax", by("rbx", 32, 3))
      .mov("ax", by("rbx", 16, 1)),
  ),
  aligned("without AM", (c) => c.mov("eax", by("rbx", 32)), { am: false }),
  aligned("without AC", (c) => c.mov("eax", by("rbx", 32)), { ac: false }),
  aligned(
    "AC by POPF",
    (c) =>
      c
        .mov("eax", by("rbx", 32))
        .emit("PUSH", AC | 2)
        .emit("POPF")
        .mov("eax", by("rbx", 32)),
    { ac: false },
  ),
  aligned("PUSH", (c) =>
    c
      .mov("ecx", ALIAS + STACK.user - 4)
      .mov("rsp", "rcx")
      .emit("PUSH", "rax"),
  ),
  aligned("CALL and RET", (c) =>
    c
      .mov("ecx", ALIAS + STACK.user - 4)
      .mov("rsp", "rcx")
      .emit("CALL", ".callee")
      .label(".callee"),
  ),
  aligned("MOVUPS needs no alignment to 16, but to 8 it may", (c) => c.mov("eax", by("rbx", 32, 3))),
  aligned("MOVSD of SSE", (c) => c.db(0xf2, 0x0f, 0x10, 0x03)),
  aligned("FLD of 64 bits", (c) => c.db(0xdd, 0x03)),
  aligned("MOVS", (c) =>
    c
      .mov("rsi", "rbx")
      .emit("LEA", "rdi", by("rbx", 64, 7))
      .emit("MOVS", { size: 32 }),
  ),
  aligned("a page fault comes after", (c) =>
    c.mov("ebx", 0x9000_0001 | 0).mov("eax", mem({ base: "rbx", bits: 32, disp: 0 })),
  ),
  aligned("a non-canonical address comes before", (c) => c.mov("rbx", NON_CANONICAL + 1n).mov("eax", by("rbx", 32))),
  aligned("XCHG", (c) => c.emit("XCHG", by("rbx", 32), "eax")),
  aligned("CMPXCHG8B", (c) => c.db(0x0f, 0xc7, 0x4b, 0x03)),
  {
    name: "alignment: ring 0 is not checked",
    spec: "SDM 3 §6.15, interrupt 17",
    code(c) {
      c.mov("eax", CR0_BASE | AM)
        .mov("cr0", "rax")
        .emit("PUSH", AC | 2)
        .emit("POPF")
        .mov("ebx", PLAY + 1)
        .mov("eax", by("rbx", 32));
      c.mark("done");
    },
  },
  {
    name: "alignment: an exception from ring 3 clears AC in its handler's CPL 0",
    spec: "SDM 3 §6.15, interrupt 17",
    code(c) {
      c.mov("eax", CR0_BASE | AM)
        .mov("cr0", "rax")
        .gate(6, { to: ".handler" });
      c.toUser(".user", { flags: AC | 2 })
        .ring(3)
        .label(".user")
        .emit("UD2");
      c.ring(0)
        .label(".handler")
        .logFlags("in")
        .mov("ebx", PLAY + 1)
        .mov("eax", by("rbx", 32))
        .mark("done");
    },
  },
];

export const DEBUG: readonly SystemCase[] = [...STEPS, ...BREAKPOINTS, ...ALIGNMENT];
