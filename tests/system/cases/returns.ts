/** IRETQ and far RET: what they check, and what they restore. [SDM 2 IRET, RET] */

import { mem } from "../../../src/isa/assembler.ts";
import { by, type CaseCode } from "../guest/case-code.ts";
import { ALIAS, GDT, SELECTOR, STACK } from "../guest/layout.ts";
import type { SystemCase } from "../guest/runtime.ts";
import { descriptor } from "../guest/tables.ts";

const NON_CANONICAL = 0x8000_0000_0000n;
const FREE = SELECTOR.free;
const USER_CODE = SELECTOR.userCode | 3;
const USER_DATA = SELECTOR.userData | 3;

interface Frame {
  readonly cs?: number;
  readonly ss?: number;
  readonly flags?: number;
  readonly rip?: bigint;
  readonly rsp?: bigint;
}

/** Pushes a frame for IRETQ to `.to`, and runs it. Ring 3's targets are at its addresses. No flag follows from where
 * the program's code happens to lie. */
function frame(
  c: CaseCode,
  { cs = SELECTOR.kernelCode, ss = SELECTOR.kernelData, flags = 2, rip, rsp }: Frame,
): CaseCode {
  const user = (cs & 3) === 3;
  c.emit("PUSH", ss)
    .mov("rax", rsp ?? BigInt(user ? ALIAS + STACK.user : STACK.kernel - 0x400))
    .emit("PUSH", "rax");
  c.emit("PUSH", flags).emit("PUSH", cs);
  if (rip === undefined) c.lea("rax", ".to").emit("LEA", "rax", by("rax", 64, user ? ALIAS : 0));
  else c.mov("rax", rip);
  return c.emit("PUSH", "rax").logOnFault("rsp").emit("IRET", { size: 64 });
}

/** An IRETQ that fails, with a descriptor at FREE if one is given. */
function fails(name: string, values: Frame, attributes?: number): SystemCase {
  return {
    name: `IRETQ ${name}`,
    spec: "SDM 2 IRET",
    code(c) {
      if (attributes !== undefined) c.poke(GDT + FREE, descriptor({ limit: 0xfffff, attributes }));
      frame(c, values).label(".to").mark("there");
    },
  };
}
/** One that works, and says where it came out. */
function works(name: string, values: Frame, attributes?: number): SystemCase {
  return {
    name: `IRETQ ${name}`,
    spec: "SDM 2 IRET",
    code(c) {
      if (attributes !== undefined) c.poke(GDT + FREE, descriptor({ limit: 0xfffff, attributes }));
      frame(c, values).label(".to");
      c.ring((values.cs ?? 0) % 4 === 3 ? 3 : 0);
      c.logFlags("fl").log("rsp", "rsp").logSystem("cs", "cs").logSystem("ss", "ss").logSystem("ds", "ds");
    },
  };
}

const IRETS: SystemCase[] = [
  works("in ring 0", {}),
  works("in ring 0 with all flags", { flags: 0x24_7ed7 & ~0x4200 }),
  works("in ring 0 to conforming code", { cs: SELECTOR.conforming }),
  works("in ring 0 with a null SS", { ss: 0 }),
  works("to ring 3", { cs: USER_CODE, ss: USER_DATA }),
  works("to ring 3 with all flags but IF, TF and NT", { cs: USER_CODE, ss: USER_DATA, flags: 0x24_3cd7 }),
  works("to ring 3 with RF and reserved flags", { cs: USER_CODE, ss: USER_DATA, flags: 0x7fc1_802a }),
  works("to ring 3 conforming code", { cs: SELECTOR.conforming | 3, ss: USER_DATA }),
  works("in ring 0 to execute-only code", { cs: FREE }, 0xa098),
  works("in ring 0 with an expand-down stack", { ss: FREE }, 0xc096),
  fails("to a null CS", { cs: 0 }),
  fails("to a null CS with RPL 3", { cs: 3 }),
  fails("to a CS beyond the GDT", { cs: 0x1000 }),
  fails("to a CS in an LDT that is not there", { cs: 0xc }),
  fails("to a data segment", { cs: SELECTOR.kernelData }),
  fails("to a TSS", { cs: SELECTOR.tss }),
  fails("to code of DPL 3 with RPL 0", { cs: SELECTOR.userCode }),
  fails("to code of DPL 0 with RPL 3", { cs: SELECTOR.kernelCode | 3, ss: USER_DATA }),
  fails("to conforming code of DPL 3 with RPL 0", { cs: FREE }, 0xa0fe),
  fails("to code not present", { cs: FREE }, 0xa01a),
  fails("to ring 3 code not present, SS null too", { cs: FREE | 3, ss: 0 }, 0xa07a),
  fails("to code with L and D", { cs: FREE }, 0xe09a),
  fails("to a non-canonical RIP", { rip: NON_CANONICAL }),
  fails("to a non-canonical RIP in ring 3", { rip: NON_CANONICAL, cs: USER_CODE, ss: USER_DATA }),
  {
    name: "IRETQ to 32-bit code with a RIP above 4 GiB",
    spec: "SDM 2 IRET",
    code(c) {
      c.emit("PUSH", SELECTOR.kernelData).emit("PUSH", "rsp").emit("PUSH", 2).emit("PUSH", SELECTOR.kernelCode32);
      c.lea("rax", ".to")
        .mov("rcx", 0x1_0000_0000n)
        .emit("LEA", "rax", mem({ base: "rax", index: "rcx" }))
        .emit("PUSH", "rax");
      c.emit("IRET", { size: 64 }).label(".to").emit("UD2");
    },
  },
  fails("to ring 3 with a null SS", { cs: USER_CODE, ss: 0 }),
  fails("to ring 3 with a null SS of RPL 3", { cs: USER_CODE, ss: 3 }),
  fails("in ring 0 with a null SS of RPL 1", { ss: 1 }),
  fails("to ring 3 with an SS of RPL 0", { cs: USER_CODE, ss: SELECTOR.userData }),
  fails("to ring 3 with an SS of DPL 0", { cs: USER_CODE, ss: SELECTOR.kernelData | 3 }),
  fails("to an SS beyond the GDT", { ss: 0x1000 }),
  fails("to an SS that is code", { ss: SELECTOR.kernelCode }),
  fails("to an SS that is read-only", { ss: FREE }, 0xc090),
  fails("to an SS not present", { ss: FREE }, 0xc012),
  fails("to an SS not present and read-only", { ss: FREE }, 0xc010),
  fails("with NT", { flags: 0x4002 }),
  {
    name: "IRETQ while NT is set",
    spec: "SDM 2 IRET",
    code: (c) => frame(c.emit("PUSH", 0x4002).emit("POPF"), {}).label(".to").mark("there"),
  },
  {
    name: "IRETQ from a non-canonical RSP",
    spec: "SDM 2 IRET",
    code: (c) => c.mov("rsp", NON_CANONICAL).logOnFault("rsp").emit("IRET", { size: 64 }),
  },
  {
    name: "IRETQ with a non-canonical RSP in its frame",
    spec: "SDM 2 IRET",
    code: (c) => frame(c, { rsp: NON_CANONICAL, cs: USER_CODE, ss: USER_DATA }).label(".to").emit("UD2"),
  },
  {
    name: "IRETQ in ring 3 cannot change IF and IOPL",
    spec: "SDM 2 IRET; SDM 3 §6.8.1",
    ring: 3,
    code(c) {
      c.emit("PUSH", USER_DATA)
        .lea("rax", ".to")
        .emit("LEA", "rcx", by("rsp", 64, 8))
        .emit("PUSH", "rcx");
      c.emit("PUSH", 0x24_3ed7).emit("PUSH", USER_CODE).emit("PUSH", "rax").emit("IRET", { size: 64 });
      c.label(".to").logFlags("fl").log("rsp", "rsp");
    },
  },
  {
    name: "IRETQ in ring 3 to ring 0",
    spec: "SDM 2 IRET",
    ring: 3,
    code(c) {
      c.emit("PUSH", SELECTOR.kernelData).emit("PUSH", "rsp").emit("PUSH", 2).emit("PUSH", SELECTOR.kernelCode);
      c.emit("PUSH", 0).emit("IRET", { size: 64 });
    },
  },
  {
    name: "IRETQ to ring 3 drops ring 0's data segments and keeps ring 3's",
    spec: "SDM 2 IRET",
    code(c) {
      c.poke(GDT + FREE, descriptor({ limit: 0xfffff, attributes: 0xc09f }));
      c.mov("eax", SELECTOR.kernelData).mov("ds", "ax").mov("eax", USER_DATA).mov("es", "ax").mov("eax", FREE);
      c.mov("fs", "ax").mov("eax", SELECTOR.kernelCode).mov("gs", "ax");
      frame(c, { cs: USER_CODE, ss: USER_DATA }).label(".to").ring(3);
      for (const name of ["ds", "es", "fs", "gs"]) c.logSystem(name, name);
    },
  },
  {
    name: "IRETD in 64-bit code pops doublewords",
    spec: "SDM 2 IRET",
    code(c) {
      c.emit("SUB", "rsp", 20)
        .lea("rax", ".to")
        .mov(by("rsp", 32), "eax")
        .mov(by("rsp", 32, 4), SELECTOR.kernelCode);
      c.mov(by("rsp", 32, 8), 0x246)
        .mov(by("rsp", 32, 12), STACK.kernel - 64)
        .mov(by("rsp", 32, 16), SELECTOR.kernelData);
      c.emit("CLI").emit("IRET", { size: 32 }).label(".to").emit("CLI").log("rsp", "rsp").logSystem("ss", "ss");
    },
  },
  {
    name: "IRET of 16 bits in 64-bit code pops words",
    spec: "SDM 2 IRET",
    code(c) {
      // IP has 16 bits: a code segment with a base brings it here, but in 64-bit code bases do not count; it fails.
      c.emit("SUB", "rsp", 16)
        .mov(by("rsp", 16), 0x10)
        .mov(by("rsp", 16, 2), SELECTOR.kernelData);
      c.emit("IRET", { size: 16 });
    },
  },
];

/** A far RET to `.to`. */
function returnsFar(
  name: string,
  cs: number,
  options: { attributes?: number; ss?: number; bytes?: number } = {},
): SystemCase {
  const { attributes, ss = USER_DATA, bytes = 0 } = options;
  return {
    name: `RETFQ ${name}`,
    spec: "SDM 2 RET",
    code(c) {
      if (attributes !== undefined) c.poke(GDT + FREE, descriptor({ limit: 0xfffff, attributes }));
      const user = (cs & 3) === 3;
      c.emit("PUSH", ss)
        .mov("rax", ALIAS + STACK.user)
        .emit("PUSH", "rax")
        .emit("SUB", "rsp", bytes)
        .emit("PUSH", cs);
      c.lea("rax", ".to")
        .emit("LEA", "rax", by("rax", 64, user ? ALIAS : 0))
        .emit("PUSH", "rax")
        .logOnFault("rsp");
      if (bytes === 0) c.emit("RETF", { size: 64 });
      else c.emit("RETF", bytes, { size: 64 });
      c.label(".to")
        .ring(user ? 3 : 0)
        .log("rsp", "rsp")
        .logSystem("cs", "cs")
        .logSystem("ss", "ss")
        .logSystem("ds", "ds");
    },
  };
}
const FAR: SystemCase[] = [
  returnsFar("in ring 0", SELECTOR.kernelCode),
  returnsFar("in ring 0, releasing 16 bytes", SELECTOR.kernelCode, { bytes: 16 }),
  returnsFar("to conforming code", SELECTOR.conforming),
  returnsFar("to ring 3", USER_CODE),
  returnsFar("to ring 3, releasing 16 bytes of both stacks", USER_CODE, { bytes: 16 }),
  returnsFar("to conforming code in ring 3", SELECTOR.conforming | 3),
  returnsFar("to a null CS", 0),
  returnsFar("to a data segment", SELECTOR.kernelData),
  returnsFar("to code of DPL 0 with RPL 3", SELECTOR.kernelCode | 3),
  returnsFar("to code of DPL 3 with RPL 0", SELECTOR.userCode),
  returnsFar("to code not present", FREE, { attributes: 0xa01a }),
  returnsFar("to code with L and D", FREE, { attributes: 0xe09a }),
  returnsFar("to ring 3 with a null SS", USER_CODE, { ss: 0 }),
  returnsFar("to ring 3 with an SS of DPL 0", USER_CODE, { ss: SELECTOR.kernelData }),
  returnsFar("to ring 3 with an SS not present", USER_CODE, { ss: FREE | 3, attributes: 0xc072 }),
  {
    name: "RETFQ to a non-canonical RIP",
    spec: "SDM 2 RET",
    code(c) {
      c.emit("PUSH", SELECTOR.kernelCode).mov("rax", NON_CANONICAL).emit("PUSH", "rax").logOnFault("rsp");
      c.emit("RETF", { size: 64 });
    },
  },
  {
    name: "RETF of 32 bits in 64-bit code",
    spec: "SDM 2 RET",
    code(c) {
      c.emit("SUB", "rsp", 8)
        .lea("rax", ".to")
        .mov(by("rsp", 32), "eax")
        .mov(by("rsp", 32, 4), SELECTOR.kernelCode);
      c.emit("RETF", { size: 32 }).label(".to").log("rsp", "rsp");
    },
  },
];

/** RFLAGS by POPF, and by what may not be changed. */
const FLAGS: SystemCase[] = [
  ...([0, 3] as const).flatMap((ring) =>
    [0x24_3ed7, 0x3802a, 0x1_0002, 0x2_0002, 0x18_0002, 0x3f_8fd5, 0x4002].map((value) => ({
      name: `POPFQ of ${value.toString(16)} in ring ${ring}`,
      spec: "SDM 2 POPF, table 4-16",
      ring,
      code(c: CaseCode) {
        c.emit("PUSH", value & ~0x300)
          .emit("POPF")
          .logFlags("fl")
          .emit("PUSH", 2)
          .emit("POPF");
      },
    })),
  ),
  {
    name: "POPF of 16 bits leaves the upper half",
    spec: "SDM 2 POPF",
    code(c) {
      c.emit("PUSH", 0x24_0002)
        .emit("POPF")
        .emit("PUSH", 0x00d7, { size: 16 })
        .emit("POPF", { size: 16 })
        .logFlags("fl");
      c.emit("PUSHF", { size: 16 }).log("rsp", "rsp").emit("POPF", { size: 16 });
    },
  },
  {
    name: "POPF in ring 3 with IOPL 3 changes IF but not IOPL",
    spec: "SDM 2 POPF",
    code(c) {
      c.toUser(".user", { flags: 0x3002 }).ring(3).label(".user").emit("PUSH", 0x202).emit("POPF").emit("CLI");
      c.logFlags("fl").emit("PUSH", 0x2).emit("POPF").logFlags("fl2");
    },
  },
];

export const RETURNS: readonly SystemCase[] = [...IRETS, ...FAR, ...FLAGS];
