/**
 * Control, debug and model-specific registers, caches and translations, identification and time [SDM 2, SDM 3].
 * Nearly all are one call into the engine after the privilege check; the trace ends where the machine's mode, its
 * translations or its interrupts may have changed.
 */

import { CF } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import { EXCEPTION, RAX, RCX, RDX, type Semantics } from "../semantics.ts";
import { segmentField } from "../state.ts";
import { pair } from "./data.ts";

const CR0 = { EM: 1 << 2, TS: 1 << 3 } as const;
const CR4 = { TSD: 1 << 2, FSGSBASE: 1 << 16, OSXSAVE: 1 << 18 } as const;

/** Whether a bit of CR0 or CR4 is set (i32, non-zero). */
export function controlBit(m: Semantics, register: "cr0" | "cr4", mask: number): Value {
  return m.and(m.fit(m.field(register), 32), mask);
}
/** #NM where CR0.EM or CR0.TS forbids the use of processor extensions' state. */
export function requireExtensions(m: Semantics): void {
  m.faultWhen(controlBit(m, "cr0", CR0.EM | CR0.TS), EXCEPTION.NM);
}
/** #UD without CR4.OSXSAVE. */
export function requireXsave(m: Semantics): void {
  m.faultWhen(m.isZero(controlBit(m, "cr4", CR4.OSXSAVE)), EXCEPTION.UD);
}
export function requireTaskNotSwitched(m: Semantics): void {
  m.faultWhen(controlBit(m, "cr0", CR0.TS), EXCEPTION.NM);
}

/** EDX:EAX, as RDMSR and its kin give and take it. */
export function setPair(m: Semantics, value: Value): void {
  m.setGpr(RAX, 32, m.fit(value, 32));
  m.setGpr(RDX, 32, m.fit(m.shrU(value, 32), 32));
}
export function edxEax(m: Semantics): Value {
  return pair(m, RDX, RAX);
}

/** A privileged instruction without operands. */
function privileged(name: string, form: string, effect: (m: Semantics) => void, rest: Partial<Instruction> = {}) {
  return {
    name,
    forms: [form],
    effect(m: Semantics) {
      m.requirePrivilege();
      effect(m);
    },
    system: true,
    ...rest,
  } satisfies Instruction;
}

/** MOV to and from control or debug registers: 64 bits in 64-bit mode, else 32, whatever the prefixes say. */
function specialMove(place: "C" | "D", opcode: number, read: string, write: string): Instruction[] {
  const code = (offset: number) => (opcode + offset).toString(16);
  return [
    {
      name: `MOV from-${place}R`,
      forms: [`0F ${code(0)} /r Rq,${place}d o64`, `0F ${code(0)} /r Rd,${place}d i64`],
      effect(m, dst, from) {
        m.requirePrivilege();
        m.write(dst, m.fit(m.helper(read, "i64", [m.read(from)]), dst.bits));
      },
      system: true,
    },
    {
      name: `MOV to-${place}R`,
      forms: [`0F ${code(2)} /r ${place}d,Rq o64`, `0F ${code(2)} /r ${place}d,Rd i64`],
      effect(m, to, src) {
        m.requirePrivilege();
        m.system(write, [m.read(to), m.fit(m.read(src), 64)]);
      },
      ends: true,
      system: true,
    },
  ];
}

function readTimestamp(m: Semantics): void {
  m.when(m.field("cpl"), () => m.faultWhen(controlBit(m, "cr4", CR4.TSD), EXCEPTION.GP, 0));
  setPair(m, m.helper("readTimestamp", "i64", [], true));
}

function randomNumber(name: string, digit: number, feature: string): Instruction {
  return {
    name,
    forms: [`0F C7 /${digit} Rv`],
    effect(m, dst) {
      m.write(dst, m.fit(m.helper("random", "i64", [], true), dst.bits));
      // CF says that the number is good; the other flags become 0.
      m.setArithmeticFlags(m.i32(CF));
    },
    system: true,
    feature,
  };
}

function segmentBase(segment: "fs" | "gs", digit: number): Instruction[] {
  const check = (m: Semantics) => m.faultWhen(m.isZero(controlBit(m, "cr4", CR4.FSGSBASE)), EXCEPTION.UD);
  const name = segment.toUpperCase();
  return [
    {
      name: `RD${name}BASE`,
      forms: [`F3 0F AE /${digit} Ry o64`],
      effect(m, dst) {
        check(m);
        m.write(dst, m.fit(m.state(segmentField(segment, "base").offset, 64), dst.bits));
      },
      system: true,
      feature: "fsgsbase",
    },
    {
      name: `WR${name}BASE`,
      forms: [`F3 0F AE /${digit + 2} Ry o64`],
      effect(m, src) {
        check(m);
        const base = m.fit(m.read(src), 64);
        m.requireCanonical(base);
        m.setSegmentBase(segment, base);
      },
      uses: ["long"],
      system: true,
      feature: "fsgsbase",
    },
  ];
}

function swapGsBase(m: Semantics): void {
  const active = m.state(segmentField("gs", "base").offset, 64);
  m.setSegmentBase("gs", m.field("kernelGsBase"));
  m.setField("kernelGsBase", active);
}

function invalidatePcid(m: Semantics, type: Operand, descriptor: Operand): void {
  m.requirePrivilege();
  const address = m.address(descriptor);
  const pcid = m.load(address, 64);
  m.system("invalidatePcid", [m.fit(m.read(type), 64), pcid, m.load(m.advance(address, 8), 64)]);
}

function loadMachineStatus(m: Semantics, src: Operand): void {
  m.requirePrivilege();
  // PE to TS are replaced, but PE cannot be cleared.
  const kept = m.and(m.field("cr0"), ~0xe);
  m.system("writeControlRegister", [m.i32(0), m.or(kept, m.and(m.fit(m.read(src), 64), 0xf))]);
}

export const SYSTEM: readonly Instruction[] = [
  ...specialMove("C", 0x20, "readControlRegister", "writeControlRegister"),
  ...specialMove("D", 0x21, "readDebugRegister", "writeDebugRegister"),
  privileged("HLT", "F4", (m) => m.system("halt"), { ends: true }),
  privileged("CLTS", "0F 06", (m) => m.system("clearTaskSwitched"), { ends: true }),
  privileged("INVD", "0F 08", () => {}),
  privileged("WBINVD", "0F 09", () => {}),
  privileged("RDMSR", "0F 32", (m) => setPair(m, m.helper("readMsr", "i64", [m.gpr(RCX, 32)]))),
  privileged("WRMSR", "0F 30", (m) => m.system("writeMsr", [m.gpr(RCX, 32), edxEax(m)]), { ends: true }),
  privileged(
    "XSETBV",
    "NP 0F 01 =D1",
    (m) => {
      requireXsave(m);
      m.system("writeExtendedControl", [m.gpr(RCX, 32), edxEax(m)]);
    },
    { ends: true, feature: "xsave" },
  ),
  privileged("SWAPGS", "NP 0F 01 =F8 o64", swapGsBase),
  {
    name: "INVLPG",
    forms: ["0F 01 /7 M"],
    effect(m, page) {
      m.requirePrivilege();
      m.system("invalidatePage", [m.address(page)]);
    },
    ends: true,
    system: true,
  },
  {
    name: "INVPCID",
    forms: ["66 0F 38 82 /r Gq,M o64", "66 0F 38 82 /r Gd,M i64"],
    effect: invalidatePcid,
    uses: ["long"],
    ends: true,
    system: true,
    feature: "invpcid",
  },
  { name: "LMSW", forms: ["0F 01 /6 Ew"], effect: loadMachineStatus, ends: true, system: true },
  {
    name: "CPUID",
    forms: ["0F A2"],
    effect: (m) => m.call("cpuid", [m.gpr(RAX, 32), m.gpr(RCX, 32)], true),
    system: true,
  },
  { name: "RDTSC", forms: ["0F 31"], effect: readTimestamp, system: true },
  {
    name: "RDTSCP",
    forms: ["NP 0F 01 =F9"],
    effect(m) {
      readTimestamp(m);
      m.setGpr(RCX, 32, m.fit(m.field("tscAux"), 32));
    },
    system: true,
    feature: "rdtscp",
  },
  // There are no performance counters: every number of one is wrong.
  { name: "RDPMC", forms: ["0F 33"], effect: (m) => m.fault(EXCEPTION.GP, 0), ends: true, system: true },
  randomNumber("RDRAND", 6, "rdrand"),
  randomNumber("RDSEED", 7, "rdseed"),
  {
    name: "XGETBV",
    forms: ["NP 0F 01 =D0"],
    effect(m) {
      requireXsave(m);
      setPair(m, m.helper("readExtendedControl", "i64", [m.gpr(RCX, 32)]));
    },
    system: true,
    feature: "xsave",
  },
  ...segmentBase("fs", 0),
  ...segmentBase("gs", 1),
  {
    name: "VMCALL",
    forms: ["NP 0F 01 =C1"],
    effect: (m) => m.system("hypercall", [m.i32(0)]),
    ends: true,
    system: true,
  },
  {
    name: "VMMCALL",
    forms: ["NP 0F 01 =D9"],
    effect: (m) => m.system("hypercall", [m.i32(1)]),
    ends: true,
    system: true,
  },
];
