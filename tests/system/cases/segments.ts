/** Segment registers, descriptor tables, and what asks about them, in 64-bit mode. [SDM 3 §3.4, §5; SDM 2] */

import { mem } from "../../../src/isa/assembler.ts";
import { at, by, type CaseCode } from "../guest/case-code.ts";
import { CR4_BASE, GDT, LDT, PLAY, SELECTOR, UPPER } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { descriptor } from "../guest/tables.ts";

const FREE = SELECTOR.free;
const FSGSBASE = 1 << 16;
const FS_BASE = 0xc000_0100;
const GS_BASE = 0xc000_0101;
const KERNEL_GS_BASE = 0xc000_0102;

/** Kinds of descriptors, by their attributes. */
const KINDS: readonly (readonly [string, number])[] = [
  ["data of DPL 0", 0xc092],
  ["data of DPL 3", 0xc0f2],
  ["read-only data of DPL 0", 0xc090],
  ["read-only data of DPL 3", 0xc0f0],
  ["expand-down data of DPL 3", 0xc0f6],
  ["data not present", 0xc012],
  ["data of DPL 3 not present", 0xc072],
  ["code of DPL 0", 0xa09a],
  ["code of DPL 3", 0xa0fa],
  ["execute-only code of DPL 3", 0xa0f8],
  ["conforming code of DPL 0", 0xa09e],
  ["execute-only conforming code of DPL 0", 0xa09c],
  ["conforming code not present", 0xa01e],
  ["an LDT", 0x0082],
  ["an available TSS", 0x0089],
  ["a busy TSS", 0x008b],
  ["a call gate", 0x008c],
  ["an interrupt gate", 0x008e],
  ["type 0", 0x0080],
  ["an available TSS of 16 bits", 0x0081],
  ["a call gate of DPL 3", 0x00ec],
  ["an LDT of DPL 3", 0x00e2],
  ["a TSS of DPL 3", 0x00e9],
  ["a TSS of DPL 3 not present", 0x0069],
];
function place(c: CaseCode, attributes: number, { base = 0x12_3456, limit = 0xa_bcde } = {}): CaseCode {
  return c.poke(GDT + FREE, descriptor({ base, limit, attributes })).poke(GDT + FREE + 8, 0n);
}

/** Loading DS and SS with each RPL, in both rings. */
const LOADS: SystemCase[] = (["ds", "ss", "gs"] as const).flatMap((register) =>
  KINDS.map(([name, attributes]) => ({
    name: `MOV ${register.toUpperCase()}: ${name}`,
    spec: "SDM 2 MOV; SDM 3 §5.6, §5.7",
    code(c: CaseCode) {
      c.terse();
      for (const [ring, rpl] of [
        [0, 0],
        [0, 3],
        [3, 0],
        [3, 3],
      ] as const) {
        place(c, attributes);
        c.attempt(() => {
          if (ring === 3) c.toUser(`.u${rpl}`).ring(3).label(`.u${rpl}`);
          c.mov("eax", FREE | rpl)
            .mov(register, "ax")
            .logSystem("is", register);
        });
        c.logMemory("high", at(GDT + FREE + 4, 32));
      }
    },
  })),
);

/** Selectors that name nothing. */
const NOTHING: SystemCase[] = (["ds", "ss", "fs"] as const).flatMap((register) =>
  ([0, 3] as const).map((ring) => ({
    name: `MOV ${register.toUpperCase()}: null selectors and those beyond, ring ${ring}`,
    spec: "SDM 2 MOV; SDM 3 §3.4.2",
    code(c: CaseCode) {
      c.terse();
      for (const selector of [0, 1, 2, 3, 0xff8, 0x1000, 0x1003, 0xfff8, 4, 0xc, 7]) {
        c.attempt(() => {
          if (ring === 3) c.toUser(`.u${selector}`).ring(3).label(`.u${selector}`);
          c.mov("eax", selector).mov(register, "ax").logSystem("is", register);
        });
      }
    },
  })),
);

/** LAR, LSL, VERR and VERW of each kind by both rings, with both RPLs. */
const QUESTIONS: SystemCase[] = KINDS.map(([name, attributes]) => ({
  name: `LAR, LSL, VERR, VERW: ${name}`,
  spec: "SDM 2 LAR, LSL, VERR",
  code(c: CaseCode) {
    place(c, attributes);
    for (const [ring, rpl] of [
      [0, 0],
      [0, 3],
      [3, 0],
      [3, 3],
    ] as const) {
      if (ring === 3 && rpl === 0) c.toUser(".user").ring(3).label(".user");
      c.mov("ecx", FREE | rpl)
        .mov("rbx", 0x55)
        .emit("LAR", "ebx", "cx")
        .log("lar", "rbx")
        .emit("SETE", "dl");
      c.mov("rbx", 0x55)
        .emit("LSL", "ebx", "cx")
        .log("lsl", "rbx")
        .emit("SETE", "dh")
        .emit("VERR", "cx")
        .emit("SETE", "bl");
      c.emit("VERW", "cx")
        .emit("SETE", "bh")
        .emit("MOVZX", "ebx", "bx")
        .emit("SHL", "ebx", 16)
        .emit("MOVZX", "edx", "dx");
      c.emit("OR", "ebx", "edx").log("zf", "rbx");
    }
  },
}));

const QUERIES: SystemCase[] = [
  ...QUESTIONS,
  {
    name: "LAR and LSL of null selectors and those beyond",
    spec: "SDM 2 LAR, LSL",
    code(c) {
      for (const selector of [0, 3, 0x1000, 0xfffc, 4]) {
        c.mov("ecx", selector).mov("rbx", -1).emit("LAR", "ebx", "cx").log("lar", "rbx").logFlags("fl");
        c.emit("LSL", "ebx", "cx").log("lsl", "rbx").emit("VERR", "cx").logFlags("verr");
      }
    },
  },
  {
    name: "LAR and LSL in their sizes",
    spec: "SDM 2 LAR, LSL",
    code(c) {
      place(c, 0xc0f2).mov("ecx", FREE);
      for (const [register, from] of [
        ["bx", "cx"],
        ["ebx", "cx"],
        ["rbx", "cx"],
      ] as const) {
        c.mov("rbx", -1).emit("LAR", register, from).log("lar", "rbx").mov("rbx", -1).emit("LSL", register, from);
        c.log("lsl", "rbx");
      }
    },
  },
  {
    name: "LSL of a limit in bytes and in pages",
    spec: "SDM 2 LSL",
    code(c) {
      c.mov("ecx", FREE);
      for (const [limit, attributes] of [
        [0, 0x40f2],
        [0xfffff, 0x40f2],
        [0, 0xc0f2],
        [0x12345, 0xc0f2],
      ] as const) {
        place(c, attributes, { limit }).emit("LSL", "ebx", "cx").log("lsl", "rbx");
      }
    },
  },
  {
    name: "LAR does not mark the descriptor as accessed",
    spec: "SDM 2 LAR",
    code: (c) =>
      place(c, 0xc0f2)
        .mov("ecx", FREE)
        .emit("LAR", "ebx", "cx")
        .emit("VERW", "cx")
        .logMemory("high", at(GDT + FREE + 4, 32)),
  },
];

/** LLDT and LTR of each kind. */
function loadSystem(
  instruction: "LLDT" | "LTR",
  name: string,
  prepare: (c: CaseCode) => void,
  selector: number,
): SystemCase {
  return {
    name: `${instruction}: ${name}`,
    spec: `SDM 2 ${instruction}`,
    code(c) {
      c.terse();
      prepare(c);
      c.attempt(() => c.mov("eax", selector).emit(instruction, "ax").mark("loaded"));
      c.emit("SLDT", "eax")
        .log("ldt", "rax")
        .emit("STR", "eax")
        .log("tr", "rax")
        .logMemory("high", at(GDT + FREE + 4, 32));
    },
  };
}
const SYSTEM: SystemCase[] = (["LLDT", "LTR"] as const).flatMap((instruction) => [
  ...KINDS.map(([name, attributes]) => loadSystem(instruction, name, (c) => place(c, attributes), FREE)),
  loadSystem(instruction, "not present", (c) => place(c, instruction === "LTR" ? 0x09 : 0x02), FREE),
  loadSystem(instruction, "a null selector", () => {}, 0),
  loadSystem(instruction, "a null selector of RPL 3", () => {}, 3),
  loadSystem(instruction, "a selector of the LDT", (c) => c.mov("eax", SELECTOR.ldt).emit("LLDT", "ax"), 12),
  loadSystem(instruction, "beyond the GDT", () => {}, 0x1000),
  loadSystem(
    instruction,
    "the upper half beyond the GDT",
    (c) => {
      c.poke(GDT + 0xff8, descriptor({ base: LDT, limit: 0xfff, attributes: instruction === "LTR" ? 0x89 : 0x82 }));
    },
    0xff8,
  ),
  loadSystem(
    instruction,
    "a base in the upper half",
    (c) => {
      place(c, instruction === "LTR" ? 0x89 : 0x82, { base: LDT }).poke(GDT + FREE + 8, UPPER >> 32n);
    },
    FREE,
  ),
  loadSystem(
    instruction,
    "a base that is not canonical",
    (c) => {
      place(c, instruction === "LTR" ? 0x89 : 0x82, { base: LDT }).poke(GDT + FREE + 8, 0x8000n);
    },
    FREE,
  ),
  loadSystem(
    instruction,
    "an upper half with a type",
    (c) => {
      place(c, instruction === "LTR" ? 0x89 : 0x82, { base: LDT }).poke(GDT + FREE + 8, 0x1f00_0000_0000n);
    },
    FREE,
  ),
]);

function writeMsr(c: CaseCode, index: number, value: bigint): CaseCode {
  return c
    .mov("ecx", index)
    .mov("eax", Number(value & 0xffff_ffffn))
    .mov("edx", Number(value >> 32n))
    .emit("WRMSR");
}
function logMsr(c: CaseCode, name: string, index: number): CaseCode {
  return c.mov("ecx", index).emit("RDMSR").emit("SHL", "rdx", 32).emit("OR", "rax", "rdx").log(name, "rax");
}
const USE: SystemCase[] = [
  {
    name: "FS and GS have bases, DS, ES and SS none",
    spec: "SDM 1 §3.4.2.1",
    code(c) {
      place(c, 0xc0f2, { base: 0x100, limit: 0xfffff }).mov("eax", FREE | 3);
      for (const register of ["ds", "es", "fs", "gs"]) c.mov(register, "ax");
      c.mov("ebx", PLAY);
      for (const segment of ["ds", "es", "cs", "ss", "fs", "gs"] as const) {
        c.mov("rdx", mem({ base: "rbx", disp: 0x40, segment, bits: 64 })).log(segment, "rdx");
      }
    },
  },
  {
    name: "limits do not count in 64-bit mode",
    spec: "SDM 3 §5.3.1",
    code(c) {
      place(c, 0x40f2, { base: 0, limit: 0 })
        .mov("eax", FREE | 3)
        .mov("fs", "ax")
        .mov("ds", "ax")
        .mov("ebx", PLAY + 8);
      c.mov("rdx", mem({ base: "rbx", segment: "fs", bits: 64 }))
        .log("fs", "rdx")
        .mov("rdx", by("rbx"))
        .log("ds", "rdx");
    },
  },
  {
    name: "a read-only segment may be written in 64-bit mode",
    spec: "SDM 3 §3.4.4",
    code(c) {
      place(c, 0xc0f0, { base: 0 })
        .mov("eax", FREE | 3)
        .mov("fs", "ax")
        .mov("ds", "ax")
        .mov("ebx", PLAY);
      c.mov(mem({ base: "rbx", segment: "fs", bits: 64 }), "rbx")
        .mov(by("rbx", 64, 8), "rbx")
        .mark("done");
    },
  },
  {
    name: "a null segment may be used in 64-bit mode",
    spec: "SDM 3 §5.4.1",
    code(c) {
      c.mov("eax", 0)
        .mov("ds", "ax")
        .mov("ss", "ax")
        .mov("fs", "ax")
        .mov("ebx", PLAY)
        .mov("rdx", by("rbx"))
        .log("ds", "rdx");
      c.mov("rdx", mem({ base: "rbx", segment: "fs", bits: 64 }))
        .log("fs", "rdx")
        .emit("PUSH", "rdx")
        .mark("pushed");
    },
  },
  {
    name: "MOV FS loads the base anew, MOV of a null selector clears it",
    spec: "SDM 2 MOV; SDM 3 §3.4.4.1",
    code(c) {
      writeMsr(c, FS_BASE, UPPER + 0x1234n);
      place(c, 0xc0f2, { base: 0x8765_4321 | 0 })
        .mov("eax", FREE | 3)
        .mov("fs", "ax");
      logMsr(c, "loaded", FS_BASE).mov("eax", 0).mov("fs", "ax");
      logMsr(c, "null", FS_BASE);
    },
  },
  {
    name: "a base that wraps around",
    spec: "SDM 1 §3.3.7",
    code(c) {
      writeMsr(c, GS_BASE, BigInt(PLAY) + 0x1000n)
        .mov("rbx", -0x1000)
        .mov("rdx", mem({ base: "rbx", segment: "gs", bits: 64 }));
      c.log("gs", "rdx");
      writeMsr(c, GS_BASE, -8n & 0xffff_ffff_ffff_ffffn).mov("ebx", PLAY + 8);
      c.mov("rdx", mem({ base: "rbx", segment: "gs", bits: 64 })).log("wrapped", "rdx");
    },
  },
  {
    name: "32-bit addresses wrap before the base is added",
    spec: "SDM 1 §3.3.7",
    code(c) {
      writeMsr(c, GS_BASE, BigInt(PLAY)).mov("rbx", 0xffff_ffff_ffff_fff0n);
      c.mov("rdx", mem({ base: "ebx", disp: 0x18, segment: "gs", bits: 64 })).log("low", "rdx");
    },
  },
  {
    name: "SWAPGS",
    spec: "SDM 2 SWAPGS",
    code(c) {
      writeMsr(c, GS_BASE, BigInt(PLAY) + 0x40n);
      writeMsr(c, KERNEL_GS_BASE, BigInt(PLAY) + 0x80n).mov("ebx", 0);
      c.mov("rdx", mem({ base: "rbx", segment: "gs", bits: 64 }))
        .log("gs", "rdx")
        .emit("SWAPGS");
      c.mov("rdx", mem({ base: "rbx", segment: "gs", bits: 64 })).log("swapped", "rdx");
      logMsr(c, "base", GS_BASE);
      logMsr(c, "kernel", KERNEL_GS_BASE);
    },
  },
  {
    name: "RDFSBASE and its like need CR4.FSGSBASE",
    spec: "SDM 2 RDFSBASE",
    code(c) {
      c.terse()
        .attempt(() => c.emit("RDFSBASE", "rax"))
        .mov("eax", CR4_BASE | FSGSBASE)
        .mov("cr4", "rax");
      c.mov("rbx", UPPER).emit("WRFSBASE", "rbx").mov("rax", 0).emit("RDFSBASE", "rax").log("fs", "rax");
      c.mov("rax", -1).emit("RDFSBASE", "eax").log("fs32", "rax").mov("rbx", -1).emit("WRGSBASE", "ebx");
      c.emit("RDGSBASE", "rax")
        .log("gs", "rax")
        .attempt(() => c.mov("rbx", 1n << 47n).emit("WRFSBASE", "rbx"));
      c.attempt(() =>
        c
          .toUser(".user")
          .ring(3)
          .label(".user")
          .mov("ebx", 5)
          .emit("WRGSBASE", "rbx")
          .emit("RDGSBASE", "rax")
          .log("user", "rax"),
      );
    },
  },
  {
    name: "the LDT serves selectors with TI",
    spec: "SDM 3 §3.5.1",
    code(c) {
      c.terse()
        .poke(LDT + 8, descriptor({ base: 0x40, limit: 0xfffff, attributes: 0xc0f2 }))
        .mov("eax", SELECTOR.ldt);
      c.emit("LLDT", "ax").mov("eax", 0xf).mov("fs", "ax").mov("ebx", PLAY);
      c.mov("rdx", mem({ base: "rbx", segment: "fs", bits: 64 }))
        .log("fs", "rdx")
        .logMemory("ldt", at(LDT + 12, 32));
      c.attempt(() => c.mov("eax", 0x1004).mov("fs", "ax")).attempt(() => c.mov("eax", 0x17).mov("fs", "ax"));
      c.mov("eax", 0)
        .emit("LLDT", "ax")
        .attempt(() => c.mov("eax", 0xf).mov("fs", "ax"));
    },
  },
  {
    name: "LFS, LGS and LSS",
    spec: "SDM 2 LDS",
    code(c) {
      place(c, 0xc092, { base: 0x40 })
        .mov("rdi", PLAY)
        .mov(by("rdi", 32), 0x1234)
        .mov(by("rdi", 16, 4), FREE);
      c.emit("LFS", "ebx", by("rdi"))
        .log("offset", "rbx")
        .logSystem("fs", "fs")
        .mov(by("rdi", 16, 8), FREE);
      c.emit("LGS", "rbx", by("rdi")).log("offset64", "rbx").logSystem("gs", "gs").mov("rbp", "rsp");
      c.mov(by("rdi"), "rsp").emit("LSS", "rsp", by("rdi")).logSystem("ss", "ss").log("rsp", "rsp");
      c.mov(by("rdi", 16, 4), 0x1000)
        .mov("rbx", 7)
        .logOnFault("rbx")
        .emit("LFS", "ebx", by("rdi"));
    },
  },
  {
    name: "PUSH and POP of FS and GS in their sizes",
    spec: "SDM 2 PUSH, POP",
    code(c) {
      place(c, 0xc092).mov("eax", FREE).mov("fs", "ax").emit("PUSH", -1).emit("POP", "rax").emit("PUSH FS");
      c.log("rsp", "rsp").logMemory("q", by("rsp")).emit("POP GS").log("rsp", "rsp").logSystem("gs", "gs");
      c.emit("PUSH FS", { size: 16 })
        .log("rsp", "rsp")
        .logMemory("w", by("rsp", 16))
        .emit("POP GS", { size: 16 })
        .log("rsp", "rsp");
    },
  },
  {
    name: "POP FS of a bad selector leaves RSP",
    spec: "SDM 2 POP",
    code: (c) => c.emit("PUSH", 0x1000).logOnFault("rsp").emit("POP FS"),
  },
  {
    name: "MOV from a segment register in its sizes",
    spec: "SDM 2 MOV",
    code(c) {
      for (const bytes of [
        [0x66, 0x8c, 0xd3],
        [0x8c, 0xd3],
        [0x48, 0x8c, 0xd3],
      ])
        c.mov("rbx", -1)
          .db(...bytes)
          .log("rbx", "rbx");
      c.mov("rdi", PLAY)
        .db(0x8c, 0x17)
        .logMemory("m", by("rdi"))
        .db(0x48, 0x8c, 0x57, 0x10)
        .logMemory("m2", by("rdi", 64, 16));
    },
  },
  {
    name: "SGDT and SIDT store 10 bytes, SLDT and STR 2",
    spec: "SDM 2 SGDT, SLDT",
    code(c) {
      c.mov("rdi", PLAY)
        .db(0x66, 0x0f, 0x01, 0x07)
        .logMemory("a", by("rdi"))
        .logMemory("b", by("rdi", 64, 8));
      c.emit("SIDT", by("rdi", 64, 32))
        .logMemory("c", by("rdi", 64, 32))
        .logMemory("d", by("rdi", 64, 40));
      c.emit("STR", by("rdi", 16, 64))
        .logMemory("tr", by("rdi", 64, 64))
        .mov("rbx", -1)
        .emit("STR", "rbx")
        .log("rbx", "rbx");
    },
  },
];

export const SEGMENT_LOADS: readonly SystemCase[] = [...LOADS, ...NOTHING];
export const SEGMENTS: readonly SystemCase[] = [...QUERIES, ...SYSTEM, ...USE];
