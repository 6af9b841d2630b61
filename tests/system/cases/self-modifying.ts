/** Code that changes: its own page, another mapping of it, the next instruction, page tables. [SDM 3 §11.6, §8.1.3] */

import { mem } from "../../../src/isa/assembler.ts";
import { at, by, type CaseCode } from "../guest/case-code.ts";
import { PAGE, PLAY, pte, SELECTOR, VARIABLE, WINDOW } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";

const { P, W, U } = PAGE;
const ALL = P | W | U;
const RET = 0xc3;

/** The bytes of MOV EAX, `value`; RET as a quadword. */
const answer = (value: number): bigint => BigInt(0xb8) | (BigInt(value) << 8n) | (BigInt(RET) << 40n);

function changing(name: string, code: (c: CaseCode) => void): SystemCase {
  return { name, spec: "SDM 3 §8.1.3, §11.6", code };
}
/** Calls the code at `address` and logs what it answers. */
function ask(c: CaseCode, name: string, address: number): CaseCode {
  return c.mov("ebx", address).emit("CALL", "rbx").log(name, "rax");
}
/** A serializing instruction, which code changed through another address needs. */
function serialize(c: CaseCode): CaseCode {
  return c.emit("PUSH", "rbx").mov("eax", 0).emit("CPUID").emit("POP", "rbx");
}

/** Ways of writing the four bytes of the number in `answer` at PLAY. */
const WRITES: readonly (readonly [string, (c: CaseCode) => CaseCode])[] = [
  ["MOV", (c) => c.mov(at(PLAY + 1, 32), 2)],
  ["MOV of a byte", (c) => c.mov(at(PLAY + 1, 8), 2)],
  ["ADD", (c) => c.emit("ADD", at(PLAY + 1, 32), 1)],
  [
    "a locked XADD",
    (c) =>
      c
        .mov("ecx", 1)
        .lock()
        .emit("XADD", at(PLAY + 1, 32), "ecx"),
  ],
  ["XCHG", (c) => c.mov("ecx", 2).emit("XCHG", at(PLAY + 1, 32), "ecx")],
  [
    "CMPXCHG",
    (c) =>
      c
        .mov("eax", 1)
        .mov("ecx", 2)
        .emit("CMPXCHG", at(PLAY + 1, 32), "ecx"),
  ],
  [
    "PUSH",
    (c) =>
      c
        .mov("rdx", "rsp")
        .mov("esp", PLAY + 8)
        .mov("rax", answer(2))
        .emit("PUSH", "rax")
        .mov("rsp", "rdx"),
  ],
  [
    "STOSB",
    (c) =>
      c
        .mov("edi", PLAY + 1)
        .mov("eax", 2)
        .emit("STOSB"),
  ],
  [
    "REP STOSD",
    (c) =>
      c
        .mov("edi", PLAY + 1)
        .mov("eax", 2)
        .mov("ecx", 1)
        .rep()
        .emit("STOS", { size: 32 }),
  ],
  [
    "REP MOVSB",
    (c) =>
      c
        .poke(PLAY + 0x1000, 2n)
        .mov("esi", PLAY + 0x1000)
        .mov("edi", PLAY + 1)
        .mov("ecx", 4)
        .rep()
        .emit("MOVSB"),
  ],
  [
    "MOVUPS",
    (c) =>
      c
        .poke(PLAY + 0x1000, answer(2))
        .mov("ebx", PLAY + 0x1000)
        .mov("edi", PLAY)
        .db(0x0f, 0x10, 0x03, 0x0f, 0x11, 0x07),
  ],
  ["FIST", (c) => c.mov("ebx", PLAY + 1).db(0xd9, 0xe8, 0xd9, 0xe8, 0xde, 0xc1, 0xdb, 0x1b)],
  [
    "SGDT over it",
    (c) =>
      c
        .mov("ebx", PLAY + 0x10)
        .emit("SGDT", by("rbx"))
        .mov(at(PLAY + 1, 8), 2),
  ],
  ["BTS", (c) => c.mov(at(PLAY + 1, 8), 0).emit("BTS", at(PLAY + 1, 32), 1)],
  [
    "a quadword",
    (c) =>
      c
        .mov("ebx", PLAY + 1)
        .mov("rax", answer(2))
        .mov(at(PLAY), "rax"),
  ],
];
const BY_WRITE: SystemCase[] = WRITES.map(([name, write]) =>
  changing(`changed by ${name}`, (c) => {
    c.poke(PLAY, answer(1));
    ask(c, "before", PLAY);
    ask(c, "again", PLAY);
    write(c);
    ask(c, "after", PLAY);
    c.mov(at(PLAY + 1, 8), 9);
    ask(c, "last", PLAY);
  }),
);

const OWN: SystemCase[] = [
  changing("the next instruction", (c) => {
    c.lea("rdi", ".patch")
      .mov(by("rdi", 8, 1), 7)
      .label(".patch")
      .mov("eax", 1)
      .log("eax", "rax");
  }),
  changing("the number of the instruction after the next", (c) => {
    c.lea("rdi", ".patch")
      .mov(by("rdi", 8, 1), 7)
      .db(0x90)
      .label(".patch")
      .mov("eax", 1)
      .log("eax", "rax");
  }),
  changing("the next instruction in each round of a loop", (c) => {
    c.lea("rdi", ".patch")
      .mov("ecx", 5)
      .mov("edx", 0)
      .label(".loop")
      .emit("INC", by("rdi", 8, 1))
      .label(".patch");
    c.mov("eax", 1).emit("ADD", "edx", "eax").emit("DEC", "ecx").emit("JNE", ".loop").log("sum", "rdx");
  }),
  changing("an instruction behind, in a loop", (c) => {
    c.lea("rdi", ".patch").mov("ecx", 5).mov("edx", 0).label(".loop").label(".patch").mov("eax", 1);
    c.emit("ADD", "edx", "eax")
      .emit("INC", by("rdi", 8, 1))
      .emit("DEC", "ecx")
      .emit("JNE", ".loop")
      .log("sum", "rdx");
  }),
  changing("the storing instruction itself", (c) => {
    c.lea("rdi", ".patch")
      .label(".patch")
      .mov(by("rdi", 8, 2), 0x5a)
      .logMemory("byte", by("rdi", 8, 2));
  }),
  changing("the target of a jump ahead", (c) => {
    c.lea("rdi", ".jump")
      .mov(by("rdi", 8, 1), 2)
      .label(".jump")
      .db(0xeb, 0x00, 0x0c, 0x01, 0x0c, 0x02)
      .log("al", "rax");
  }),
  changing("an undefined instruction becomes NOPs", (c) => {
    c.terse()
      .attempt(() => c.label(".patch").db(0x0f, 0x0b))
      .lea("rdi", ".patch")
      .mov(by("rdi", 16), -0x6f70);
    c.lea("rax", ".over").mov(at(VARIABLE.resume), "rax").lea("rax", ".patch").emit("JMP", "rax").label(".over");
  }),
  changing("NOPs become an undefined instruction", (c) => {
    c.terse()
      .mov("ecx", 0)
      .label(".patch")
      .db(0x90, 0x90)
      .emit("TEST", "ecx", "ecx")
      .emit("JNE", ".over")
      .emit("INC", "ecx");
    c.lea("rdi", ".patch").mov(by("rdi", 16), 0x0b0f).emit("JMP", ".patch").label(".over").mark("wrong");
  }),
  changing("a REP STOS that runs over what follows it", (c) => {
    c.lea("rdi", ".patch")
      .mov("eax", 0x90)
      .mov("ecx", 2)
      .rep()
      .emit("STOSB")
      .label(".patch")
      .db(0x0f, 0x0b)
      .mark("done");
  }),
  changing("a handler changes what it returns to", (c) => {
    c.gate(6, { to: ".handler" }).label(".patch").db(0x0f, 0x0b).mov("eax", 1).log("eax", "rax").end();
    c.label(".handler")
      .lea("rdi", ".patch")
      .mov(by("rdi", 16), -0x6f70)
      .mov(by("rdi", 8, 3), 5)
      .emit("IRET", { size: 64 });
  }),
  changing("the frame of an exception falls on the code", (c) => {
    // RSP0 is such that the frame's SS overwrites the number of what lies there.
    c.poke(PLAY + 0xf8, answer(0x55)).poke(PLAY + 0x100, 0n);
    ask(c, "before", PLAY + 0xf8);
    c.gate(6, { to: ".handler" })
      .mov("rbp", "rsp")
      .mov("esp", PLAY + 0x100)
      .emit("UD2");
    c.label(".handler")
      .mov("rsp", "rbp")
      .logMemory("frame", at(PLAY + 0xf8))
      .poke(PLAY + 0xf8, answer(0x66));
    ask(c, "after", PLAY + 0xf8);
  }),
];

const MAPPED: SystemCase[] = [
  changing("through another mapping", (c) => {
    c.poke(PLAY, answer(1));
    ask(c, "before", PLAY);
    c.mov("ebx", WINDOW).mov(by("rbx", 32, 1), 2);
    serialize(c);
    ask(c, "after", PLAY);
    ask(c, "window", WINDOW);
    c.mov(at(PLAY + 1, 32), 3);
    serialize(c);
    ask(c, "window2", WINDOW);
  }),
  changing("another page comes in its place", (c) => {
    c.poke(PLAY, answer(1)).poke(PLAY + 0x1000, answer(2));
    ask(c, "before", WINDOW);
    c.poke(pte(0), BigInt(PLAY + 0x1000) | ALL)
      .mov("ebx", WINDOW)
      .emit("INVLPG", by("rbx"));
    ask(c, "after", WINDOW);
    c.poke(pte(0), BigInt(PLAY) | ALL)
      .mov("rax", "cr3")
      .mov("cr3", "rax");
    ask(c, "back", WINDOW);
  }),
  changing("the page goes away", (c) => {
    c.terse().poke(PLAY, answer(1));
    ask(c, "before", WINDOW);
    c.poke(pte(0), 0n)
      .mov("ebx", WINDOW)
      .emit("INVLPG", by("rbx"))
      .attempt(() => c.emit("CALL", "rbx"));
    c.poke(pte(0), BigInt(PLAY) | ALL);
    ask(c, "after", WINDOW);
  }),
  changing("two addresses of one page", (c) => {
    c.poke(PLAY, 0xc300_0000_0005_8d48n);
    ask(c, "one", PLAY);
    c.mov("ebx", WINDOW)
      .emit("CALL", "rbx")
      .emit("SUB", "rax", WINDOW - PLAY)
      .log("two", "rax");
  }),
  changing("an instruction over two pages, its second half changed", (c) => {
    c.mov(at(PLAY + 0xffe, 16), 0x01b8)
      .mov(at(PLAY + 0x1000, 32), 0)
      .mov(at(PLAY + 0x1003, 8), RET);
    ask(c, "before", PLAY + 0xffe);
    c.mov(at(PLAY + 0x1000, 8), 2);
    ask(c, "second", PLAY + 0xffe);
    c.mov(at(PLAY + 0xfff, 8), 3);
    ask(c, "first", PLAY + 0xffe);
  }),
  changing("an instruction over two pages, the second mapped anew", (c) => {
    c.mov(at(PLAY + 0xffe, 16), 0x01b8)
      .mov(at(PLAY + 0x1000, 32), 0)
      .mov(at(PLAY + 0x1003, 8), RET);
    c.mov(at(PLAY + 0x2000, 32), 0x11).mov(at(PLAY + 0x2003, 8), RET);
    ask(c, "before", WINDOW + 0xffe);
    c.poke(pte(1), BigInt(PLAY + 0x2000) | ALL)
      .mov("ebx", WINDOW + 0x1000)
      .emit("INVLPG", by("rbx"));
    ask(c, "after", WINDOW + 0xffe);
  }),
  changing("code that runs on into the next page, which is mapped anew", (c) => {
    c.mov(at(PLAY + 0xffb, 8), 0xb8)
      .mov(at(PLAY + 0xffc, 32), 1)
      .mov(at(PLAY + 0x1000, 8), RET);
    c.mov(at(PLAY + 0x2000, 16), 0x02b0).mov(at(PLAY + 0x2002, 8), RET);
    ask(c, "before", WINDOW + 0xffb);
    c.poke(pte(1), BigInt(PLAY + 0x2000) | ALL)
      .mov("ebx", WINDOW + 0x1000)
      .emit("INVLPG", by("rbx"));
    ask(c, "after", WINDOW + 0xffb);
  }),
  changing("a read-only code page is written through a writable one", (c) => {
    c.poke(PLAY, answer(1)).poke(pte(0), BigInt(PLAY) | P | U);
    ask(c, "before", WINDOW);
    c.mov(at(PLAY + 1, 32), 2);
    serialize(c);
    ask(c, "after", WINDOW);
  }),
  changing("the same bytes as 64-bit and as 32-bit code", (c) => {
    // 48 FF C0 C3: INC RAX; RET, or DEC EAX; INC EAX; RET.
    c.mov(at(PLAY, 32), BigInt.asIntN(32, 0xc3c0_ff48n))
      .mov("rax", 0xffff_ffffn)
      .mov("ebx", PLAY)
      .emit("CALL", "rbx")
      .log("q", "rax");
    c.lea("rax", ".compat")
      .mov(at(PLAY + 64, 32), "eax")
      .mov(at(PLAY + 68, 16), SELECTOR.kernelCode32)
      .mov("ebx", PLAY + 64);
    c.emit("JMP far-memory", mem({ base: "rbx" }), { size: 32 })
      .label(".compat")
      .bits(32)
      .mov("eax", -1)
      .mov("ebx", PLAY);
    c.emit("CALL", "ebx").log("d", "eax").emit("JMP far", { kind: "label", name: ".back" }, SELECTOR.kernelCode);
    c.label(".back").bits(64).mov("rax", 0xffff_ffffn).mov("ebx", PLAY).emit("CALL", "rbx").log("q2", "rax");
  }),
  changing("many versions of one page", (c) => {
    c.poke(PLAY, answer(0))
      .mov("ebp", 300)
      .mov("r8d", 0)
      .label(".loop")
      .mov(at(PLAY + 1, 32), "ebp")
      .mov("ebx", PLAY);
    c.emit("CALL", "rbx").emit("ADD", "r8", "rax").emit("DEC", "ebp").emit("JNE", ".loop").log("sum", "r8");
  }),
  changing("data next to code is written, the code stays", (c) => {
    c.poke(PLAY, answer(0x33))
      .mov("ebp", 100)
      .mov("r8d", 0)
      .label(".loop")
      .mov(at(PLAY + 0x80, 32), "ebp")
      .mov("ebx", PLAY);
    c.emit("CALL", "rbx")
      .emit("ADD", "r8", "rax")
      .emit("ADD", "r8d", at(PLAY + 0x80, 32))
      .emit("DEC", "ebp")
      .emit("JNE", ".loop");
    c.log("sum", "r8");
  }),
];

export const SELF_MODIFYING: readonly SystemCase[] = [...BY_WRITE, ...OWN, ...MAPPED];
