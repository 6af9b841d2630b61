/** Exceptions that instructions raise in ring 0 and ring 3 of 64-bit mode. [SDM 3 §6.15, SDM 2] */

import { mem } from "../../../src/isa/assembler.ts";
import { by, type CaseCode } from "../guest/case-code.ts";
import { CR0_BASE, CR4_BASE, SELECTOR } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";

const NON_CANONICAL = 0x8000_0000_0000n;
const MP = 2;
const EM = 4;
const TS = 8;

/** The same code in both rings. */
function inBoth(name: string, spec: string, code: (c: CaseCode) => void): SystemCase[] {
  return ([0, 3] as const).map((ring) => ({ name: `${name}, ring ${ring}`, spec, ring, code }));
}

/** Ring 3 may not. */
function privileged(name: string, code: (c: CaseCode) => void): SystemCase {
  return { name: `${name} in ring 3`, spec: `SDM 2 ${name.split(" ")[0]}`, ring: 3, code };
}

const UNDEFINED: readonly (readonly [string, readonly number[]])[] = [
  ["PUSH ES", [0x06]],
  ["PUSH CS", [0x0e]],
  ["DAA", [0x27]],
  ["AAS", [0x3f]],
  ["PUSHA", [0x60]],
  ["BOUND", [0x62, 0x00]],
  ["82 /0", [0x82, 0xc0, 0x01]],
  ["CALL far direct", [0x9a, 0, 0, 0, 0, 8, 0]],
  ["LES, a wrong VEX", [0xc4, 0xc0]],
  ["INTO", [0xce]],
  ["AAM", [0xd4, 0x0a]],
  ["SALC", [0xd6]],
  ["JMP far direct", [0xea, 0, 0, 0, 0, 8, 0]],
  ["LOCK NOP", [0xf0, 0x90]],
  ["LOCK ADD of registers", [0xf0, 0x01, 0xc0]],
  ["LOCK MOV to memory", [0xf0, 0x89, 0x00]],
  ["MOV CS", [0x8e, 0xc8]],
  ["MOV segment 7", [0x8e, 0xf8]],
  ["8F /1", [0x8f, 0xc8]],
  ["C6 /1", [0xc6, 0xc8, 0]],
  ["FE /2", [0xfe, 0xd0]],
  ["FF /7", [0xff, 0xf8]],
  ["CALL far to a register", [0xff, 0xd8]],
  ["LEA of a register", [0x8d, 0xc0]],
  ["UD0", [0x0f, 0xff, 0xc0]],
  ["UD1", [0x0f, 0xb9, 0xc0]],
  ["0F 04", [0x0f, 0x04]],
  ["0F 0A", [0x0f, 0x0a]],
  ["MOV from CR1", [0x0f, 0x20, 0xc8]],
  ["MOV from CR5", [0x0f, 0x20, 0xe8]],
  ["MOV from CR15", [0x44, 0x0f, 0x20, 0xf8]],
  ["MOV from DR8", [0x44, 0x0f, 0x21, 0xc0]],
  ["RSM", [0x0f, 0xaa]],
  ["CMPXCHG8B of a register", [0x0f, 0xc7, 0xc8]],
  ["INVLPG of a register other than F8 to FA", [0x0f, 0x01, 0xfd]],
  ["LGDT of a register", [0x0f, 0x01, 0xd3]],
];

const DIVIDES: SystemCase[] = [
  ...inBoth("DIV by zero", "SDM 2 DIV", (c) => c.mov("eax", 5).emit("DIV", "ecx")),
  ...inBoth("IDIV of the smallest by -1", "SDM 2 IDIV", (c) =>
    c
      .mov("rax", 1n << 63n)
      .emit("CWD", { size: 64 })
      .mov("rcx", -1)
      .logOnFault("rax", "rdx")
      .emit("IDIV", "rcx"),
  ),
  ...inBoth("DIV overflows 8 bits", "SDM 2 DIV", (c) =>
    c.mov("eax", 0x200).mov("cl", 2).logOnFault("rax").emit("DIV", "cl"),
  ),
  ...inBoth("DIV overflows 64 bits", "SDM 2 DIV", (c) =>
    c.mov("edx", 2).mov("ecx", 2).logOnFault("rdx").emit("DIV", "rcx"),
  ),
];

const INTERRUPTS: SystemCase[] = [
  ...inBoth("INT1", "SDM 2 INT n", (c) => c.emit("INT1")),
  { name: "INT3 in ring 0", spec: "SDM 2 INT n", code: (c) => c.emit("INT3") },
  { name: "INT3 in ring 3 by a gate of DPL 0", spec: "SDM 3 §6.12.1.2", ring: 3, code: (c) => c.emit("INT3") },
  { name: "INT 3 in ring 0", spec: "SDM 2 INT n", code: (c) => c.emit("INT", 3) },
  { name: "INT 0x80 in ring 0", spec: "SDM 2 INT n", code: (c) => c.emit("INT", 0x80) },
  { name: "INT 0x80 in ring 3 by a gate of DPL 0", spec: "SDM 3 §6.12.1.2", ring: 3, code: (c) => c.emit("INT", 0x80) },
  {
    name: "INT 0x80 in ring 3 by a gate of DPL 3",
    spec: "SDM 3 §6.12.1.2",
    code: (c) => withGate(c, 0x80, 3).emit("INT", 0x80),
  },
  { name: "INT3 in ring 3 by a gate of DPL 3", spec: "SDM 3 §6.12.1.2", code: (c) => withGate(c, 3, 3).emit("INT3") },
  { name: "INT 13 pushes no error code", spec: "SDM 2 INT n", code: (c) => codeless(c).emit("INT", 13).label(".end") },
  { name: "INT 6 in ring 3 by a gate of DPL 0", spec: "SDM 3 §6.12.1.2", ring: 3, code: (c) => c.emit("INT", 6) },
];

/** A stub that notes that it was reached, with the pushed RIP at the top of the stack. */
function codeless(c: CaseCode): CaseCode {
  return c
    .gate(13, { to: ".handler" })
    .emit("JMP", ".go")
    .label(".handler")
    .mov("rbx", by("rsp", 64, 8))
    .log("cs", "rbx")
    .emit("JMP", ".end")
    .label(".go");
}

/** A gate, then ring 3. */
function withGate(c: CaseCode, vector: number, dpl: number): CaseCode {
  const entry = vector * 16;
  return c
    .mov("rbx", mem({ disp: 0x20_1000 + entry, bits: 64 }))
    .mov("rcx", BigInt(dpl) << 45n)
    .emit("OR", "rbx", "rcx")
    .mov(mem({ disp: 0x20_1000 + entry, bits: 64 }), "rbx")
    .toUser(".user")
    .ring(3)
    .label(".user");
}

const PRIVILEGED: SystemCase[] = [
  privileged("HLT", (c) => c.emit("HLT")),
  privileged("CLI", (c) => c.emit("CLI")),
  privileged("STI", (c) => c.emit("STI")),
  privileged("CLTS", (c) => c.emit("CLTS")),
  privileged("INVD", (c) => c.emit("INVD")),
  privileged("WBINVD", (c) => c.emit("WBINVD")),
  privileged("RDMSR", (c) => c.emit("RDMSR")),
  privileged("WRMSR", (c) => c.emit("WRMSR")),
  privileged("LGDT", (c) => c.emit("LGDT", by("rsp"))),
  privileged("LIDT", (c) => c.emit("LIDT", by("rsp"))),
  privileged("LGDT beyond the user's pages", (c) => c.mov("ebx", 0x1000).emit("LGDT", by("rbx"))),
  privileged("LLDT", (c) => c.emit("LLDT", "ax")),
  privileged("LTR", (c) => c.emit("LTR", "ax")),
  privileged("LMSW", (c) => c.emit("LMSW", "ax")),
  privileged("INVLPG", (c) => c.emit("INVLPG", by("rsp"))),
  privileged("MOV from CR0", (c) => c.mov("rax", "cr0")),
  privileged("MOV to CR3", (c) => c.mov("cr3", "rax")),
  privileged("MOV to CR8", (c) => c.mov("cr8", "rax")),
  privileged("MOV from CR1", (c) => c.db(0x0f, 0x20, 0xc8)),
  privileged("MOV from DR0", (c) => c.mov("rax", "dr0")),
  privileged("MOV to DR7", (c) => c.mov("dr7", "rax")),
  privileged("SWAPGS", (c) => c.emit("SWAPGS")),
  privileged("SYSRET", (c) => c.emit("SYSRET")),
  privileged("SYSEXIT", (c) => c.emit("SYSEXIT")),
  privileged("STAC", (c) => c.emit("STAC")),
  privileged("IN AL, 0x60", (c) => c.emit("IN", "al", 0x60)),
  privileged("OUT DX, EAX", (c) => c.mov("edx", 0x80).emit("OUT", "dx", "eax")),
  privileged("INSB", (c) => c.mov("edx", 0x80).mov("rdi", "rsp").emit("INSB")),
  privileged("REP OUTSB of nothing", (c) => {
    c.mov("edx", 0x80).mov("rsi", "rsp").rep().emit("OUTSB");
  }),
  {
    name: "what ring 3 may ask",
    spec: "SDM 2 SGDT, SIDT, SLDT, STR, SMSW",
    ring: 3,
    code(c) {
      c.emit("SUB", "rsp", 32)
        .emit("SGDT", by("rsp"))
        .logMemory("gdtl", by("rsp", 16))
        .logMemory("gdt", by("rsp", 64, 2));
      c.emit("SIDT", by("rsp"))
        .logMemory("idtl", by("rsp", 16))
        .logMemory("idt", by("rsp", 64, 2));
      c.emit("SLDT", "eax").log("ldt", "rax").emit("STR", "eax").log("tr", "rax").emit("SMSW", "rax").log("msw", "rax");
    },
  },
];

function cr0With(c: CaseCode, set: number): CaseCode {
  return c.mov("rax", ((CR0_BASE & ~(MP | EM | TS)) | set) >>> 0).mov("cr0", "rax");
}
/** FPU, WAIT, MMX, SSE under one setting of CR0. */
function extensions(name: string, bits: number): SystemCase[] {
  const set = bits;
  return [
    { name: `x87 with ${name}`, spec: "SDM 3 table 2-2", code: (c) => cr0With(c, set).emit("FLD1").mark("done") },
    { name: `WAIT with ${name}`, spec: "SDM 3 table 2-2", code: (c) => cr0With(c, set).db(0x9b).mark("done") },
    { name: `MMX with ${name}`, spec: "SDM 3 table 12-1", code: (c) => cr0With(c, set).emit("EMMS").mark("done") },
    {
      name: `SSE2 with ${name}`,
      spec: "SDM 3 table 13-1",
      code: (c) => cr0With(c, set).emit("PXOR", "xmm0", "xmm0").mark("done"),
    },
    {
      name: `FXSAVE with ${name}`,
      spec: "SDM 2 FXSAVE",
      code: (c) => cr0With(c, set).mov("edi", 0x80_0000).emit("FXSAVE", by("rdi")).mark("done"),
    },
    {
      name: `LDMXCSR with ${name}`,
      spec: "SDM 2 LDMXCSR",
      code: (c) => cr0With(c, set).mov("edi", 0x80_0000).emit("STMXCSR", by("rdi", 32)).mark("done"),
    },
  ];
}
const EXTENSIONS: SystemCase[] = [
  ...extensions("no bit", 0),
  ...extensions("MP", MP),
  ...extensions("TS", TS),
  ...extensions("MP and TS", MP | TS),
  ...extensions("EM", EM),
  ...extensions("EM and TS", EM | TS),
  {
    name: "SSE2 without OSFXSR",
    spec: "SDM 3 table 13-1",
    code: (c) =>
      c
        .mov("eax", CR4_BASE & ~0x200)
        .mov("cr4", "rax")
        .emit("PXOR", "xmm0", "xmm0"),
  },
  {
    name: "MMX without OSFXSR",
    spec: "SDM 3 table 12-1",
    code: (c) =>
      c
        .mov("eax", CR4_BASE & ~0x200)
        .mov("cr4", "rax")
        .emit("EMMS")
        .mark("done"),
  },
  {
    name: "XGETBV without OSXSAVE",
    spec: "SDM 2 XGETBV",
    code: (c) => c.emit("XGETBV"),
  },
  {
    name: "#MF waits for the next x87 instruction",
    spec: "SDM 3 §6.15, interrupt 16",
    code: (c) => {
      c.emit("SUB", "rsp", 8).mov(by("rsp", 16), 0x37b).emit("FLDCW", by("rsp", 16)).emit("FLD1").emit("FLDZ");
      c.db(0xde, 0xf9).db(0x90).db(0x90).emit("FLD1").mark("done");
    },
  },
  {
    name: "#MF by WAIT",
    spec: "SDM 3 §6.15, interrupt 16",
    code: (c) => {
      c.emit("SUB", "rsp", 8).mov(by("rsp", 16), 0x37b).emit("FLDCW", by("rsp", 16)).emit("FLD1").emit("FLDZ");
      c.db(0xde, 0xf9).db(0x90).db(0x9b).mark("done");
    },
  },
  {
    name: "#XM by a division by zero",
    spec: "SDM 3 §6.15, interrupt 19",
    code: (c) => {
      c.emit("SUB", "rsp", 8).mov(by("rsp", 32), 0x1d80).emit("LDMXCSR", by("rsp", 32));
      c.mov("eax", 1).emit("CVTSI2SD", "xmm0", "eax").emit("PXOR", "xmm1", "xmm1").emit("DIVSD", "xmm0", "xmm1");
    },
  },
  {
    name: "#UD in place of #XM without OSXMMEXCPT",
    spec: "SDM 3 §2.5, OSXMMEXCPT",
    code: (c) => {
      c.mov("eax", CR4_BASE & ~0x400).mov("cr4", "rax");
      c.emit("SUB", "rsp", 8).mov(by("rsp", 32), 0x1d80).emit("LDMXCSR", by("rsp", 32));
      c.mov("eax", 1).emit("CVTSI2SD", "xmm0", "eax").emit("PXOR", "xmm1", "xmm1").emit("DIVSD", "xmm0", "xmm1");
    },
  },
  {
    name: "LDMXCSR with a reserved bit",
    spec: "SDM 2 LDMXCSR",
    code: (c) => c.emit("SUB", "rsp", 8).mov(by("rsp", 32), 0x1_1f80).emit("LDMXCSR", by("rsp", 32)),
  },
  {
    name: "MOVAPS off 16 bytes",
    spec: "SDM 2 MOVAPS",
    code: (c) => c.emit("MOVAPS", "xmm0", mem({ base: "rsp", disp: -24 })),
  },
  {
    name: "MOVAPS off 16 bytes by a page that is not there",
    spec: "SDM 2 MOVAPS",
    code: (c) => c.mov("rbx", 0xa000_0008n).emit("MOVAPS", "xmm0", mem({ base: "rbx" })),
  },
  {
    name: "FXSAVE off 16 bytes",
    spec: "SDM 2 FXSAVE",
    code: (c) => c.mov("edi", 0x80_0008).emit("FXSAVE", by("rdi")),
  },
  { name: "CMPXCHG16B off 16 bytes", spec: "SDM 2 CMPXCHG16B", code: (c) => c.db(0x48, 0x0f, 0xc7, 0x4c, 0x24, 0xe8) },
];

const ADDRESSES: SystemCase[] = [
  ...inBoth("a load by a non-canonical address", "SDM 1 §3.3.7.1", (c) =>
    c.mov("rbx", NON_CANONICAL).logOnFault("rax").mov("eax", by("rbx", 32)),
  ),
  ...inBoth("a store by a non-canonical address", "SDM 1 §3.3.7.1", (c) =>
    c.mov("rbx", -NON_CANONICAL - 1n).mov(by("rbx", 32), "eax"),
  ),
  ...inBoth("a load that ends beyond the canonical ones", "SDM 1 §3.3.7.1", (c) =>
    c.mov("rbx", NON_CANONICAL - 4n).mov("rax", by("rbx")),
  ),
  ...inBoth("PUSH by a non-canonical RSP", "SDM 3 §6.15, interrupt 12", (c) =>
    c.mov("rsp", NON_CANONICAL).emit("PUSH", "rax"),
  ),
  ...inBoth("POP by a non-canonical RSP", "SDM 3 §6.15, interrupt 12", (c) =>
    c.mov("rsp", NON_CANONICAL).emit("POP", "rax"),
  ),
  ...inBoth("a load by a non-canonical RBP", "SDM 3 §6.15, interrupt 12", (c) =>
    c.mov("rbp", NON_CANONICAL).mov("eax", by("rbp", 32, 8)),
  ),
  ...inBoth("a load by a non-canonical RSP with an index", "SDM 3 §6.15, interrupt 12", (c) =>
    c.mov("rsp", NON_CANONICAL).mov("eax", mem({ base: "rsp", index: "rbx", scale: 2, bits: 32 })),
  ),
  ...inBoth("a load by DS and a non-canonical RBP", "SDM 3 §6.15, interrupt 12", (c) =>
    c.mov("rbp", NON_CANONICAL).mov("eax", mem({ base: "rbp", segment: "ds", bits: 32 })),
  ),
  ...inBoth("JMP to a non-canonical address", "SDM 2 JMP", (c) => c.mov("rbx", NON_CANONICAL).emit("JMP", "rbx")),
  ...inBoth("CALL of a non-canonical address", "SDM 2 CALL", (c) =>
    c.mov("rbx", NON_CANONICAL).logOnFault("rsp").emit("CALL", "rbx"),
  ),
  ...inBoth("RET to a non-canonical address", "SDM 2 RET", (c) =>
    c.mov("rbx", NON_CANONICAL).emit("PUSH", "rbx").logOnFault("rsp").emit("RET"),
  ),
  ...inBoth("LEAVE by a non-canonical RBP", "SDM 2 LEAVE", (c) =>
    c.mov("rbp", NON_CANONICAL).logOnFault("rsp", "rbp").emit("LEAVE"),
  ),
  ...inBoth("an instruction of 16 bytes", "SDM 2 §2.3.11", (c) => c.db(...new Array<number>(15).fill(0x66), 0x90)),
  ...inBoth("an instruction of 15 bytes", "SDM 2 §2.3.11", (c) =>
    c.db(...new Array<number>(14).fill(0x66), 0x90).mark("done"),
  ),
  {
    name: "INVLPG of a non-canonical address does nothing",
    spec: "SDM 2 INVLPG",
    code: (c) => c.mov("rbx", NON_CANONICAL).emit("INVLPG", by("rbx")).mark("done"),
  },
  {
    name: "CLFLUSH of a non-canonical address",
    spec: "SDM 2 CLFLUSH",
    code: (c) => c.mov("rbx", NON_CANONICAL).emit("CLFLUSH", by("rbx", 8)).mark("done"),
  },
  {
    name: "LGDT of a non-canonical base",
    spec: "SDM 2 LGDT",
    code: (c) =>
      c
        .emit("SUB", "rsp", 16)
        .mov("rbx", NON_CANONICAL)
        .mov(by("rsp", 64, 2), "rbx")
        .emit("LGDT", by("rsp"))
        .lea("rbx", "gdtr")
        .emit("LGDT", by("rbx"))
        .mark("loaded"),
  },
  {
    name: "LIDT of a non-canonical base",
    spec: "SDM 2 LIDT",
    code: (c) =>
      c
        .emit("SUB", "rsp", 16)
        .mov("rbx", NON_CANONICAL)
        .mov(by("rsp", 64, 2), "rbx")
        .emit("LIDT", by("rsp"))
        .lea("rbx", "idtr")
        .emit("LIDT", by("rbx"))
        .mark("loaded"),
  },
];

export const EXCEPTIONS: readonly SystemCase[] = [
  { name: "nothing", spec: "the runtime", code: (c) => c.log("rsp", "rsp").logFlags("fl") },
  ...inBoth("UD2", "SDM 2 UD", (c) => c.emit("UD2")),
  ...UNDEFINED.map(([name, bytes]) => ({
    name: `undefined: ${name}`,
    spec: "SDM 2 appendix A",
    code: (c: CaseCode) => c.mov("eax", SELECTOR.kernelData).db(...bytes),
  })),
  ...DIVIDES,
  ...INTERRUPTS,
  ...PRIVILEGED,
  ...EXTENSIONS,
  ...ADDRESSES,
];
