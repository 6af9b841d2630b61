/** DR0 to DR3, DR6 and DR7: several breakpoints at once, their kinds and lengths, RF, ports, rings. [SDM 3 §18.2, §18.3] */

import { at, by, type CaseCode } from "../guest/case-code.ts";
import { ALIAS, PLAY, SELECTOR, STACK } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { tracer } from "./debug.ts";

const EXECUTE = 0;
const WRITE = 1;
const PORT = 2;
const ACCESS = 3;
const LENGTH = { 1: 0, 2: 1, 4: 3, 8: 2 } as const;
const TF = 0x100;
/** DR7's bits of one breakpoint: local, unless told. */
function settings(index: number, kind: number, bytes: keyof typeof LENGTH = 1, enable = 1): number {
  return (enable << (index * 2)) | ((kind | (LENGTH[bytes] << 2)) << (16 + index * 4));
}
/** Sets DR`index`; RAX changes. */
function place(c: CaseCode, index: number, address: number | string): CaseCode {
  if (typeof address === "string") c.lea("rax", address);
  else c.mov("eax", address);
  return c.mov(`dr${index}`, "rax");
}
function enable(c: CaseCode, ...bits: number[]): CaseCode {
  return c
    .mov(
      "eax",
      bits.reduce((sum, bit) => sum | bit, 0x400),
    )
    .mov("dr7", "rax");
}
/** A case whose #DBs are logged: where RIP points, DR6. With `resume` the handler sets RF. */
function debugged(name: string, body: (c: CaseCode) => unknown, { resume = false, ring = 0 } = {}): SystemCase {
  return {
    name,
    spec: "SDM 3 §18.2, §18.3",
    code(c) {
      tracer(c, { resume }).mov("ebx", PLAY + (ring === 3 ? ALIAS : 0));
      body(c);
      c.mark("done");
    },
  };
}
function user(c: CaseCode): CaseCode {
  return c
    .toUser(".user")
    .ring(3)
    .label(".user")
    .mov("ebx", ALIAS + PLAY);
}

const EXECUTION: SystemCase[] = [
  debugged(
    "two on instructions in a row",
    (c) => {
      place(c, 0, ".a");
      place(c, 1, ".b");
      enable(c, settings(0, EXECUTE), settings(1, EXECUTE)).db(0x90).label(".a").db(0x90).label(".b").db(0x90, 0x90);
    },
    { resume: true },
  ),
  debugged(
    "two on one instruction",
    (c) => {
      place(c, 1, ".a");
      place(c, 3, ".a");
      enable(c, settings(1, EXECUTE), settings(3, EXECUTE, 1, 2))
        .label(".a")
        .db(0x90, 0x90);
    },
    { resume: true },
  ),
  debugged("without RF it is met again, until DR7 is cleared", (c) => {
    place(c, 0, ".a");
    c.gate(1, { to: ".off" });
    enable(c, settings(0, EXECUTE)).label(".a").db(0x90).emit("JMP", ".over");
    c.label(".off").mov("rax", "dr6").log("dr6", "rax").mov("eax", 0x400).mov("dr7", "rax").emit("IRET", { size: 64 });
    c.label(".over");
  }),
  debugged(
    "in a loop, each time",
    (c) => {
      place(c, 0, ".a");
      enable(c, settings(0, EXECUTE)).mov("ecx", 3).label(".a").emit("DEC", "ecx").emit("JNE", ".a");
    },
    { resume: true },
  ),
  debugged(
    "on a jump to itself's target, after RF",
    (c) => {
      place(c, 2, ".a");
      enable(c, settings(2, EXECUTE, 1, 2))
        .emit("JMP", ".a")
        .db(0x90)
        .label(".a")
        .db(0x90);
    },
    { resume: true },
  ),
  debugged(
    "on REP STOS: once",
    (c) => {
      place(c, 0, ".a");
      enable(c, settings(0, EXECUTE)).mov("edi", PLAY).mov("ecx", 3).label(".a").rep().emit("STOSB").log("rcx", "rcx");
    },
    { resume: true },
  ),
  debugged(
    "on an instruction that faults: it comes first",
    (c) => {
      place(c, 0, ".a");
      c.gate(6, { to: ".handler" });
      enable(c, settings(0, EXECUTE)).label(".a").emit("UD2").emit("JMP", ".over");
      c.label(".handler").log("rsp", "rsp").mov("eax", 0).mov("dr7", "rax").emit("ADD", by("rsp"), 2);
      c.emit("IRET", { size: 64 }).label(".over");
    },
    { resume: true },
  ),
  debugged(
    "in ring 3",
    (c) => {
      c.lea("rax", ".a")
        .emit("LEA", "rax", by("rax", 64, ALIAS))
        .mov("dr0", "rax");
      enable(c, settings(0, EXECUTE, 1, 2));
      user(c).db(0x90).label(".a").db(0x90, 0x90);
    },
    { resume: true },
  ),
  debugged(
    "the other ring's address is another",
    (c) => {
      place(c, 0, ".a");
      enable(c, settings(0, EXECUTE, 1, 2));
      user(c).db(0x90).label(".a").db(0x90, 0x90);
    },
    { resume: true },
  ),
  debugged(
    "with single steps: fault, then trap",
    (c) => {
      place(c, 0, ".a");
      enable(c, settings(0, EXECUTE));
      c.emit("PUSH", TF | 2)
        .emit("POPF")
        .db(0x90)
        .label(".a")
        .db(0x90, 0x90)
        .emit("PUSH", 2)
        .emit("POPF");
    },
    { resume: true },
  ),
  debugged(
    "after STI",
    (c) => {
      place(c, 0, ".a");
      enable(c, settings(0, EXECUTE)).emit("STI").label(".a").db(0x90).emit("CLI");
    },
    { resume: true },
  ),
  debugged(
    "code that is written anew",
    (c) => {
      place(c, 0, ".a");
      enable(c, settings(0, EXECUTE)).lea("rdi", ".a").mov(by("rdi", 8), 0x40).label(".a").db(0x90, 0x90);
    },
    { resume: true },
  ),
  debugged("disabled again", (c) => {
    place(c, 0, ".a");
    enable(c, settings(0, EXECUTE));
    enable(c).label(".a").db(0x90);
  }),
  debugged(
    "moved while enabled",
    (c) => {
      place(c, 0, ".a");
      enable(c, settings(0, EXECUTE));
      place(c, 0, ".b").label(".a").db(0x90).label(".b").db(0x90);
    },
    { resume: true },
  ),
];

const DATA: SystemCase[] = [
  ...([1, 2, 4, 8] as const).flatMap((bytes) =>
    [...new Set([-1, 0, bytes - 1, bytes])].map((offset) =>
      debugged(`${bytes} bytes, a byte written at ${offset}`, (c) => {
        place(c, 0, PLAY + 64);
        enable(c, settings(0, WRITE, bytes))
          .mov(by("rbx", 8, 64 + offset), "al")
          .db(0x90);
      }),
    ),
  ),
  debugged("the low bits of the address do not count", (c) => {
    place(c, 0, PLAY + 67);
    enable(c, settings(0, WRITE, 4))
      .mov(by("rbx", 8, 64), "al")
      .db(0x90);
  }),
  debugged("two met by one write", (c) => {
    place(c, 0, PLAY);
    place(c, 2, PLAY + 4);
    enable(c, settings(0, WRITE, 4), settings(2, ACCESS, 4))
      .mov(by("rbx"), "rcx")
      .db(0x90);
  }),
  debugged("two on one page, one met", (c) => {
    place(c, 0, PLAY);
    place(c, 1, PLAY + 0x800);
    enable(c, settings(0, WRITE, 4), settings(1, WRITE, 4))
      .mov(by("rbx", 32, 0x800), "ecx")
      .db(0x90);
  }),
  debugged("a write that crosses pages", (c) => {
    place(c, 0, PLAY + 0x1000);
    enable(c, settings(0, WRITE, 1))
      .mov(by("rbx", 64, 0xffc), "rcx")
      .db(0x90);
  }),
  debugged("ADD to memory", (c) => {
    place(c, 0, PLAY);
    enable(c, settings(0, WRITE, 4))
      .emit("ADD", by("rbx", 32), "ecx")
      .db(0x90);
  }),
  debugged("CMP with memory is no write", (c) => {
    place(c, 0, PLAY);
    enable(c, settings(0, WRITE, 4))
      .emit("CMP", by("rbx", 32), "ecx")
      .db(0x90);
  }),
  debugged("REP MOVS, its source watched", (c) => {
    place(c, 0, PLAY + 2);
    enable(c, settings(0, ACCESS, 1))
      .mov("esi", PLAY)
      .mov("edi", PLAY + 256)
      .mov("ecx", 5)
      .rep()
      .emit("MOVSB");
    c.log("rcx", "rcx");
  }),
  debugged("CALL, its return address watched", (c) => {
    place(c, 0, STACK.kernel - 8);
    // On another stack, lest the frame be pushed there.
    c.gate(1, { to: ".traced", ist: 1 });
    enable(c, settings(0, ACCESS, 8))
      .emit("CALL", ".callee")
      .emit("JMP", ".over")
      .label(".callee")
      .db(0x90);
    c.emit("RET", { size: 64 }).label(".over");
  }),
  debugged("with single steps: one trap for both", (c) => {
    place(c, 0, PLAY);
    enable(c, settings(0, WRITE, 4));
    c.emit("PUSH", TF | 2)
      .emit("POPF")
      .mov(by("rbx", 32), "eax")
      .db(0x90)
      .emit("PUSH", 2)
      .emit("POPF");
  }),
  debugged("in ring 3, a page of its own", (c) => {
    c.mov("eax", ALIAS + PLAY).mov("dr0", "rax");
    enable(c, settings(0, WRITE, 4, 2));
    user(c).mov(by("rbx", 32), "eax").db(0x90);
  }),
  debugged("an SSE store", (c) => {
    place(c, 3, PLAY + 8);
    enable(c, settings(3, WRITE, 4)).db(0x0f, 0x29, 0x03, 0x90);
  }),
  debugged("FXSAVE", (c) => {
    place(c, 3, PLAY + 160);
    enable(c, settings(3, WRITE, 4)).db(0x0f, 0xae, 0x03, 0x90);
  }),
  debugged("a fault in the same instruction: nothing", (c) => {
    place(c, 0, PLAY);
    c.gate(13, { to: ".handler" }).mov("rdi", 0x8000_0000_0000n).mov("esi", PLAY);
    enable(c, settings(0, ACCESS, 1))
      .emit("MOVSB")
      .emit("JMP", ".over");
    c.label(".handler").mov("rax", "dr6").log("dr6h", "rax").end().label(".over");
  }),
  debugged("LOCK XADD", (c) => {
    place(c, 0, PLAY);
    enable(c, settings(0, WRITE, 4))
      .lock()
      .emit("XADD", by("rbx", 32), "ecx")
      .db(0x90);
  }),
  debugged("after it is disabled the page is as others", (c) => {
    place(c, 0, PLAY);
    enable(c, settings(0, WRITE, 4))
      .mov(by("rbx", 32), "eax")
      .db(0x90);
    enable(c).mov(by("rbx", 32), "eax").db(0x90);
  }),
  debugged("LE and GE change nothing", (c) => {
    place(c, 0, PLAY);
    enable(c, settings(0, WRITE, 4), 0x300)
      .mov(by("rbx", 32), "eax")
      .db(0x90);
  }),
  debugged("MOV SS from watched memory: after the next one", (c) => {
    c.mov(at(PLAY, 16), SELECTOR.kernelData);
    place(c, 0, PLAY);
    enable(c, settings(0, ACCESS, 2))
      .mov("ss", by("rbx", 16))
      .db(0x90, 0x90);
  }),
];

const CR4_DE = 8;
function ported(name: string, body: (c: CaseCode) => unknown, de = true): SystemCase {
  return debugged(`port: ${name}`, (c) => {
    c.mov("rax", "cr4")
      .emit(de ? "OR" : "AND", "eax", de ? CR4_DE : ~CR4_DE)
      .mov("cr4", "rax");
    place(c, 1, 0x80);
    enable(c, settings(1, PORT, 2));
    body(c);
    c.mov("rax", "cr4").emit("AND", "eax", ~CR4_DE).mov("cr4", "rax");
  });
}
const PORTS: SystemCase[] = [
  ported("OUT", (c) => c.emit("OUT", 0x80, "al").db(0x90)),
  ported("IN", (c) => c.emit("IN", "al", 0x81).db(0x90)),
  ported("IN of a port beside it", (c) => c.emit("IN", "al", 0x82).db(0x90)),
  ported("a wide OUT that reaches it", (c) => c.mov("edx", 0x7e).emit("OUT", "dx", "eax").db(0x90)),
  ported("OUTSB", (c) => c.mov("edx", 0x80).mov("esi", PLAY).emit("OUTSB").db(0x90)),
  ported("memory of that number is none", (c) => c.mov("al", at(0x80, 8)).db(0x90)),
];

const REGISTERS: SystemCase[] = [
  ...[0, 0xffff_ffff, 0x5555_5555, 0xaaaa_aaaa].map((value) =>
    debugged(`DR6 and DR7 read back: ${value.toString(16)}`, (c) => {
      c.mov("rax", BigInt(value)).mov("dr6", "rax").mov("rcx", "dr6").log("dr6", "rcx");
      // Nothing is enabled, lest it be met.
      c.mov("rax", BigInt(value) & ~0x20ffn)
        .mov("dr7", "rax")
        .mov("rcx", "dr7")
        .log("dr7", "rcx")
        .mov("eax", 0x400);
      c.mov("dr7", "rax");
    }),
  ),
  debugged("DR0 holds 64 bits", (c) =>
    c.mov("rax", 0x1234_5678_9abc_def0n).mov("dr0", "rax").mov("rcx", "dr0").log("dr0", "rcx"),
  ),
];

export const BREAKPOINTS: readonly SystemCase[] = [...EXECUTION, ...DATA, ...PORTS, ...REGISTERS];
