/** Far jumps and calls, call gates, SYSCALL and SYSENTER, compatibility mode. [SDM 3 §5.8, SDM 2 JMP, CALL, SYSCALL] */

import { label, mem } from "../../../src/isa/assembler.ts";
import { at, by, type CaseCode } from "../guest/case-code.ts";
import { ALIAS, EFER_BASE, GDT, PLAY, SELECTOR, STACK, TSS } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { descriptor } from "../guest/tables.ts";

const NON_CANONICAL = 0x8000_0000_0000n;
const FREE = SELECTOR.free;
/** Where a call gate lies: two entries. */
const GATE = 0x90;
const EFER = 0xc000_0080;
const STAR = 0xc000_0081;
const LSTAR = 0xc000_0082;
const CSTAR = 0xc000_0083;
const FMASK = 0xc000_0084;

/** A far pointer in PLAY to `.to`, or to a number. */
function pointer(c: CaseCode, selector: number, target: bigint | string, bytes: 4 | 8 = 4): CaseCode {
  if (typeof target === "string") c.lea("rax", target);
  else c.mov("rax", target);
  c.mov(at(PLAY, bytes === 4 ? 32 : 64), bytes === 4 ? "eax" : "rax").mov(at(PLAY + bytes, 16), selector);
  return c.mov("ebx", PLAY);
}
/** A 64-bit call gate at GATE to a label or a number. */
function callGate(
  c: CaseCode,
  target: string | bigint,
  { selector = 0x08, dpl = 0, type = 12, present = true, count = 0, upperType = 0 } = {},
): CaseCode {
  if (typeof target === "string") c.lea("rax", target);
  else c.mov("rax", target);
  const attributes = (present ? 0x80 : 0) | (dpl << 5) | type;
  c.poke(GDT + GATE, BigInt(count) << 32n)
    .poke(GDT + GATE + 8, BigInt(upperType) << 40n)
    .mov(at(GDT + GATE, 16), "ax");
  c.mov(at(GDT + GATE + 2, 16), selector)
    .mov(at(GDT + GATE + 5, 8), attributes)
    .emit("SHR", "rax", 16);
  return c
    .mov(at(GDT + GATE + 6, 16), "ax")
    .emit("SHR", "rax", 16)
    .mov(at(GDT + GATE + 8, 32), "eax");
}

const KINDS: readonly (readonly [string, number, number])[] = [
  ["64-bit code", 0xa09a, 0],
  ["64-bit code, RPL 3", 0xa09a, 3],
  ["code of DPL 3", 0xa0fa, 3],
  ["conforming code", 0xa09e, 0],
  ["conforming code of DPL 3", 0xa0fe, 3],
  ["execute-only code", 0xa098, 0],
  ["code not present", 0xa01a, 0],
  ["code with L and D", 0xe09a, 0],
  ["data", 0xc092, 0],
  ["an LDT", 0x0082, 0],
  ["an available TSS", 0x0089, 0],
  ["a task gate", 0x0085, 0],
  ["an interrupt gate", 0x008e, 0],
  ["a call gate of 16 bits", 0x0084, 0],
];
const DIRECT: SystemCase[] = (["JMP", "CALL"] as const).flatMap((instruction) => [
  ...KINDS.map(([name, attributes, rpl]) => ({
    name: `${instruction} far: ${name}`,
    spec: `SDM 2 ${instruction}`,
    code(c: CaseCode) {
      c.poke(GDT + FREE, descriptor({ limit: 0xfffff, attributes }));
      pointer(c, FREE | rpl, ".to").emit(`${instruction} far-memory`, mem({ base: "rbx" }), { size: 32 });
      c.label(".to")
        .logSystem("cs", "cs")
        .log("rsp", "rsp")
        .logMemory("top", by("rsp", 16, 4))
        .logMemory("high", at(GDT + FREE + 4, 32));
    },
  })),
  ...([0, 3, 0x1000, 0xc] as const).map((selector) => ({
    name: `${instruction} far: selector ${selector.toString(16)}`,
    spec: `SDM 2 ${instruction}`,
    code(c: CaseCode) {
      pointer(c, selector, ".to")
        .emit(`${instruction} far-memory`, mem({ base: "rbx" }), { size: 32 })
        .label(".to")
        .mark("there");
    },
  })),
  {
    name: `${instruction} far: m16:64 to a non-canonical address`,
    spec: `SDM 2 ${instruction}`,
    code(c: CaseCode) {
      pointer(c, SELECTOR.kernelCode, NON_CANONICAL, 8).emit(`${instruction} far-memory`, mem({ base: "rbx" }), {
        size: 64,
      });
    },
  },
  {
    name: `${instruction} far: m16:64`,
    spec: `SDM 2 ${instruction}`,
    code(c: CaseCode) {
      pointer(c, SELECTOR.kernelCode, ".to", 8).emit(`${instruction} far-memory`, mem({ base: "rbx" }), { size: 64 });
      c.label(".to")
        .log("rsp", "rsp")
        .logMemory("cs", by("rsp", 64, 8));
    },
  },
  {
    name: `${instruction} far in ring 3 to ring 3`,
    spec: `SDM 2 ${instruction}`,
    code(c: CaseCode) {
      c.lea("rax", ".to")
        .emit("ADD", "rax", ALIAS)
        .mov(at(PLAY, 32), "eax")
        .mov(at(PLAY + 4, 16), SELECTOR.userCode | 3);
      c.toUser(".user")
        .ring(3)
        .label(".user")
        .mov("ebx", ALIAS + PLAY);
      c.emit(`${instruction} far-memory`, mem({ base: "rbx" }), { size: 32 })
        .label(".to")
        .logSystem("cs", "cs")
        .log("rsp", "rsp");
    },
  },
  {
    name: `${instruction} far in ring 3 to ring 0`,
    spec: `SDM 2 ${instruction}`,
    code(c: CaseCode) {
      c.mov(at(PLAY, 32), 0x1234)
        .mov(at(PLAY + 4, 16), SELECTOR.kernelCode)
        .toUser(".user")
        .ring(3)
        .label(".user");
      c.mov("ebx", ALIAS + PLAY).emit(`${instruction} far-memory`, mem({ base: "rbx" }), { size: 32 });
    },
  },
]);

/** Calls and jumps through a gate, in ring 0 and 3. */
type GateOptions = NonNullable<Parameters<typeof callGate>[2]>;
function throughGate(
  name: string,
  options: GateOptions & { attributes?: number; rpl?: number; target?: bigint },
  rings: readonly (0 | 3)[] = [0, 3],
  instructions: readonly ("JMP" | "CALL")[] = ["JMP", "CALL"],
): SystemCase[] {
  return instructions.flatMap((instruction) =>
    rings.map((ring) => ({
      name: `${instruction} through a call gate ${name}, ring ${ring}`,
      spec: `SDM 2 ${instruction}; SDM 3 §5.8.3`,
      code(c: CaseCode) {
        const { attributes, rpl = ring, target, ...rest } = options;
        if (attributes !== undefined) c.poke(GDT + FREE, descriptor({ limit: 0xfffff, attributes }));
        callGate(c, target ?? ".to", { dpl: ring, ...rest });
        c.mov(at(PLAY, 32), 0x7777_7777).mov(at(PLAY + 4, 16), GATE | rpl);
        if (ring === 3) c.toUser(".user").ring(3).label(".user");
        c.mov("ebx", PLAY + (ring === 3 ? ALIAS : 0)).emit("PUSH", 0x11);
        c.emit(`${instruction} far-memory`, mem({ base: "rbx" }), { size: 32 })
          .mark("back")
          .end();
        c.ring(0).label(".to").logSystem("cs", "cs").logSystem("ss", "ss").log("rsp", "rsp").logFlags("fl");
        if (instruction === "JMP") return;
        c.logMemory("cs", by("rsp", 64, 8))
          .logMemory("a", by("rsp", 64, 16))
          .logMemory("b", by("rsp", 64, 24));
        c.emit("RETF", { size: 64 });
      },
    })),
  );
}
const GATES: SystemCase[] = [
  ...throughGate("as usual", {}),
  ...throughGate("of DPL 3 with RPL 3", { dpl: 3, rpl: 3 }, [0]),
  ...throughGate("of DPL 0", { dpl: 0 }, [3]),
  ...throughGate("of DPL 0 with RPL 3", { dpl: 0, rpl: 3 }, [0]),
  ...throughGate("not present", { present: false }),
  ...throughGate("with an upper half that has a type", { upperType: 1 }),
  ...throughGate("with a parameter count", { count: 5 }),
  ...throughGate("to a null selector", { selector: 0 }),
  ...throughGate("to data", { selector: SELECTOR.kernelData }),
  ...throughGate("to 32-bit code", { selector: SELECTOR.kernelCode32 }),
  ...throughGate("to conforming code", { selector: SELECTOR.conforming }, [0]),
  ...throughGate("to code of DPL 3", { selector: SELECTOR.userCode }, [0]),
  ...throughGate("to code not present", { selector: FREE, attributes: 0xa01a }),
  ...throughGate("to a selector with RPL 3", { selector: SELECTOR.kernelCode | 3 }),
  ...throughGate("to a non-canonical address", { target: NON_CANONICAL }),
];
const GATE_STACKS: SystemCase[] = [
  {
    name: "a call gate's RSP0 is not aligned",
    spec: "SDM 3 §5.8.5.1",
    code(c) {
      callGate(c, ".to", { dpl: 3 })
        .poke(TSS + 4, BigInt(STACK.rsp0 - 3))
        .mov(at(PLAY + 4, 16), GATE | 3);
      c.toUser(".user")
        .ring(3)
        .label(".user")
        .mov("ebx", ALIAS + PLAY);
      c.emit("CALL far-memory", mem({ base: "rbx" }), { size: 32 })
        .mark("back")
        .end()
        .ring(0)
        .label(".to")
        .log("rsp", "rsp");
      c.emit("RETF", { size: 64 });
    },
  },
  {
    name: "a call gate's RSP0 is not canonical",
    spec: "SDM 2 CALL",
    code(c) {
      callGate(c, ".to", { dpl: 3 })
        .poke(TSS + 4, NON_CANONICAL + 0x1000n)
        .mov(at(PLAY + 4, 16), GATE | 3);
      c.toUser(".user")
        .ring(3)
        .label(".user")
        .mov("ebx", ALIAS + PLAY);
      c.emit("CALL far-memory", mem({ base: "rbx" }), { size: 32 }).label(".to");
    },
  },
  {
    name: "a call gate to ring 1 takes RSP1",
    spec: "SDM 3 §5.8.5.1",
    code(c) {
      // Ring 1 may use supervisor pages; its handler's exception brings it to ring 0.
      c.poke(GDT + FREE, descriptor({ limit: 0xfffff, attributes: 0xa0ba }));
      callGate(c, ".to", { dpl: 3, selector: FREE })
        .mov(at(PLAY + 4, 16), GATE | 3)
        .toUser(".user")
        .ring(3)
        .label(".user");
      c.mov("ebx", ALIAS + PLAY).emit("CALL far-memory", mem({ base: "rbx" }), { size: 32 });
      c.ring(0).label(".to").logSystem("cs", "cs").logSystem("ss", "ss").log("rsp", "rsp").emit("CLI");
    },
  },
];

function writeMsr(c: CaseCode, index: number, value: bigint | string): CaseCode {
  if (typeof value === "string") c.lea("rax", value).mov("rdx", "rax").emit("SHR", "rdx", 32);
  else c.mov("eax", Number(value & 0xffff_ffffn)).mov("edx", Number(value >> 32n));
  return c.mov("ecx", index).emit("WRMSR");
}
const SYSCALLS: SystemCase[] = [
  {
    name: "SYSCALL from ring 3, SYSRET back",
    spec: "SDM 2 SYSCALL, SYSRET",
    code(c) {
      writeMsr(c, LSTAR, ".entry");
      writeMsr(c, FMASK, 0x4_0600n).toUser(".user", { flags: 0x4_0cd7 }).ring(3).label(".user");
      c.emit("SYSCALL").label(".next").logFlags("after").logSystem("cs", "cs").logSystem("ss", "ss").end();
      c.ring(0).label(".entry").logSystem("cs", "cs").logSystem("ss", "ss").log("rsp", "rsp").log("r11", "r11");
      c.lea("rax", ".next").emit("ADD", "rax", ALIAS).emit("SUB", "rax", "rcx").log("rcx", "rax");
      c.mov("rsp", STACK.kernel)
        .logFlags("in")
        .mov("rsp", ALIAS + STACK.user)
        .emit("SYSRET", { size: 64 });
    },
  },
  {
    name: "SYSCALL from ring 0",
    spec: "SDM 2 SYSCALL",
    code(c) {
      writeMsr(c, LSTAR, ".entry").emit("SYSCALL").mark("missed").label(".entry");
      c.logSystem("cs", "cs").logSystem("ss", "ss").log("r11", "r11").log("rsp", "rsp");
    },
  },
  {
    name: "SYSCALL without SCE",
    spec: "SDM 2 SYSCALL",
    code: (c) => writeMsr(c, EFER, BigInt((EFER_BASE & ~1) | 0x400)).emit("SYSCALL"),
  },
  {
    name: "SYSRET without SCE",
    spec: "SDM 2 SYSRET",
    code: (c) => writeMsr(c, EFER, BigInt((EFER_BASE & ~1) | 0x400)).emit("SYSRET", { size: 64 }),
  },
  {
    name: "SYSCALL takes CS and SS from STAR, whatever the GDT says",
    spec: "SDM 2 SYSCALL",
    code(c) {
      writeMsr(c, STAR, 0x0023_0fe8_0000_0000n);
      writeMsr(c, LSTAR, ".entry").emit("SYSCALL").label(".entry").logSystem("cs", "cs").logSystem("ss", "ss");
      c.mov("eax", SELECTOR.kernelData).mov("ss", "ax").mov("rsp", STACK.kernel);
    },
  },
  {
    name: "SYSCALL ignores RPL in STAR",
    spec: "SDM 2 SYSCALL",
    code(c) {
      writeMsr(c, STAR, 0x0023_000b_0000_0000n);
      writeMsr(c, LSTAR, ".entry").emit("SYSCALL").label(".entry").logSystem("cs", "cs").logSystem("ss", "ss");
    },
  },
  {
    name: "SYSRET to a non-canonical RCX faults in ring 0",
    spec: "SDM 2 SYSRET",
    code: (c) => c.mov("rcx", NON_CANONICAL).mov("r11", 2).logOnFault("rcx").emit("SYSRET", { size: 64 }),
  },
  {
    name: "SYSRET takes flags from R11, but not RF and VM",
    spec: "SDM 2 SYSRET",
    code(c) {
      c.lea("rcx", ".user")
        .emit("ADD", "rcx", ALIAS)
        .mov("r11", 0x3f_7cd7)
        .mov("rsp", ALIAS + STACK.user);
      c.emit("SYSRET", { size: 64 }).label(".user").ring(3).logFlags("fl").logSystem("cs", "cs").logSystem("ss", "ss");
    },
  },
  {
    name: "SYSRET to compatibility mode",
    spec: "SDM 2 SYSRET",
    code(c) {
      c.lea("rcx", ".user")
        .mov("rax", 0xffff_ffff_0000_0000n + BigInt(ALIAS))
        .emit("ADD", "rcx", "rax")
        .mov("r11", 2);
      c.mov("rsp", 0x1_4029_8000n)
        .mov("eax", SELECTOR.userData | 3)
        .mov("ds", "ax");
      c.emit("SYSRET", { size: 32 })
        .label(".user")
        .bits(32)
        .ring(3)
        .log("esp", "esp")
        .logSystem("cs", "cs")
        .logSystem("ss", "ss");
    },
  },
  {
    name: "SYSCALL in compatibility mode is undefined on Intel's processors",
    spec: "SDM 2 SYSCALL",
    code(c) {
      writeMsr(c, CSTAR, ".entry");
      pointer(c, SELECTOR.kernelCode32, ".compat").emit("JMP far-memory", mem({ base: "rbx" }), { size: 32 });
      c.label(".compat").bits(32).emit("SYSCALL").bits(64).label(".entry").mark("entered");
    },
  },
  {
    name: "SYSENTER without a CS",
    spec: "SDM 2 SYSENTER",
    code: (c) => c.emit("SYSENTER"),
  },
  {
    name: "SYSENTER from ring 3, SYSEXIT back",
    spec: "SDM 2 SYSENTER, SYSEXIT",
    code(c) {
      writeMsr(c, 0x174, BigInt(SELECTOR.kernelCode));
      writeMsr(c, 0x175, BigInt(STACK.rsp1));
      writeMsr(c, 0x176, ".entry").toUser(".user", { flags: 0x4_0cd7 }).ring(3).label(".user").emit("SYSENTER");
      c.label(".next").logFlags("after").logSystem("cs", "cs").logSystem("ss", "ss").log("rsp", "rsp").end();
      c.ring(0).label(".entry").logSystem("cs", "cs").logSystem("ss", "ss").log("rsp", "rsp").logFlags("in");
      c.lea("rdx", ".next")
        .emit("ADD", "rdx", ALIAS)
        .mov("ecx", ALIAS + STACK.user)
        .emit("SYSEXIT", { size: 64 });
    },
  },
  {
    name: "SYSEXIT to compatibility mode",
    spec: "SDM 2 SYSEXIT",
    code(c) {
      writeMsr(c, 0x174, BigInt(SELECTOR.kernelCode)).lea("rdx", ".user").emit("ADD", "rdx", ALIAS);
      c.mov("ecx", ALIAS + STACK.user)
        .mov("eax", SELECTOR.userData | 3)
        .mov("ds", "ax")
        .emit("SYSEXIT", { size: 32 });
      c.label(".user").bits(32).ring(3).logSystem("cs", "cs").logSystem("ss", "ss").log("esp", "esp");
    },
  },
  {
    name: "SYSEXIT to a non-canonical RIP",
    spec: "SDM 2 SYSEXIT",
    code: (c) => writeMsr(c, 0x174, 8n).mov("rdx", NON_CANONICAL).mov("ecx", 0).emit("SYSEXIT", { size: 64 }),
  },
  {
    name: "SYSEXIT without a CS",
    spec: "SDM 2 SYSEXIT",
    code: (c) => c.mov("edx", 0).mov("ecx", 0).emit("SYSEXIT", { size: 64 }),
  },
];

/** Into 32-bit code of ring 0, and back to 64-bit code at `.back`. */
function compatibility(name: string, body: (c: CaseCode) => void): SystemCase {
  return {
    name: `compatibility mode: ${name}`,
    spec: "SDM 1 §3.1.1; SDM 3 §2.2",
    code(c) {
      pointer(c, SELECTOR.kernelCode32, ".compat").emit("JMP far-memory", mem({ base: "rbx" }), { size: 32 });
      c.label(".compat").bits(32);
      body(c);
      c.emit("JMP far", label(".back"), SELECTOR.kernelCode).label(".back").bits(64);
    },
  };
}
const COMPATIBILITY: SystemCase[] = [
  compatibility("nothing", (c) => c.logSystem("cs", "cs").log("esp", "esp")),
  compatibility("an exception enters 64-bit code", (c) => c.mov("eax", 5).emit("UD2")),
  compatibility("upper halves of registers", (c) =>
    c.mov("eax", -1).emit("INC", "eax").mov("ecx", -1).log("eax", "eax"),
  ),
  compatibility("addresses wrap at 4 GiB", (c) => {
    c.mov("ebx", -0x10)
      .mov("eax", mem({ base: "ebx", disp: PLAY + 0x20, bits: 32 }))
      .log("eax", "eax");
  }),
  compatibility("PUSH and POP are of 32 bits", (c) => {
    c.emit("PUSH", 0x1234_5678)
      .log("esp", "esp")
      .emit("POP", "eax")
      .log("eax", "eax")
      .emit("PUSH", "eax", { size: 32 });
    c.emit("POP", "ecx").log("esp", "esp");
  }),
  compatibility("one-byte INC and DEC", (c) => c.mov("eax", 5).db(0x40, 0x48, 0x40).log("eax", "eax")),
  compatibility("PUSHA, POPA, AAM and BOUND", (c) => {
    c.mov("eax", 77).emit("PUSHA").log("esp", "esp").emit("POPA").db(0xd4, 10).log("eax", "eax").mov("ebx", 9);
    c.mov(at(PLAY, 32), 1)
      .mov(at(PLAY + 4, 32), 8)
      .db(0x62, 0x1d, 0x00, 0x00, 0x80, 0x00);
  }),
  compatibility("INTO", (c) => c.mov("eax", 0x7fff_ffff).emit("INC", "eax").emit("INTO")),
  compatibility("a RIP-relative address is absolute here", (c) =>
    c.db(0x8b, 0x05, 0x08, 0x00, 0x80, 0x00).log("eax", "eax"),
  ),
  compatibility("a null DS faults", (c) => c.mov("eax", 0).mov("ds", "ax").mov("eax", at(PLAY, 32))),
  compatibility("a data segment has a base", (c) => {
    c.mov(at(GDT + FREE, 32), 0x0100_ffff)
      .mov(at(GDT + FREE + 4, 32), 0x00cf_9200)
      .mov("eax", FREE)
      .mov("es", "ax");
    c.mov("eax", mem({ disp: PLAY + 16, segment: "es", bits: 32 })).log("eax", "eax");
  }),
  compatibility("a data segment has a limit", (c) => {
    c.mov(at(GDT + FREE, 32), 0x0000_0fff)
      .mov(at(GDT + FREE + 4, 32), 0x0040_9200)
      .mov("eax", FREE)
      .mov("es", "ax");
    c.mov("eax", mem({ disp: 0xffc, segment: "es", bits: 32 })).mark("inside");
    c.mov("eax", mem({ disp: 0xffd, segment: "es", bits: 32 }));
  }),
  compatibility("a read-only segment is not written", (c) => {
    c.mov(at(GDT + FREE, 32), 0x0000_ffff)
      .mov(at(GDT + FREE + 4, 32), 0x00cf_9000)
      .mov("eax", FREE)
      .mov("es", "ax");
    c.mov("eax", mem({ disp: PLAY + 16, segment: "es", bits: 32 })).log("eax", "eax");
    c.mov(mem({ disp: PLAY, segment: "es", bits: 32 }), "eax");
  }),
  compatibility("an expand-down segment", (c) => {
    c.mov(at(GDT + FREE, 32), 0x0000_0fff)
      .mov(at(GDT + FREE + 4, 32), 0x0040_9600)
      .mov("eax", FREE)
      .mov("es", "ax");
    c.mov("eax", mem({ disp: PLAY + 16, segment: "es", bits: 32 })).log("eax", "eax");
    c.mov("eax", mem({ disp: 0xfff, segment: "es", bits: 32 }));
  }),
  compatibility("execute-only CS is not read", (c) => {
    c.mov(at(GDT + FREE, 32), 0x0000_ffff).mov(at(GDT + FREE + 4, 32), 0x00cf_9800);
    c.emit("JMP far", label(".only"), FREE)
      .label(".only")
      .mov("eax", mem({ disp: PLAY, segment: "cs", bits: 32 }));
  }),
  compatibility("REX prefixes are INC and DEC, SYSRET is known, SWAPGS is not", (c) => {
    c.mov("eax", 7).db(0x48, 0x89, 0xc3).log("eax", "eax").log("ebx", "ebx").db(0x0f, 0x01, 0xf8);
  }),
  compatibility("MOV CR0 has 32 bits", (c) =>
    c.mov("eax", "cr0").log("cr0", "eax").mov("eax", "cr3").log("cr3", "eax"),
  ),
  compatibility("CR8 cannot be named", (c) => c.db(0xf0, 0x0f, 0x20, 0xc0)),
  compatibility("IRETD", (c) => {
    c.emit("PUSHF")
      .emit("PUSH", SELECTOR.kernelCode32)
      .emit("PUSH", label(".to"))
      .emit("IRET", { size: 32 })
      .label(".to");
    c.log("esp", "esp").logSystem("cs", "cs");
  }),
  compatibility("a 16-bit code segment", (c) => {
    // Its base makes the program's offset fit 16 bits.
    c.mov(at(GDT + FREE, 32), 0x0000_ffff).mov(at(GDT + FREE + 4, 32), 0x0000_9a10);
    c.mov("eax", label(".to16"))
      .emit("AND", "eax", 0xffff)
      .mov(at(PLAY, 32), "eax")
      .mov(at(PLAY + 4, 16), FREE);
    c.emit("JMP far-memory", mem({ disp: PLAY }), { size: 32 })
      .label(".to16")
      .bits(16)
      .emit("PUSH", "ax")
      .mov("ax", -1);
    c.emit("INC", "ax").mov("bx", "sp").emit("POP", "ax");
    c.emit("JMP far", label(".from16"), SELECTOR.kernelCode32, { size: 32 }).label(".from16").bits(32);
    c.log("eax", "eax").log("ebx", "ebx").log("esp", "esp");
  }),
  {
    name: "compatibility mode in ring 3",
    spec: "SDM 3 §5.8",
    code(c) {
      c.mov("eax", SELECTOR.userData | 3)
        .mov("ds", "ax")
        .mov("es", "ax");
      c.toUser(".user", { selector: SELECTOR.userCode32 | 3 })
        .ring(3)
        .label(".user")
        .bits(32);
      c.log("esp", "esp")
        .logSystem("cs", "cs")
        .logFlags("fl")
        .emit("PUSH", 5)
        .emit("POP", "eax")
        .log("eax", "eax")
        .emit("UD2");
    },
  },
  {
    name: "compatibility mode in ring 3: to 64-bit code by a far jump",
    spec: "SDM 3 §5.8.1",
    code(c) {
      c.mov("eax", SELECTOR.userData | 3)
        .mov("ds", "ax")
        .mov("es", "ax")
        .lea("rax", ".to")
        .emit("ADD", "rax", ALIAS);
      c.mov(at(PLAY, 32), "eax").mov(at(PLAY + 4, 16), SELECTOR.userCode | 3);
      c.toUser(".user", { selector: SELECTOR.userCode32 | 3 })
        .ring(3)
        .label(".user")
        .bits(32)
        .logSystem("cs", "cs");
      c.emit("JMP far-memory", mem({ disp: ALIAS + PLAY }), { size: 32 })
        .label(".to")
        .bits(64)
        .logSystem("cs", "cs");
    },
  },
  {
    name: "compatibility mode in ring 3: a page fault's address has 32 bits",
    spec: "SDM 3 §4.7",
    code(c) {
      c.mov("eax", SELECTOR.userData | 3)
        .mov("ds", "ax")
        .mov("es", "ax");
      c.toUser(".user", { selector: SELECTOR.userCode32 | 3 })
        .ring(3)
        .label(".user")
        .bits(32)
        .mov("ebx", -0x10);
      c.mov("eax", by("ebx", 32));
    },
  },
];

export const TRANSFERS: readonly SystemCase[] = [...DIRECT, ...GATES, ...GATE_STACKS];
export const SYSTEM_CALLS: readonly SystemCase[] = [...SYSCALLS, ...COMPATIBILITY];
