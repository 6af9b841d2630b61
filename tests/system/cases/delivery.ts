/** Delivery of interrupts and exceptions in long mode: gates, stacks, faults on the way. [SDM 3 §6.8-6.14] */

import { by, type CaseCode } from "../guest/case-code.ts";
import { ALIAS, GDT, IDT, PLAY, pte, SELECTOR, STACK, STUB_BYTES, STUBS, TSS, WINDOW } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { descriptor, gate } from "../guest/tables.ts";

const NON_CANONICAL = 0x8000_0000_0000n;
const FREE = SELECTOR.free;
const stub = (vector: number): number => STUBS + vector * STUB_BYTES;
/** Code segments' attributes. */
const CODE64 = 0xa09a;

/** Puts a gate into the IDT that leads to the runtime's stub for the vector. */
function setGate(c: CaseCode, vector: number, options: Parameters<typeof gate>[0]): CaseCode {
  const [low, high] = gate({ offset: stub(vector), ...options });
  return c.poke(IDT + vector * 16, low).poke(IDT + vector * 16 + 8, high);
}
function setDescriptor(c: CaseCode, selector: number, attributes: number): CaseCode {
  return c.poke(GDT + selector, descriptor({ limit: 0xfffff, attributes }));
}

/** Ways for a gate to be wrong; each with INT 0x40 in ring 0 and 3 and, as #UD's gate, with an exception. */
const WRONG: readonly (readonly [string, (c: CaseCode, vector: number, dpl: number) => CaseCode])[] = [
  ["that is not present", (c, v, dpl) => setGate(c, v, { dpl, present: false })],
  ["of type 0", (c, v, dpl) => setGate(c, v, { dpl, type: 0 })],
  ["that is a task gate", (c, v, dpl) => setGate(c, v, { dpl, type: 5 })],
  ["of 16 bits", (c, v, dpl) => setGate(c, v, { dpl, type: 6 })],
  ["that is a call gate", (c, v, dpl) => setGate(c, v, { dpl, type: 12 })],
  ["of a data segment's type", (c, v, dpl) => setGate(c, v, { dpl, type: 0x12 })],
  ["of type 0 that is not present", (c, v, dpl) => setGate(c, v, { dpl, type: 0, present: false })],
  ["with a null selector", (c, v, dpl) => setGate(c, v, { dpl, selector: 0 })],
  ["with a null selector of RPL 3", (c, v, dpl) => setGate(c, v, { dpl, selector: 3 })],
  ["with a selector beyond the GDT", (c, v, dpl) => setGate(c, v, { dpl, selector: 0x1000 })],
  ["with a selector of an LDT that is not there", (c, v, dpl) => setGate(c, v, { dpl, selector: 12 })],
  ["to a data segment", (c, v, dpl) => setGate(c, v, { dpl, selector: SELECTOR.kernelData })],
  ["to 32-bit code", (c, v, dpl) => setGate(c, v, { dpl, selector: SELECTOR.kernelCode32 })],
  ["to a TSS", (c, v, dpl) => setGate(c, v, { dpl, selector: SELECTOR.tss })],
  ["to code of DPL 3", (c, v, dpl) => setGate(c, v, { dpl, selector: SELECTOR.userCode })],
  ["to code with L and D", (c, v, dpl) => setDescriptor(setGate(c, v, { dpl, selector: FREE }), FREE, CODE64 | 0x4000)],
  ["to code not present", (c, v, dpl) => setDescriptor(setGate(c, v, { dpl, selector: FREE }), FREE, CODE64 & ~0x80)],
  [
    "to 32-bit code not present",
    (c, v, dpl) => setDescriptor(setGate(c, v, { dpl, selector: FREE }), FREE, (CODE64 & ~0x2080) | 0x4000),
  ],
  ["to a non-canonical address", (c, v, dpl) => setGate(c, v, { dpl }).poke(IDT + v * 16 + 8, 0x8000n)],
  ["beyond the IDT's limit", (c, v) => shortIdt(c, v * 16 + 14)],
];
function shortIdt(c: CaseCode, limit: number): CaseCode {
  return c
    .emit("SUB", "rsp", 16)
    .mov("rax", IDT)
    .mov(by("rsp", 16), limit)
    .mov(by("rsp", 64, 2), "rax")
    .emit("LIDT", by("rsp"))
    .emit("ADD", "rsp", 16);
}

/** Gates that are right, though they look odd. */
const RIGHT: readonly (readonly [string, (c: CaseCode, vector: number, dpl: number) => CaseCode])[] = [
  ["as usual", (c, v, dpl) => setGate(c, v, { dpl })],
  ["that is a trap gate", (c, v, dpl) => setGate(c, v, { dpl, type: 15 })],
  ["with a selector of RPL 3", (c, v, dpl) => setGate(c, v, { dpl, selector: SELECTOR.kernelCode | 3 })],
  ["to conforming code", (c, v, dpl) => setGate(c, v, { dpl, selector: SELECTOR.conforming })],
  [
    "to code with base and limit",
    (c, v, dpl) =>
      setGate(c, v, { dpl, selector: FREE }).poke(
        GDT + FREE,
        descriptor({ base: 0x1234, limit: 1, attributes: 0x209a }),
      ),
  ],
  ["to execute-only code", (c, v, dpl) => setDescriptor(setGate(c, v, { dpl, selector: FREE }), FREE, 0xa098)],
  ["with IST1", (c, v, dpl) => setGate(c, v, { dpl, ist: 1 })],
  ["with IST2", (c, v, dpl) => setGate(c, v, { dpl, ist: 2 })],
  ["that ends with the IDT", (c, v, dpl) => shortIdt(setGate(c, v, { dpl }), v * 16 + 15)],
  ["to the upper half", (c, v, dpl) => setGate(c, v, { dpl }).poke(IDT + v * 16 + 8, 0xffff_ff80n)],
];

function gateCases(list: typeof WRONG): SystemCase[] {
  return list.flatMap(([name, prepare]) => {
    const cases = [
      {
        name: `INT by a gate ${name}, ring 0`,
        spec: "SDM 2 INT n; SDM 3 §6.13",
        code: (c: CaseCode) => prepare(c, 0x40, 0).emit("INT", 0x40),
      },
      {
        name: `INT by a gate ${name}, ring 3`,
        spec: "SDM 2 INT n; SDM 3 §6.13",
        code: (c: CaseCode) => prepare(c, 0x40, 3).toUser(".user").ring(3).label(".user").emit("INT", 0x40),
      },
      {
        name: `#UD by a gate ${name}, ring 0`,
        spec: "SDM 3 §6.13, EXT",
        code: (c: CaseCode) => prepare(setGate(c, 13, { ist: 1 }), 6, 0).emit("UD2"),
      },
      {
        name: `#UD by a gate ${name}, ring 3`,
        spec: "SDM 3 §6.13, EXT",
        code: (c: CaseCode) => prepare(c, 6, 0).toUser(".user").ring(3).label(".user").emit("UD2"),
      },
    ];
    // Without #UD's gate there would be no later ones either.
    return name.startsWith("beyond") ? cases.slice(0, 2) : cases;
  });
}

const PRIORITY: SystemCase[] = [
  {
    name: "INT in ring 3: DPL is checked before presence",
    spec: "SDM 2 INT n",
    code: (c) => setGate(c, 0x40, { dpl: 0, present: false }).toUser(".u").ring(3).label(".u").emit("INT", 0x40),
  },
  {
    name: "INT in ring 3: the type is checked before DPL",
    spec: "SDM 2 INT n",
    code: (c) => setGate(c, 0x40, { dpl: 0, type: 0 }).toUser(".u").ring(3).label(".u").emit("INT", 0x40),
  },
];

/** Stacks that handlers get. */
const STACKS: SystemCase[] = [
  ...[0, 1, 7, 8, 9, 15].map((low) => ({
    name: `the frame is aligned to 16 bytes, RSP ends in ${low}`,
    spec: "SDM 3 §6.14.2",
    code: (c: CaseCode) => c.mov("rsp", STACK.kernel - 16 + low).emit("UD2"),
  })),
  {
    name: "the frame with an error code, RSP ends in 8",
    spec: "SDM 3 §6.14.2",
    code: (c) =>
      c
        .mov("rsp", STACK.kernel - 8)
        .mov("rbx", NON_CANONICAL)
        .mov("rax", by("rbx")),
  },
  {
    name: "RSP0 is not aligned",
    spec: "SDM 3 §6.14.2",
    code: (c) =>
      c
        .poke(TSS + 4, BigInt(STACK.rsp0 - 5))
        .toUser(".user")
        .ring(3)
        .label(".user")
        .emit("UD2"),
  },
  {
    name: "IST1 is not aligned",
    spec: "SDM 3 §6.14.2",
    code: (c) =>
      setGate(c, 6, { ist: 1 })
        .poke(TSS + 0x24, BigInt(STACK.ist1 - 3))
        .emit("UD2"),
  },
  {
    name: "IST1 while on IST1 overwrites",
    spec: "SDM 3 §6.14.5",
    code(c) {
      setGate(c, 13, { ist: 1 }).gate(6, { ist: 1, to: ".handler" }).emit("UD2");
      c.label(".handler").log("rsp", "rsp").mov("rbx", NON_CANONICAL).mov("rax", by("rbx"));
    },
  },
  {
    name: "IST from ring 3 leaves RSP0 alone",
    spec: "SDM 3 §6.14.5",
    code: (c) => setGate(c, 6, { ist: 2 }).toUser(".user").ring(3).label(".user").emit("UD2"),
  },
  {
    name: "RSP0 is not canonical: #SS with EXT, then its own stack",
    spec: "SDM 3 §6.14.4; SDM 2 INT n",
    code(c) {
      setGate(c, 12, { ist: 1 })
        .poke(TSS + 4, NON_CANONICAL)
        .toUser(".user")
        .ring(3)
        .label(".user")
        .emit("UD2");
    },
  },
  {
    name: "RSP0 is not canonical: INT n in ring 3",
    spec: "SDM 3 §6.14.4; SDM 2 INT n",
    code(c) {
      setGate(setGate(c, 12, { ist: 1 }), 0x40, { dpl: 3 }).poke(TSS + 4, NON_CANONICAL);
      c.toUser(".user").ring(3).label(".user").emit("INT", 0x40);
    },
  },
  {
    name: "IST1 is not canonical",
    spec: "SDM 3 §6.14.5",
    code: (c) =>
      setGate(setGate(c, 6, { ist: 1 }), 12, { ist: 2 })
        .poke(TSS + 0x24, NON_CANONICAL)
        .emit("UD2"),
  },
  {
    name: "the TSS is too short for RSP0",
    spec: "SDM 2 INT n; #TS",
    code(c) {
      setGate(c, 10, { ist: 0 });
      c.poke(GDT + SELECTOR.tss, descriptor({ base: TSS, limit: 0x67, attributes: 0x89 })).mov("eax", SELECTOR.tss);
      c.emit("LTR", "ax").poke(GDT + SELECTOR.tss, descriptor({ base: TSS, limit: 10, attributes: 0x89 }));
      c.emit("LTR", "ax").emit("INT", 0x40);
    },
  },
  {
    name: "the TSS is too short for IST1",
    spec: "SDM 2 INT n; #TS",
    code(c) {
      setGate(c, 6, { ist: 1 }).mov("eax", SELECTOR.tss);
      c.poke(GDT + SELECTOR.tss, descriptor({ base: TSS, limit: 0x2a, attributes: 0x89 }))
        .emit("LTR", "ax")
        .emit("UD2");
    },
  },
  {
    name: "the TSS is too short for IST1, INT n",
    spec: "SDM 2 INT n; #TS",
    code(c) {
      setGate(c, 0x40, { ist: 1 }).mov("eax", SELECTOR.tss);
      c.poke(GDT + SELECTOR.tss, descriptor({ base: TSS, limit: 0x2a, attributes: 0x89 })).emit("LTR", "ax");
      c.emit("INT", 0x40);
    },
  },
  {
    name: "the new stack is not mapped: a page fault on another",
    spec: "SDM 3 §6.8, table 6-5",
    code(c) {
      setGate(c, 14, { ist: 1 })
        .poke(TSS + 4, 0x9000_0000n)
        .toUser(".user")
        .ring(3)
        .label(".user")
        .emit("UD2");
    },
  },
  {
    name: "ring 3's handler in ring 0 has a null SS, and interrupts off",
    spec: "SDM 3 §6.14.4",
    code(c) {
      c.gate(6, { to: ".handler" }).toUser(".user").ring(3).label(".user").emit("UD2");
      c.ring(0).label(".handler").logSystem("ss", "ss").logSystem("cs", "cs").logSystem("ds", "ds").logFlags("fl");
    },
  },
  {
    name: "SS stays where ring 0 is interrupted",
    spec: "SDM 3 §6.14.4",
    code(c) {
      c.gate(6, { to: ".handler" }).emit("UD2").label(".handler").logSystem("ss", "ss").log("rsp", "rsp");
    },
  },
  {
    name: "conforming code keeps ring 3's stack and CPL",
    spec: "SDM 3 §6.12.1.2",
    code(c) {
      c.gate(0x40, { dpl: 3, selector: SELECTOR.conforming, to: ".handler" });
      // The handler runs in ring 3, so at ring 3's address.
      c.mov("rbx", IDT + 0x406)
        .emit("OR", by("rbx", 16), ALIAS / 65536)
        .toUser(".user")
        .ring(3);
      c.label(".user")
        .emit("INT", 0x40)
        .label(".handler")
        .logSystem("cs", "cs")
        .log("rsp", "rsp")
        .logSystem("ss", "ss");
    },
  },
];

/** Which flags a handler begins with. */
const FLAGS: SystemCase[] = [14, 15].map((type) => ({
  name: `flags in the handler by a gate of type ${type}`,
  spec: "SDM 3 §6.12.1.3",
  code(c: CaseCode) {
    // NT, IOPL 3, AC, ID, DF, OF and all other arithmetic ones; IF and TF apart.
    c.gate(0x40, { type, to: ".handler" }).emit("PUSH", 0x24_7cd7).emit("POPF").emit("INT", 0x40);
    c.label(".handler")
      .logFlags("in")
      .mov("rbx", by("rsp", 64, 16))
      .log("pushed", "rbx");
  },
}));
const RESUME: SystemCase[] = [
  {
    name: "a fault's frame has RF",
    spec: "SDM 3 §17.3.1.1",
    code(c) {
      c.gate(6, { to: ".handler" })
        .emit("UD2")
        .label(".handler")
        .mov("rbx", by("rsp", 64, 16))
        .log("fl", "rbx");
    },
  },
  {
    name: "a page fault's frame has RF",
    spec: "SDM 3 §17.3.1.1",
    code(c) {
      c.gate(14, { to: ".handler" }).mov("rbx", 0x9000_0000n).mov("rax", by("rbx"));
      c.label(".handler")
        .mov("rbx", by("rsp", 64, 24))
        .log("fl", "rbx");
    },
  },
  {
    name: "an INT's frame has no RF",
    spec: "SDM 3 §17.3.1.1",
    code(c) {
      c.gate(3, { to: ".handler" })
        .emit("INT3")
        .label(".handler")
        .mov("rbx", by("rsp", 64, 16))
        .log("fl", "rbx");
    },
  },
  {
    name: "IRETQ sets RF; the next instruction clears it",
    spec: "SDM 3 §17.3.1.1",
    code(c) {
      c.gate(0x40, { to: ".handler" }).mov("rbp", "rsp").emit("PUSH", SELECTOR.kernelData).emit("PUSH", "rbp");
      c.emit("PUSH", 0x1_0002).emit("PUSH", SELECTOR.kernelCode).lea("rax", ".to").emit("PUSH", "rax");
      c.emit("IRET", { size: 64 }).label(".to").db(0x90).emit("INT", 0x40);
      c.label(".handler")
        .mov("rbx", by("rsp", 64, 16))
        .log("fl", "rbx");
    },
  },
];

/** Faults while an exception is delivered, by table 6-5. */
const noGate = (c: CaseCode, vector: number): CaseCode => setGate(c, vector, { present: false });
const DOUBLE: SystemCase[] = [
  {
    name: "#UD, its gate not present: #NP",
    spec: "SDM 3 table 6-5",
    code: (c) => noGate(c, 6).emit("UD2"),
  },
  {
    name: "#GP, its gate not present: #DF",
    spec: "SDM 3 table 6-5",
    code: (c) => noGate(c, 13).mov("rbx", NON_CANONICAL).mov("rax", by("rbx")),
  },
  {
    name: "#DE, its gate not present: #DF",
    spec: "SDM 3 table 6-5",
    code: (c) => noGate(c, 0).emit("DIV", "ecx"),
  },
  {
    name: "#SS, its gate not present: #DF",
    spec: "SDM 3 table 6-5",
    code: (c) => noGate(c, 12).mov("rbp", NON_CANONICAL).mov("rax", by("rbp")),
  },
  {
    name: "#NP, its gate not present: #DF",
    spec: "SDM 3 table 6-5",
    code(c) {
      setDescriptor(noGate(c, 11), FREE, 0xc012).mov("eax", FREE).mov("fs", "ax");
    },
  },
  {
    name: "#PF, its gate not present: #DF",
    spec: "SDM 3 table 6-5",
    code: (c) => noGate(c, 14).mov("rbx", 0x9000_0000n).mov("rax", by("rbx")),
  },
  {
    name: "#PF, its handler's stack not mapped: #DF",
    spec: "SDM 3 table 6-5",
    code: (c) =>
      setGate(setGate(c, 8, { ist: 2 }), 14, { ist: 1 })
        .poke(TSS + 0x24, 0x9000_0000n)
        .mov("rbx", 0xa000_0000n)
        .mov("rax", by("rbx")),
  },
  {
    name: "#GP, its handler's stack not mapped: #PF",
    spec: "SDM 3 table 6-5",
    code: (c) =>
      setGate(c, 13, { ist: 1 })
        .poke(TSS + 0x24, 0x9000_0000n)
        .mov("rbx", NON_CANONICAL)
        .mov("rax", by("rbx")),
  },
  {
    name: "#UD by #NP by #GP: #DF",
    spec: "SDM 3 table 6-5",
    code: (c) => setGate(noGate(c, 6), 11, { selector: SELECTOR.kernelData }).emit("UD2"),
  },
  {
    name: "INT3, its handler's stack not mapped: #PF",
    spec: "SDM 3 table 6-5",
    code: (c) =>
      setGate(c, 3, { ist: 1 })
        .poke(TSS + 0x24, 0x9000_0000n)
        .emit("INT3")
        .mark("back"),
  },
  {
    name: "#DB of INT1, its gate not present: #NP with EXT",
    spec: "SDM 3 §6.13",
    code: (c) => noGate(c, 1).emit("INT1"),
  },
  {
    name: "#DF in ring 3",
    spec: "SDM 3 table 6-5",
    code: (c) => noGate(c, 13).toUser(".user").ring(3).label(".user").emit("HLT"),
  },
  {
    name: "#UD's gate is in a page that is not there: #PF",
    spec: "SDM 3 table 6-5",
    code(c) {
      // #UD's gate lies at the end of page 0 of the window, all from vector 8 on in page 1.
      c.poke(pte(0), 0n)
        .mov("esi", IDT + 0x80)
        .mov("edi", PLAY + 0x1000)
        .mov("ecx", 0xf80 / 8)
        .rep();
      c.emit("MOVS", { size: 64 })
        .emit("SUB", "rsp", 16)
        .mov("rax", WINDOW + 0x1000 - 0x80)
        .mov(by("rsp", 16), 0xfff);
      c.mov(by("rsp", 64, 2), "rax")
        .emit("LIDT", by("rsp"))
        .emit("UD2");
    },
  },
];

export const DELIVERY: readonly SystemCase[] = [
  ...gateCases(WRONG),
  ...gateCases(RIGHT),
  ...PRIORITY,
  ...STACKS,
  ...FLAGS,
  ...RESUME,
  ...DOUBLE,
];
