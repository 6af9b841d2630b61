/**
 * SSE floating-point instructions on registers that lie in memory as 16 little-endian bytes: the entry that a code
 * generator calls. The destination is written only if no exception raised is unmasked [SDM 1 §11.5.2.2], so faults
 * are precise; a memory operand is to be loaded into scratch bytes before.
 */

import { BINARY32, BINARY64, type FloatFormat } from "./format.ts";
import { DE, IE, PE, ZE } from "./rounding.ts";
import { quickBinary, quickResult, quickSquareRoot } from "./sse-quick.ts";
import { approximate, type BinaryOperation, SseUnit, unmasked } from "./sse.ts";

/** Computes into `result`, from operands at offsets `a` (the destination register) and `b` (the source). */
type Lanes = (view: DataView, a: number, b: number, immediate: number) => void;

interface Operation {
  readonly name: string;
  /** Bytes of the destination that the instruction writes; 0 for COMISS and the like. */
  readonly bytes: number;
  readonly run: Lanes;
}

const unit = new SseUnit();
const result = new DataView(new ArrayBuffer(16));
/** EFLAGS bits from the ordered compares. */
let order = 0;
/** Flags from the completed steps of an instruction of several steps. */
let earlier = 0;

/** Ends a step: its flags stay even if a later step is stopped. @returns whether an unmasked exception ends all. */
function endStep(): boolean {
  const { context } = unit;
  if ((context.flags & context.unmasked) !== 0) return true;
  earlier |= context.flags;
  context.flags = 0;
  return false;
}

function get(view: DataView, format: FloatFormat, offset: number): bigint {
  return format === BINARY32 ? BigInt(view.getUint32(offset, true)) : view.getBigUint64(offset, true);
}

function put(format: FloatFormat, offset: number, bits: bigint): void {
  if (format === BINARY32) result.setUint32(offset, Number(bits), true);
  else result.setBigUint64(offset, bits, true);
}

/** The four forms of an operation: ps, pd, ss, sd. */
const FORMS = [
  { suffix: "ps", format: BINARY32, size: 4, bytes: 16 },
  { suffix: "pd", format: BINARY64, size: 8, bytes: 16 },
  { suffix: "ss", format: BINARY32, size: 4, bytes: 4 },
  { suffix: "sd", format: BINARY64, size: 8, bytes: 8 },
] as const;

type Lane = (format: FloatFormat, a: bigint, b: bigint, immediate: number) => bigint;

function forms(name: string, lane: Lane): Operation[] {
  return FORMS.map(({ suffix, format, size, bytes }) => ({
    name: name + suffix,
    bytes,
    run(view, a, b, immediate) {
      for (let at = 0; at < bytes; at += size) {
        put(format, at, lane(format, get(view, format, a + at), get(view, format, b + at), immediate));
      }
    },
  }));
}

/** Whether the quick way may be tried: nearest rounding, PE masked. */
let quick = false;

/** A form whose lanes try the quick way first. `lane` gives what a quick function gives. */
function quickForms(
  name: string,
  lane: (a: number, b: number, single: boolean) => number,
  exactly: (format: FloatFormat, a: bigint, b: bigint) => bigint,
): Operation[] {
  return FORMS.map(({ suffix, format, size, bytes }) => ({
    name: name + suffix,
    bytes,
    run(view, a, b) {
      const single = size === 4;
      for (let at = 0; at < bytes; at += size) {
        const first = single ? view.getFloat32(a + at, true) : view.getFloat64(a + at, true);
        const second = single ? view.getFloat32(b + at, true) : view.getFloat64(b + at, true);
        const flags = quick ? lane(first, second, single) : -1;
        if (flags < 0) put(format, at, exactly(format, get(view, format, a + at), get(view, format, b + at)));
        else {
          unit.context.flags |= flags;
          if (single) result.setFloat32(at, quickResult, true);
          else result.setFloat64(at, quickResult, true);
        }
      }
    },
  }));
}

function arithmetic(name: BinaryOperation): Operation[] {
  return quickForms(
    name,
    (a, b, single) => quickBinary(name, a, b, single),
    (format, a, b) => unit.binary(name, format, a, b),
  );
}

function compares(name: string, signalling: boolean): Operation[] {
  return FORMS.slice(2).map(({ suffix, format }) => ({
    name: name + suffix,
    bytes: 0,
    run(view, a, b) {
      order = unit.order(format, get(view, format, a), get(view, format, b), signalling);
    },
  }));
}

/** HADDPS and the like: neighbours within the destination, then within the source; ADDSUBPS: even subtract, odd add. */
function pairs(): Operation[] {
  return FORMS.slice(0, 2).flatMap(({ suffix, format, size }) => [
    ...(["add", "sub"] as const).map(
      (name): Operation => ({
        name: `h${name}${suffix}`,
        bytes: 16,
        run(view, a, b) {
          for (let at = 0; at < 16; at += size) {
            const from = at < 8 ? a + at * 2 : b + (at - 8) * 2;
            put(format, at, unit.binary(name, format, get(view, format, from), get(view, format, from + size)));
          }
        },
      }),
    ),
    {
      name: `addsub${suffix}`,
      bytes: 16,
      run(view: DataView, a: number, b: number) {
        for (let at = 0; at < 16; at += size) {
          const name = (at & size) === 0 ? "sub" : "add";
          put(format, at, unit.binary(name, format, get(view, format, a + at), get(view, format, b + at)));
        }
      },
    },
  ]);
}

/** DPPS and DPPD: products picked by immediate bits 7:4, summed pairwise, stored where bits 3:0 say. */
function dotProducts(): Operation[] {
  return FORMS.slice(0, 2).map(({ suffix, format, size }) => ({
    name: `dp${suffix}`,
    bytes: 16,
    run(view, a, b, immediate) {
      const lanes = 16 / size;
      const terms: bigint[] = [];
      for (let lane = 0; lane < lanes; lane++) {
        const picked = ((immediate >> (4 + lane)) & 1) !== 0;
        const at = lane * size;
        terms.push(picked ? unit.binary("mul", format, get(view, format, a + at), get(view, format, b + at)) : 0n);
      }
      if (endStep()) return;
      let sum = unit.binary("add", format, terms[0] ?? 0n, terms[1] ?? 0n);
      if (lanes === 4) {
        const high = unit.binary("add", format, terms[2] ?? 0n, terms[3] ?? 0n);
        if (endStep()) return;
        sum = unit.binary("add", format, sum, high);
      }
      for (let lane = 0; lane < lanes; lane++) {
        put(format, lane * size, ((immediate >> lane) & 1) !== 0 ? sum : 0n);
      }
    },
  }));
}

function approximations(name: string, root: boolean): Operation[] {
  return (
    [
      ["ps", 16],
      ["ss", 4],
    ] as const
  ).map(([suffix, bytes]) => ({
    name: name + suffix,
    bytes,
    run(view, _a, b) {
      for (let at = 0; at < bytes; at += 4) {
        result.setUint32(at, approximate(view.getUint32(b + at, true), root), true);
      }
    },
  }));
}

/** Conversions between single and double. `lanes` are read from the source; the rest of `bytes` becomes zero. */
function change(name: string, from: FloatFormat, to: FloatFormat, lanes: number, bytes: number): Operation {
  const fromSize = from === BINARY32 ? 4 : 8;
  const toSize = to === BINARY32 ? 4 : 8;
  return {
    name,
    bytes,
    run(view, _a, b) {
      for (let lane = 0; lane < lanes; lane++) {
        put(to, lane * toSize, unit.convert(from, to, get(view, from, b + lane * fromSize)));
      }
    },
  };
}

/** Conversions from signed integers of `size` bytes. */
function fromIntegers(name: string, size: number, to: FloatFormat, lanes: number): Operation {
  const toSize = to === BINARY32 ? 4 : 8;
  return {
    name,
    bytes: lanes * toSize,
    run(view, _a, b) {
      for (let lane = 0; lane < lanes; lane++) {
        const at = b + lane * size;
        const value = size === 4 ? BigInt(view.getInt32(at, true)) : view.getBigInt64(at, true);
        put(to, lane * toSize, unit.fromInteger(to, value));
      }
    },
  };
}

/** Conversions to signed integers of `size` bytes; those whose name has "tt" truncate. */
function toIntegers(name: string, from: FloatFormat, size: number, lanes: number, bytes: number): Operation {
  const fromSize = from === BINARY32 ? 4 : 8;
  const truncate = name.startsWith("cvtt");
  const to = size === 4 ? BINARY32 : BINARY64;
  return {
    name,
    bytes,
    run(view, _a, b) {
      for (let lane = 0; lane < lanes; lane++) {
        const bits = get(view, from, b + lane * fromSize);
        put(to, lane * size, unit.toInteger(from, bits, size * 8, truncate));
      }
    },
  };
}

const OPERATIONS: readonly Operation[] = [
  ...arithmetic("add"),
  ...arithmetic("sub"),
  ...arithmetic("mul"),
  ...arithmetic("div"),
  ...arithmetic("min"),
  ...arithmetic("max"),
  ...quickForms(
    "sqrt",
    (_a, b, single) => quickSquareRoot(b, single),
    (format, _a, b) => unit.squareRoot(format, b),
  ),
  ...forms("cmp", (format, a, b, immediate) => {
    if (!unit.holds(format, a, b, immediate)) return 0n;
    return format === BINARY32 ? 0xffff_ffffn : 0xffff_ffff_ffff_ffffn;
  }),
  ...forms("round", (format, _a, b, immediate) => unit.roundIntegral(format, b, immediate)),
  ...compares("comi", true),
  ...compares("ucomi", false),
  ...pairs(),
  ...dotProducts(),
  ...approximations("rcp", false),
  ...approximations("rsqrt", true),
  change("cvtss2sd", BINARY32, BINARY64, 1, 8),
  change("cvtsd2ss", BINARY64, BINARY32, 1, 4),
  change("cvtps2pd", BINARY32, BINARY64, 2, 16),
  change("cvtpd2ps", BINARY64, BINARY32, 2, 16),
  fromIntegers("cvtsi2ss32", 4, BINARY32, 1),
  fromIntegers("cvtsi2ss64", 8, BINARY32, 1),
  fromIntegers("cvtsi2sd32", 4, BINARY64, 1),
  fromIntegers("cvtsi2sd64", 8, BINARY64, 1),
  fromIntegers("cvtdq2ps", 4, BINARY32, 4),
  fromIntegers("cvtdq2pd", 4, BINARY64, 2),
  fromIntegers("cvtpi2ps", 4, BINARY32, 2),
  fromIntegers("cvtpi2pd", 4, BINARY64, 2),
  toIntegers("cvtss2si32", BINARY32, 4, 1, 4),
  toIntegers("cvtss2si64", BINARY32, 8, 1, 8),
  toIntegers("cvtsd2si32", BINARY64, 4, 1, 4),
  toIntegers("cvtsd2si64", BINARY64, 8, 1, 8),
  toIntegers("cvttss2si32", BINARY32, 4, 1, 4),
  toIntegers("cvttss2si64", BINARY32, 8, 1, 8),
  toIntegers("cvttsd2si32", BINARY64, 4, 1, 4),
  toIntegers("cvttsd2si64", BINARY64, 8, 1, 8),
  toIntegers("cvtps2dq", BINARY32, 4, 4, 16),
  toIntegers("cvttps2dq", BINARY32, 4, 4, 16),
  toIntegers("cvtpd2dq", BINARY64, 4, 2, 16),
  toIntegers("cvttpd2dq", BINARY64, 4, 2, 16),
  toIntegers("cvtps2pi", BINARY32, 4, 2, 8),
  toIntegers("cvttps2pi", BINARY32, 4, 2, 8),
  toIntegers("cvtpd2pi", BINARY64, 4, 2, 8),
  toIntegers("cvttpd2pi", BINARY64, 4, 2, 8),
];

/** Operation names; the position of a name is its code for `ssePacked`. */
export const SSE_OPERATIONS: readonly string[] = OPERATIONS.map(({ name }) => name);

/** The code of an operation by its name, such as "addps" or "cvttsd2si64". */
export function sseCode(name: string): number {
  const code = SSE_OPERATIONS.indexOf(name);
  if (code < 0) throw new RangeError(`no SSE operation is named ${name}: see SSE_OPERATIONS`);
  return code;
}

/** Bytes of the destination that an operation writes, from its lowest byte on. */
export function sseBytes(code: number): number {
  return operationOf(code).bytes;
}

function operationOf(code: number): Operation {
  const operation = OPERATIONS[code & 0xff];
  if (operation === undefined) throw new RangeError(`SSE operation ${code & 0xff} is not below ${OPERATIONS.length}`);
  return operation;
}

/** MXCSR: rounding control (nearest is 0) and the mask of PE. */
const QUICK_MASK = 0x6000 | (PE << 7);

/** Exceptions found before the computation: one of them unmasked hides the later ones of every lane. */
const BEFORE = IE | DE | ZE;

/**
 * Runs one instruction. `code` holds the operation in bits 7:0 and its immediate byte (CMPPS, ROUNDPS, DPPS) in bits
 * 15:8. Offsets are bytes into `view`; `a` is the first source (for legacy SSE the destination), `b` the second, and
 * the only one of SQRTPS and conversions. The sources may be the destination.
 * @returns the exception flags raised in bits 5:0, ZF, PF and CF of COMISS and the like as EFLAGS bits 8 places up.
 *   When one of the flags is unmasked in `mxcsr` nothing has been written.
 */
export function ssePacked(
  code: number,
  view: DataView,
  destination: number,
  a: number,
  b: number,
  mxcsr: number,
): number {
  const { bytes, run } = operationOf(code);
  result.setBigUint64(0, 0n);
  result.setBigUint64(8, 0n);
  order = 0;
  earlier = 0;
  unit.begin(mxcsr);
  quick = (mxcsr & QUICK_MASK) === PE << 7;
  run(view, a, b, (code >> 8) & 0xff);
  let flags = unit.context.flags;
  if (unmasked(flags & BEFORE, mxcsr) !== 0) flags &= BEFORE;
  flags |= earlier;
  if (unmasked(flags, mxcsr) !== 0) return flags;
  for (let at = 0; at < bytes; at += 4) view.setUint32(destination + at, result.getUint32(at, true), true);
  return flags | (order << 8);
}
