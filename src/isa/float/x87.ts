/**
 * The x87 floating-point unit: every instruction of opcodes D8 to DF [SDM 1 §8, SDM 2 Table] as one table,
 * and one entry that runs them. A caller with a memory operand asks `x87MemoryAccess`, brings the bytes into the
 * state's operand area (or checks that it may write there), runs the instruction, and stores the operand area when
 * the outcome says so: a page fault then finds nothing changed.
 */

import * as arithmetic from "./x87-arithmetic.ts";
import * as environment from "./x87-environment.ts";
import { BINARY32, BINARY64 } from "./format.ts";
import { ES, X87_MF, type X87State, X87_UD } from "./x87-state.ts";
import * as transfer from "./x87-transfer.ts";
import * as transcendental from "./x87-transcendental.ts";

type Access = "none" | "read" | "write";

interface Instruction {
  readonly name: string;
  readonly access: Access;
  /** Bytes of the memory operand, or what gives them where the operand size matters. */
  readonly bytes: number | ((operand16: boolean) => number);
  /** A pending unmasked exception is reported first. */
  readonly waits: boolean;
  /** Leaves the pointers to the last instruction alone. */
  readonly control: boolean;
  run(state: X87State, i: number): void;
}

type Run = Instruction["run"];

function memory(name: string, access: Access, bytes: Instruction["bytes"], run: Run): Instruction {
  return { name, access, bytes, waits: true, control: false, run };
}

function register(name: string, run: Run): Instruction {
  return { name, access: "none", bytes: 0, waits: true, control: false, run };
}

function control(instruction: Instruction, waits = false): Instruction {
  return { ...instruction, waits, control: true };
}

const { MEMORY_OPERANDS } = arithmetic;
const ARITHMETIC_NAMES = ["fadd", "fmul", "fcom", "fcomp", "fsub", "fsubr", "fdiv", "fdivr"] as const;

/** The eight operations of D8, DA, DC and DE with a memory operand. */
function arithmeticRow(prefix: string, bytes: number, operand: keyof typeof MEMORY_OPERANDS): Instruction[] {
  const load = MEMORY_OPERANDS[operand];
  return ARITHMETIC_NAMES.map((name, field) =>
    memory(`${prefix}${name.slice(1)} ${operand}`, "read", bytes, (state) => {
      if (field === 2 || field === 3) arithmetic.compareMemory(state, load, field === 3);
      else arithmetic.arithmeticMemory(state, field, load);
    }),
  );
}

const { loadFloat, loadInteger, storeFloat, storeInteger } = transfer;

/** Instructions with a memory operand, by opcode - D8h and the reg field of ModRM. */
const MEMORY: readonly (readonly (Instruction | undefined)[])[] = [
  arithmeticRow("f", 4, "m32"),
  [
    memory("fld m32", "read", 4, (state) => loadFloat(state, BINARY32)),
    undefined,
    memory("fst m32", "write", 4, (state) => storeFloat(state, BINARY32, false)),
    memory("fstp m32", "write", 4, (state) => storeFloat(state, BINARY32, true)),
    control(memory("fldenv", "read", environment.environmentBytes, environment.loadEnvironment), true),
    control(memory("fldcw", "read", 2, environment.loadControl), true),
    control(memory("fnstenv", "write", environment.environmentBytes, environment.storeEnvironment)),
    control(memory("fnstcw", "write", 2, environment.storeControl)),
  ],
  arithmeticRow("fi", 4, "i32"),
  [
    memory("fild i32", "read", 4, (state) => loadInteger(state, 4)),
    memory("fisttp i32", "write", 4, (state) => storeInteger(state, 4, true, true)),
    memory("fist i32", "write", 4, (state) => storeInteger(state, 4, false, false)),
    memory("fistp i32", "write", 4, (state) => storeInteger(state, 4, false, true)),
    undefined,
    memory("fld m80", "read", 10, transfer.loadExtended),
    undefined,
    memory("fstp m80", "write", 10, transfer.storeExtendedAndPop),
  ],
  arithmeticRow("f", 8, "m64"),
  [
    memory("fld m64", "read", 8, (state) => loadFloat(state, BINARY64)),
    memory("fisttp i64", "write", 8, (state) => storeInteger(state, 8, true, true)),
    memory("fst m64", "write", 8, (state) => storeFloat(state, BINARY64, false)),
    memory("fstp m64", "write", 8, (state) => storeFloat(state, BINARY64, true)),
    control(memory("frstor", "read", environment.stateBytes, environment.restoreState), true),
    undefined,
    control(memory("fnsave", "write", environment.stateBytes, environment.saveState)),
    control(memory("fnstsw m16", "write", 2, environment.storeStatus)),
  ],
  arithmeticRow("fi", 2, "i16"),
  [
    memory("fild i16", "read", 2, (state) => loadInteger(state, 2)),
    memory("fisttp i16", "write", 2, (state) => storeInteger(state, 2, true, true)),
    memory("fist i16", "write", 2, (state) => storeInteger(state, 2, false, false)),
    memory("fistp i16", "write", 2, (state) => storeInteger(state, 2, false, true)),
    memory("fbld", "read", 10, transfer.loadDecimal),
    memory("fild i64", "read", 8, (state) => loadInteger(state, 8)),
    memory("fbstp", "write", 10, transfer.storeDecimal),
    memory("fistp i64", "write", 8, (state) => storeInteger(state, 8, false, true)),
  ],
];

/** The arithmetic rows of D8, DC and DE with a register. */
function registerRow(suffix: string, toRegister: boolean, pop: boolean): (Instruction | undefined)[] {
  return ARITHMETIC_NAMES.map((name, field) => {
    if (field === 2 || field === 3) return undefined;
    return register(name + suffix, (state, i) =>
      arithmetic.arithmeticRegister(state, field, i, toRegister ? i : 0, pop),
    );
  });
}

function comparison(name: string, signalling: boolean, pops: number): Instruction {
  return register(name, (state, i) => arithmetic.compareRegister(state, i, signalling, pops));
}

function comparisonFlags(name: string, signalling: boolean, pop: boolean): Instruction {
  return register(name, (state, i) => arithmetic.compareFlags(state, i, signalling, pop));
}

function moves(prefix: string, negated: boolean): Instruction[] {
  return ["b", "e", "be", "u"].map((suffix, condition) =>
    register(prefix + suffix, (state, i) => transfer.moveIf(state, condition, negated, i)),
  );
}

const FCOM = comparison("fcom", true, 0);
const FCOMP = comparison("fcomp", true, 1);
const FXCH = register("fxch", transfer.exchange);
const FSTP = register("fstp", (state, i) => transfer.storeRegister(state, i, true));

/** Register forms whose eight encodings differ in ST(i) alone, by opcode - D8h and the reg field. */
const ROWS: readonly (readonly (Instruction | undefined)[])[] = [
  registerRow("", false, false).with(2, FCOM).with(3, FCOMP),
  [register("fld", transfer.loadRegister), FXCH, undefined, register("fstpnce", transfer.storeRegisterUnchecked)],
  moves("fcmov", false),
  [...moves("fcmovn", true), undefined, comparisonFlags("fucomi", false, false), comparisonFlags("fcomi", true, false)],
  // The aliases of FCOM, FCOMP, FXCH and FSTP below are undocumented and everywhere.
  registerRow(" to", true, false).with(2, FCOM).with(3, FCOMP),
  [
    register("ffree", (state, i) => transfer.freeRegister(state, i, false)),
    FXCH,
    register("fst", (state, i) => transfer.storeRegister(state, i, false)),
    FSTP,
    comparison("fucom", false, 0),
    comparison("fucomp", false, 1),
  ],
  registerRow("p", true, true).with(2, FCOMP),
  [
    register("ffreep", (state, i) => transfer.freeRegister(state, i, true)),
    FXCH,
    FSTP,
    FSTP,
    undefined,
    comparisonFlags("fucomip", false, true),
    comparisonFlags("fcomip", true, true),
  ],
];

function constant(name: string, value: Parameters<typeof transfer.loadConstant>[1]): Instruction {
  return register(name, (state) => transfer.loadConstant(state, value));
}

function nothing(name: string): Instruction {
  return register(name, () => undefined);
}

/** Register forms with one encoding, by opcode and ModRM. */
const SINGLE: ReadonlyMap<number, Instruction> = new Map([
  [0xd9d0, nothing("fnop")],
  [0xd9e0, register("fchs", (state) => arithmetic.changeSign(state, false))],
  [0xd9e1, register("fabs", (state) => arithmetic.changeSign(state, true))],
  [0xd9e4, register("ftst", arithmetic.test)],
  [0xd9e5, register("fxam", arithmetic.examine)],
  [0xd9e8, constant("fld1", "one")],
  [0xd9e9, constant("fldl2t", "log2of10")],
  [0xd9ea, constant("fldl2e", "log2ofE")],
  [0xd9eb, constant("fldpi", "pi")],
  [0xd9ec, constant("fldlg2", "log10of2")],
  [0xd9ed, constant("fldln2", "ln2")],
  [0xd9ee, constant("fldz", "zero")],
  [0xd9f0, register("f2xm1", transcendental.exponential)],
  [0xd9f1, register("fyl2x", transcendental.logarithm)],
  [0xd9f2, register("fptan", transcendental.tangent)],
  [0xd9f3, register("fpatan", transcendental.arctangent)],
  [0xd9f4, register("fxtract", arithmetic.extract)],
  [0xd9f5, register("fprem1", (state) => arithmetic.remainder(state, true))],
  [0xd9f6, register("fdecstp", (state) => transfer.rotate(state, -1))],
  [0xd9f7, register("fincstp", (state) => transfer.rotate(state, 1))],
  [0xd9f8, register("fprem", (state) => arithmetic.remainder(state, false))],
  [0xd9f9, register("fyl2xp1", transcendental.logarithmPlusOne)],
  [0xd9fa, register("fsqrt", arithmetic.squareRootOfTop)],
  [0xd9fb, register("fsincos", transcendental.sineAndCosine)],
  [0xd9fc, register("frndint", arithmetic.roundTop)],
  [0xd9fd, register("fscale", arithmetic.scale)],
  [0xd9fe, register("fsin", transcendental.sine)],
  [0xd9ff, register("fcos", transcendental.cosine)],
  [0xdae9, comparison("fucompp", false, 2)],
  // 8087 and 80287 leftovers that do nothing.
  [0xdbe0, control(nothing("fneni"))],
  [0xdbe1, control(nothing("fndisi"))],
  [0xdbe2, control(register("fnclex", environment.clearExceptions))],
  [0xdbe3, control(register("fninit", (state) => state.initialise()))],
  [0xdbe4, control(nothing("fnsetpm"))],
  [0xded9, comparison("fcompp", true, 2)],
  [0xdfe0, control(register("fnstsw ax", environment.statusToAx))],
]);

/** The instruction of an opcode (D8h to DFh) and a ModRM byte. */
function find(opcode: number, modrm: number): Instruction | undefined {
  const field = (modrm >> 3) & 7;
  if (modrm < 0xc0) return MEMORY[opcode & 7]?.[field];
  return SINGLE.get(((0xd8 | opcode) << 8) | modrm) ?? ROWS[opcode & 7]?.[field];
}

/** All 2,048 encodings of opcode and ModRM, found once. */
const INSTRUCTIONS: readonly (Instruction | undefined)[] = Array.from({ length: 2048 }, (_, n) =>
  find(0xd8 + (n >> 8), n & 0xff),
);

/** The name of an instruction, as "fadd m32" or "fxch"; undefined: #UD. */
export function x87Name(opcode: number, modrm: number): string | undefined {
  return INSTRUCTIONS[((opcode & 7) << 8) | modrm]?.name;
}

export interface X87MemoryAccess {
  readonly bytes: number;
  readonly access: Access;
}

/** What an instruction with a memory operand does with it; undefined: #UD. `field` is the reg field of ModRM. */
export function x87MemoryAccess(opcode: number, field: number, operand16 = false): X87MemoryAccess | undefined {
  const instruction = MEMORY[opcode & 7]?.[field & 7];
  if (instruction === undefined) return undefined;
  const { access, bytes } = instruction;
  return { access, bytes: typeof bytes === "number" ? bytes : bytes(operand16) };
}

/**
 * Runs one instruction.
 * @param opcode D8h to DFh
 * @param modrm its ModRM byte; below C0h the operand area holds what x87MemoryAccess says
 * @param eflags for FCMOVcc
 * @param operand16 the operand size is 16 bits: environments take their short layout
 * @param ip address of the instruction and `dp` of its operand, as signed numbers, for the last-instruction pointers
 * @returns outcome bits: X87_STORE (store the operand area), X87_EFLAGS (bits 6, 2 and 0 of the value go to ZF, PF and
 *   CF, and OF, SF and AF are cleared), X87_AX (bits 15:0 go to AX), X87_MF (a pending exception: raise #MF, nothing
 *   has changed), X87_UD (raise #UD)
 */
export function x87(
  state: X87State,
  opcode: number,
  modrm: number,
  eflags = 0,
  operand16 = false,
  ip = 0,
  dp = 0,
): number {
  const instruction = INSTRUCTIONS[((opcode & 7) << 8) | modrm];
  if (instruction === undefined) return X87_UD;
  if (instruction.waits && (state.status & ES) !== 0) return X87_MF;
  state.outcome = 0;
  state.eflags = eflags;
  state.operand16 = operand16;
  instruction.run(state, modrm & 7);
  if (!instruction.control) {
    const { view, at } = state;
    view.setUint16(at.opcode, ((opcode & 7) << 8) | modrm, true);
    setPointer(view, at.instructionPointer, ip);
    if (modrm < 0xc0) setPointer(view, at.dataPointer, dp);
  }
  return state.outcome;
}

/** Stores a signed number of magnitude below 2^53 as 64 bits. */
function setPointer(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true);
  view.setInt32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** FWAIT: X87_MF when an unmasked exception is pending, else 0. */
export function x87Wait(state: X87State): number {
  return (state.status & ES) !== 0 ? X87_MF : 0;
}
