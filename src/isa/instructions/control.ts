/** Jumps, calls, returns, loops and interrupts [SDM 2]. */

import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import { EXCEPTION, RCX, type Semantics } from "../semantics.ts";
import { byte, CONDITIONS } from "./data.ts";
import { STACK } from "./stack.ts";

function conditionalJump(code: number): Instruction {
  return {
    name: `J${CONDITIONS[code]}`,
    forms: [`${byte(0x70 + code)} Jb f64`, `0F ${byte(0x80 + code)} Jz f64`],
    effect(m, to) {
      m.when(m.condition(code), () => m.jumpRelative(to));
    },
    branches: true,
  };
}

/** LOOP and its kin: counts down, goes on while the count is not 0 and `also` holds. No flag changes. */
function loop(name: string, opcode: number, also?: (m: Semantics) => Value): Instruction {
  return {
    name,
    forms: [`${byte(opcode)} Jb f64`],
    effect(m, to) {
      const count = m.cutToAddress(m.sub(m.addressRegister(RCX), 1));
      const more = m.ne(count, 0);
      const taken = also === undefined ? more : m.and(more, also(m));
      if (!m.context.long) m.when(taken, () => m.requireTarget(m.target(to)));
      m.setAddressRegister(RCX, count);
      m.when(taken, () => m.jumpRelative(to));
    },
    uses: ["addressSize"],
    branches: true,
  };
}

function pushReturn(m: Semantics): void {
  const { operandSize } = m.context;
  m.push(m.fit(m.nextRip(), operandSize), operandSize);
}

/** The target of an indirect near branch, checked. */
function indirectTarget(m: Semantics, src: Operand): Value {
  const target = m.fit(m.read(src), 64);
  m.requireTarget(target);
  return target;
}

/** RET: the target is checked before RSP changes. `release`: bytes of arguments below it. */
function nearReturn(m: Semantics, release: Value): void {
  const { operandSize } = m.context;
  const target = m.fit(m.peek(operandSize), 64);
  m.requireTarget(target);
  m.dropStack(m.add(release, operandSize / 8));
  m.jump(target);
}

/** Offset (i64) and selector (i32) of a far pointer in memory: m16:16, m16:32 or m16:64. */
export function farPointer(m: Semantics, src: Operand): { offset: Value; selector: Value } {
  const { operandSize } = m.context;
  const address = m.address(src);
  const offset = m.fit(m.load(address, operandSize), 64);
  return { offset, selector: m.load(m.advance(address, operandSize / 8), 16) };
}

function far(name: string, helper: "farJump" | "farCall", direct: string, digit: number): Instruction[] {
  const transfer = (m: Semantics, selector: Value, offset: Value) => {
    m.system(helper, [selector, offset, m.i32(m.context.operandSize)]);
  };
  return [
    {
      name: `${name} far`,
      forms: [`${direct} Iz,Iw i64`],
      effect: (m, offset, selector) => transfer(m, m.read(selector), m.fit(m.read(offset), 64)),
      ends: true,
      system: true,
    },
    {
      name: `${name} far-memory`,
      forms: [`FF /${digit} M`],
      effect(m, src) {
        const { offset, selector } = farPointer(m, src);
        transfer(m, selector, offset);
      },
      uses: ["long"],
      ends: true,
      system: true,
    },
  ];
}

function farReturn(m: Semantics, release: Value): void {
  m.system("farReturn", [m.i32(m.context.operandSize), release]);
}

/** INT and the like; `source` as the helper takes it [engine-helpers.ts, softwareInterrupt]. */
function interrupt(m: Semantics, vector: Value, source: 0 | 1 | 2): void {
  m.system("softwareInterrupt", [vector, m.i32(source)]);
}

function undefinedOpcode(name: string, form: string): Instruction {
  return { name, forms: [form], effect: (m) => m.fault(EXCEPTION.UD), ends: true };
}

export const CONTROL: readonly Instruction[] = [
  ...CONDITIONS.map((_, code) => conditionalJump(code)),
  { name: "JMP", forms: ["EB Jb f64", "E9 Jz f64"], effect: (m, to) => m.jumpRelative(to), ends: true },
  {
    name: "JMP indirect",
    forms: ["FF /4 Ev f64"],
    effect: (m, src) => m.jump(indirectTarget(m, src)),
    uses: ["long"],
    ends: true,
  },
  {
    name: "CALL",
    forms: ["E8 Jz f64"],
    effect(m, to) {
      if (!m.context.long) m.requireTarget(m.target(to));
      pushReturn(m);
      m.jumpRelative(to);
    },
    uses: STACK,
    ends: true,
  },
  {
    name: "CALL indirect",
    forms: ["FF /2 Ev f64"],
    effect(m, src) {
      const { operandSize } = m.context;
      const target = m.fit(m.read(src), 64);
      // The stack is checked before the target, but nothing is written where the target is refused.
      const address = m.stackAddress(-operandSize / 8);
      const place = m.loadForWrite(address, operandSize);
      m.requireTarget(target);
      m.store(address, operandSize, m.fit(m.nextRip(), operandSize), place);
      m.dropStack(-operandSize / 8);
      m.jump(target);
    },
    uses: STACK,
    ends: true,
  },
  { name: "RET", forms: ["C3 f64"], effect: (m) => nearReturn(m, m.i64(0)), uses: STACK, ends: true },
  {
    name: "RET imm",
    forms: ["C2 Iw f64"],
    effect: (m, release) => nearReturn(m, m.fit(m.read(release), 64)),
    uses: STACK,
    ends: true,
  },
  loop("LOOPNE", 0xe0, (m) => m.condition(5)),
  loop("LOOPE", 0xe1, (m) => m.condition(4)),
  loop("LOOP", 0xe2),
  {
    // JCXZ, JECXZ, JRCXZ by the address size.
    name: "JRCXZ",
    forms: ["E3 Jb f64"],
    effect: (m, to) => m.when(m.isZero(m.addressRegister(RCX)), () => m.jumpRelative(to)),
    uses: ["addressSize"],
    branches: true,
  },
  ...far("JMP", "farJump", "EA", 5),
  ...far("CALL", "farCall", "9A", 3),
  { name: "RETF", forms: ["CB"], effect: (m) => farReturn(m, m.i32(0)), ends: true, system: true },
  { name: "RETF imm", forms: ["CA Iw"], effect: (m, bytes) => farReturn(m, m.read(bytes)), ends: true, system: true },
  {
    name: "IRET",
    forms: ["CF"],
    effect: (m) => m.system("interruptReturn", [m.i32(m.context.operandSize)]),
    ends: true,
    system: true,
  },
  { name: "INT3", forms: ["CC"], effect: (m) => interrupt(m, m.i32(EXCEPTION.BP), 1), ends: true },
  { name: "INT", forms: ["CD Ib"], effect: (m, vector) => interrupt(m, m.read(vector), 0), ends: true, system: true },
  {
    name: "INTO",
    forms: ["CE i64"],
    effect: (m) => m.when(m.condition(0), () => interrupt(m, m.i32(EXCEPTION.OF), 1)),
  },
  { name: "INT1", forms: ["F1"], effect: (m) => interrupt(m, m.i32(EXCEPTION.DB), 2), ends: true, system: true },
  {
    name: "SYSCALL",
    forms: ["0F 05"],
    effect: (m) => m.system("syscall"),
    ends: true,
    system: true,
    feature: "syscall",
  },
  {
    name: "SYSRET",
    forms: ["0F 07"],
    effect(m) {
      m.requirePrivilege();
      m.system("sysret", [m.i32(m.context.operandSize)]);
    },
    ends: true,
    system: true,
    feature: "syscall",
  },
  { name: "SYSENTER", forms: ["0F 34"], effect: (m) => m.system("sysenter"), ends: true, system: true, feature: "sep" },
  {
    name: "SYSEXIT",
    forms: ["0F 35"],
    effect(m) {
      m.requirePrivilege();
      m.system("sysexit", [m.i32(m.context.operandSize)]);
    },
    ends: true,
    system: true,
    feature: "sep",
  },
  undefinedOpcode("UD0", "0F FF /r Gv,Ev"),
  undefinedOpcode("UD1", "0F B9 /r Gv,Ev"),
  undefinedOpcode("UD2", "0F 0B"),
];
