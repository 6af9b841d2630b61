/** String instructions that fault midway, ports and their permission bitmap. [SDM 2 REP; SDM 1 §19.5] */

import { at, by, type CaseCode } from "../guest/case-code.ts";
import { GDT, IO_MAP, PAGE, PLAY, pte, SELECTOR, SERIAL, TSS, TSS_BYTES, VARIABLE, WINDOW } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { descriptor } from "../guest/tables.ts";

const { P, W, U } = PAGE;
const DF = 0x400;
/** Scratch of the UART: what is written is read back. */
const SCRATCH = SERIAL + 7;
/** The state that matters in a string instruction. */
const STATE = ["rcx", "rsi", "rdi", "rax"] as const;

/** Page 1 of WINDOW is missing or read-only; page 0 is there. */
function faulting(name: string, second: bigint, body: (c: CaseCode) => void): SystemCase {
  return {
    name: `string: ${name}`,
    spec: "SDM 2 REP; SDM 3 §6.5",
    code(c) {
      c.terse()
        .poke(pte(1), second)
        .mov("rax", 0x1122_3344_5566_7788n)
        .logOnFault(...STATE);
      c.lea("r9", ".resumed").mov(at(VARIABLE.resume), "r9");
      body(c);
      c.mark("done").log("rcx", "rcx").log("rsi", "rsi").log("rdi", "rdi").label(".resumed");
      c.logMemory("last", at(PLAY + 0xff8))
        .logMemory("before", at(PLAY + 0xff0))
        .logMemory("next", at(PLAY + 0x1000));
      c.logMemory("pte0", at(pte(0))).logMemory("pte1", at(pte(1)));
    },
  };
}
const end = (back: number): number => WINDOW + 0x1000 - back;
const READ_ONLY = BigInt(PLAY + 0x1000) | P | U;
const MISSING = 0n;

const STRINGS: SystemCase[] = [
  faulting("STOSB into a missing page", MISSING, (c) => c.mov("edi", end(5)).mov("ecx", 16).rep().emit("STOSB")),
  faulting("STOSD into a missing page", MISSING, (c) => {
    c.mov("edi", end(12)).mov("ecx", 16).rep().emit("STOS", { size: 32 });
  }),
  faulting("STOSQ across into a missing page", MISSING, (c) => {
    c.mov("edi", end(12)).mov("ecx", 16).rep().emit("STOS", { size: 64 });
  }),
  faulting("STOSQ into a read-only page", READ_ONLY, (c) => {
    c.mov("edi", end(16)).mov("ecx", 16).rep().emit("STOS", { size: 64 });
  }),
  faulting("STOSB that ends with the page", MISSING, (c) => c.mov("edi", end(5)).mov("ecx", 5).rep().emit("STOSB")),
  faulting("STOSB of nothing at a missing page", MISSING, (c) =>
    c.mov("edi", end(0)).mov("ecx", 0).rep().emit("STOSB"),
  ),
  faulting("MOVSB, source missing", MISSING, (c) => {
    c.mov("esi", end(5))
      .mov("edi", PLAY + 0x2000)
      .mov("ecx", 16)
      .rep()
      .emit("MOVSB");
  }),
  faulting("MOVSB, destination missing", MISSING, (c) => {
    c.mov("esi", PLAY + 0x2000)
      .mov("edi", end(5))
      .mov("ecx", 16)
      .rep()
      .emit("MOVSB");
  }),
  faulting("MOVSQ, destination read-only", READ_ONLY, (c) => {
    c.mov("esi", PLAY + 0x2000)
      .mov("edi", end(24))
      .mov("ecx", 16)
      .rep()
      .emit("MOVS", { size: 64 });
  }),
  faulting("MOVSQ across the page's end, destination missing", MISSING, (c) => {
    c.mov("esi", PLAY + 0x2000)
      .mov("edi", end(20))
      .mov("ecx", 16)
      .rep()
      .emit("MOVS", { size: 64 });
  }),
  faulting("MOVSQ across the page's end, source missing", MISSING, (c) => {
    c.mov("esi", end(20))
      .mov("edi", PLAY + 0x2000)
      .mov("ecx", 16)
      .rep()
      .emit("MOVS", { size: 64 });
  }),
  faulting("MOVSB within a page, overlapping forwards", MISSING, (c) => {
    c.mov("esi", end(16)).mov("edi", end(15)).mov("ecx", 15).rep().emit("MOVSB");
  }),
  faulting("MOVSD within a page, overlapping by two bytes", MISSING, (c) => {
    c.mov("esi", end(16)).mov("edi", end(14)).mov("ecx", 3).rep().emit("MOVS", { size: 32 });
  }),
  faulting("MOVSB downwards into a missing page", MISSING, (c) => {
    c.poke(pte(1), BigInt(PLAY + 0x1000) | P | W | U)
      .poke(pte(0), 0n)
      .emit("PUSH", DF | 2)
      .emit("POPF");
    c.mov("esi", PLAY + 0x2000)
      .mov("edi", WINDOW + 0x1003)
      .mov("ecx", 16)
      .rep()
      .emit("MOVSB");
  }),
  faulting("LODSB, source missing", MISSING, (c) => c.mov("esi", end(3)).mov("ecx", 16).rep().emit("LODSB")),
  faulting("SCASB, not found before a missing page", MISSING, (c) => {
    c.mov("edi", end(6)).mov("ecx", 16).mov("al", 0xee).repne().emit("SCASB");
  }),
  faulting("CMPSB, equal up to a missing page", MISSING, (c) => {
    c.mov("esi", end(6)).mov("edi", end(6)).mov("ecx", 16).rep().emit("CMPSB");
  }),
  faulting("MOVSB by 32-bit addresses", MISSING, (c) => {
    c.mov("rsi", 0x5_0000_0000n + BigInt(PLAY))
      .mov("rdi", 0x7_0000_0000n + BigInt(end(3)))
      .mov("rcx", 0x9_0000_0010n);
    c.db(0x67, 0xf3, 0xa4);
  }),
  faulting("MOVSB by 32-bit addresses that end", MISSING, (c) => {
    c.mov("rsi", 0x5_0000_0000n + BigInt(PLAY))
      .mov("rdi", 0x7_0000_0000n + BigInt(end(3)))
      .mov("rcx", 0x9_0000_0002n);
    c.db(0x67, 0xf3, 0xa4);
  }),
  faulting("MOVSB by 32-bit addresses, count 0", MISSING, (c) => {
    c.mov("rsi", 0x5_0000_0000n).mov("rdi", 0x7_0000_0000n).mov("rcx", 0x9_0000_0000n).db(0x67, 0xf3, 0xa4);
  }),
  faulting("INSB into a missing page", MISSING, (c) =>
    c.mov("edi", end(2)).mov("edx", SCRATCH).mov("ecx", 4).rep().emit("INSB"),
  ),
  faulting("OUTSB from a missing page", MISSING, (c) =>
    c.mov("esi", end(2)).mov("edx", SCRATCH).mov("ecx", 4).rep().emit("OUTSB"),
  ),
];
/** Ports in ring 3 by IOPL and bitmap; SCRATCH is the port. */
function port(name: string, prepare: (c: CaseCode) => void, body: (c: CaseCode) => void, flags = 2): SystemCase {
  return {
    name: `ports: ${name}`,
    spec: "SDM 1 §19.5.2",
    code(c) {
      prepare(c);
      c.toUser(".user", { flags }).ring(3).label(".user").mov("edx", SCRATCH).mov("eax", 0x5a);
      body(c);
      c.mark("done");
    },
  };
}
/** Allows the ports of a byte of the bitmap that `mask` has at 0. */
const allow = (c: CaseCode, first: number, mask: number): CaseCode => c.mov(at(TSS + IO_MAP + first / 8, 8), mask);
const shorten = (c: CaseCode, limit: number): CaseCode =>
  c
    .poke(GDT + SELECTOR.tss, descriptor({ base: TSS, limit, attributes: 0x89 }))
    .mov("eax", SELECTOR.tss)
    .emit("LTR", "ax");
const FIRST = SCRATCH & ~7;
/** No device has these ports; the last of the eight is used. */
const EMPTY = 0x5e8;
const wide = (c: CaseCode): CaseCode => c.mov("edx", EMPTY + 7);
const outIn = (c: CaseCode): CaseCode => c.emit("OUT", "dx", "al").mov("al", 0).emit("IN", "al", "dx").log("al", "rax");
const PORTS: SystemCase[] = [
  port("IOPL 3 allows all", () => {}, outIn, 0x3002),
  port("IOPL 2 does not", () => {}, outIn, 0x2002),
  port("the bitmap allows one", (c) => allow(c, FIRST, 0x7f), outIn),
  port("the bitmap allows its neighbours alone", (c) => allow(c, FIRST, 0x80), outIn),
  port(
    "a word needs both bits",
    (c) => allow(c, EMPTY, 0x7f),
    (c) => wide(c).emit("IN", "ax", "dx"),
  ),
  port(
    "a word across two bytes of the bitmap",
    (c) => allow(allow(c, EMPTY, 0x7f), EMPTY + 8, 0xfe),
    (c) => wide(c).emit("IN", "ax", "dx").mark("read"),
  ),
  port(
    "a word whose second bit is in the next byte, refused",
    (c) => allow(c, EMPTY, 0),
    (c) => wide(c).emit("IN", "ax", "dx"),
  ),
  port(
    "a doubleword",
    (c) => allow(allow(c, EMPTY, 0), EMPTY + 8, 0xf8),
    (c) => wide(c).emit("IN", "eax", "dx").mark("read"),
  ),
  port(
    "a doubleword, the last refused",
    (c) => allow(allow(c, EMPTY, 0), EMPTY + 8, 0xfc),
    (c) => wide(c).emit("IN", "eax", "dx"),
  ),
  port(
    "IN imm8",
    (c) => allow(c, 0x60, 0xfd),
    (c) => c.emit("IN", "al", 0x61).mark("read").emit("IN", "al", 0x60),
  ),
  port(
    "port 0xffff as a byte",
    (c) => allow(c, 0xfff8, 0),
    (c) => c.mov("edx", 0xffff).emit("OUT", "dx", "al"),
  ),
  port(
    "port 0xffff as a word",
    (c) => allow(c, 0xfff8, 0).mov(at(TSS + IO_MAP + 0x2000, 8), 0xff),
    (c) => c.mov("edx", 0xffff).emit("OUT", "dx", "ax"),
  ),
  port("the bitmap ends before the port's byte", (c) => shorten(allow(c, FIRST, 0), IO_MAP + FIRST / 8 - 1), outIn),
  port("the bitmap ends with the port's byte", (c) => shorten(allow(c, FIRST, 0), IO_MAP + FIRST / 8), outIn),
  port("the bitmap ends one byte later", (c) => shorten(allow(c, FIRST, 0), IO_MAP + FIRST / 8 + 1), outIn),
  port("the bitmap's offset is beyond the TSS", (c) => allow(c, FIRST, 0).mov(at(TSS + 0x66, 16), TSS_BYTES), outIn),
  port(
    "the bitmap's offset lies in the TSS",
    (c) => c.mov(at(TSS + 0x66, 16), 4).mov(at(TSS + 4 + FIRST / 8, 16), 0),
    outIn,
  ),
  port("the TSS is too short for the offset", (c) => shorten(allow(c, FIRST, 0), 0x66), outIn),
  port(
    "INSB and OUTSB by the bitmap",
    (c) => allow(c, FIRST, 0x7f),
    (c) => {
      c.mov("rsi", "rsp")
        .emit("PUSH", 0x33)
        .emit("LEA", "rsi", by("rsp"))
        .emit("OUTSB")
        .emit("LEA", "rdi", by("rsp", 64, 1))
        .emit("INSB");
      c.logMemory("stack", by("rsp"));
    },
  ),
  port(
    "CLI and STI by IOPL 3",
    () => {},
    (c) => c.emit("STI").logFlags("fl").emit("CLI").logFlags("fl2"),
    0x3002,
  ),
  port(
    "a page of the bitmap is missing",
    (c) => {
      // The TSS moves so that its bitmap ends up in the window's page 1.
      c.mov("esi", TSS)
        .mov("edi", WINDOW + 0x1000 - 0x80)
        .mov("ecx", 0x1000 / 8)
        .rep()
        .emit("MOVS", { size: 64 });
      c.poke(GDT + SELECTOR.tss, descriptor({ base: WINDOW + 0x1000 - 0x80, limit: 0xfff, attributes: 0x89 }));
      c.mov("eax", SELECTOR.tss)
        .emit("LTR", "ax")
        .poke(pte(1), 0n)
        .mov("ebx", WINDOW + 0x1000)
        .emit("INVLPG", by("rbx"));
    },
    outIn,
  ),
  {
    name: "ports: ring 0 asks no bitmap",
    spec: "SDM 1 §19.5.2",
    code: (c) => outIn(c.mov("edx", SCRATCH).mov("eax", 0xa5)),
  },
];

export const STRING_FAULTS: readonly SystemCase[] = STRINGS;
export const PORT_ACCESS: readonly SystemCase[] = PORTS;
