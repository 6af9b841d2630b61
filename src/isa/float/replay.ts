/**
 * Test support: replays what a processor answered (records of tests/peers/float-sse.c and float-x87.c) against this
 * library. Each function gives undefined on agreement, else one line that shows the case.
 */

import { UE } from "./rounding.ts";
import { ssePacked } from "./sse-packed.ts";
import { unmasked } from "./sse.ts";
import { C1, ES, X87_AX, X87_EFLAGS, X87_MF, X87_STORE, X87_UD, X87State } from "./x87-state.ts";
import { x87, x87MemoryAccess, x87Name } from "./x87.ts";

export const SSE_RECORD_BYTES = 56;
export const X87_RECORD_BYTES = 560;

const STATE_BYTES = 160;
const OPERAND_AREA = 112;
/** Offsets in an FXSAVE image. */
const TAGS = 4;
const REGISTERS = 32;
const SIGILL = 4;
const SIGFPE = 8;
/** EAX before an x87 instruction, in the recorder. */
const INITIAL_AX = 0x1234;

/** Instructions whose last bit and C1 the architecture leaves to the vendor. */
const TRANSCENDENTAL = /^f(sin|cos|sincos|ptan|patan|2xm1|yl2x|yl2xp1)$/;
/** The order of the sums, and with it the NaN that is kept of several, is the vendor's. Bytes of an element. */
const DOT_PRODUCTS: Readonly<Record<string, 4 | 8>> = { dpps: 4, dppd: 8 };
/** Approximations, judged by their error elsewhere. */
const APPROXIMATE = /^r(cp|sqrt)/;

function hex(view: DataView, at: number, bytes: number): string {
  let text = "";
  for (let i = bytes - 1; i >= 0; i--)
    text += view
      .getUint8(at + i)
      .toString(16)
      .padStart(2, "0");
  return text;
}

const sseWork = new DataView(new ArrayBuffer(32));

/** Whether the result differs from the one recorded at `at` in which NaNs it holds at the most. */
function sameButForNaNs(view: DataView, at: number, elementBytes: 4 | 8 | undefined): boolean {
  if (elementBytes === undefined) return false;
  const element = (from: DataView, offset: number): number =>
    elementBytes === 4 ? from.getFloat32(offset, true) : from.getFloat64(offset, true);
  for (let i = 0; i < 16; i += elementBytes) if (!Object.is(element(sseWork, i), element(view, at + i))) return false;
  return true;
}

/** Replays the SSE record at `at`; `code` and `name` are those of its operation. */
export function replaySse(view: DataView, at: number, code: number, name: string): string | undefined {
  const immediate = view.getUint8(at + 1);
  const mxcsr = view.getUint16(at + 2, true);
  const trapped = view.getUint8(at + 4) !== 0;
  const flags = view.getUint8(at + 5);
  const eflags = view.getUint8(at + 6);
  for (let i = 0; i < 32; i += 8) sseWork.setBigUint64(i, view.getBigUint64(at + 8 + i));
  const outcome = ssePacked(code | (immediate << 8), sseWork, 0, 0, 16, mxcsr);
  const same =
    (APPROXIMATE.test(name) ||
      hex(sseWork, 0, 16) === hex(view, at + 40, 16) ||
      sameButForNaNs(view, at + 40, DOT_PRODUCTS[name])) &&
    (outcome & 0x3f) === flags &&
    (trapped || outcome >> 8 === eflags) &&
    trapped === (unmasked(flags, mxcsr) !== 0);
  if (same) return undefined;
  return (
    `${name} ${immediate} mxcsr ${mxcsr.toString(16)} a ${hex(view, at + 8, 16)} b ${hex(view, at + 24, 16)}: ` +
    `wanted ${hex(view, at + 40, 16)} flags ${flags} ${eflags}, got ${hex(sseWork, 0, 16)} flags ${outcome & 0x3f} ` +
    `${outcome >> 8}`
  );
}

const OPERAND = 512;
const x87Work = new DataView(new ArrayBuffer(1024));
/** The work area's state lies as in an FXSAVE image, but for the order of the registers. */
const state = new X87State(x87Work, {
  control: 0,
  status: 2,
  tags: TAGS,
  opcode: 6,
  instructionPointer: 8,
  dataPointer: 16,
  registers: REGISTERS,
  operand: OPERAND,
});

/** Distance of two registers in units of the last place, as if the 80 bits were an integer. */
function distance(a: DataView, atA: number, b: DataView, atB: number): bigint {
  const wide = (view: DataView, at: number): bigint => {
    const head = view.getUint16(at + 8, true);
    return (
      (BigInt(head & 0x7fff) << 63n) + (view.getBigUint64(at, true) & ((1n << 63n) - 1n)) + (BigInt(head >> 15) << 80n)
    );
  };
  const difference = wide(a, atA) - wide(b, atB);
  return difference < 0n ? -difference : difference;
}

/** Replays the x87 record at `at`. `measure` is told how many units in the last place a transcendental result is off. */
export function replayX87(
  view: DataView,
  at: number,
  measure: (name: string, units: number) => void = () => {},
): string | undefined {
  const opcode = view.getUint8(at);
  const modrm = view.getUint8(at + 1);
  const trapped = view.getUint8(at + 2);
  const operand16 = view.getUint8(at + 3) !== 0;
  const eflags = view.getUint16(at + 4, true);
  const name = x87Name(opcode, modrm) ?? "undefined";
  const before = at + 16;
  const after = before + STATE_BYTES;
  const operand = after + STATE_BYTES;
  const operandAfter = operand + OPERAND_AREA;

  const top = (view.getUint16(before + 2, true) >> 11) & 7;
  for (let i = 0; i < 32; i++) x87Work.setUint8(i, view.getUint8(before + i));
  for (let i = 0; i < 8; i++) copy(view, before + REGISTERS + i * 16, REGISTERS + ((top + i) & 7) * 16, 16);
  copy(view, operand, OPERAND, OPERAND_AREA);
  // FXRSTOR derives ES from flags and masks.
  state.summarise();
  const outcome = x87(state, opcode, modrm, eflags, operand16);

  const wrong = (what: string, wanted: number | string, got: number | string): string =>
    `${name} ${opcode.toString(16)} ${modrm.toString(16)} control ${hex(view, before, 2)} status ` +
    `${hex(view, before + 2, 2)} tags ${hex(view, before + TAGS, 1)} st0 ${hex(view, before + 32, 10)} st1 ` +
    `${hex(view, before + 48, 10)} st(i) ${hex(view, before + 32 + (modrm & 7) * 16, 10)} operand ` +
    `${hex(view, operand, 10)}: ${what} wanted ${wanted}, got ${got}`;

  const loose = TRANSCENDENTAL.test(name);
  // Whether a result at the end of the normal numbers, or that of an operand there, is tiny is the vendor's.
  const leastExponent = (from: DataView, register: number): boolean =>
    (from.getUint16(register + 8, true) & 0x7fff) <= 1;
  const atEnd = [0, 1].some(
    (i) => leastExponent(x87Work, state.slot(i)) || leastExponent(view, before + REGISTERS + i * 16),
  );
  const tinyOrNot = loose && atEnd;
  if (tinyOrNot && (state.control & UE) === 0) return undefined;
  const signal = (outcome & X87_UD) !== 0 ? SIGILL : (outcome & X87_MF) !== 0 ? SIGFPE : 0;
  if (signal !== trapped) return wrong("signal", trapped, signal);
  if (signal === SIGILL) return undefined;
  const statusMask = ~((loose ? C1 : 0) | (tinyOrNot ? UE : 0)) & 0xffff;
  const status = state.status & statusMask;
  const wantedStatus = view.getUint16(after + 2, true) & statusMask;
  if (status !== wantedStatus) return wrong("status", wantedStatus.toString(16), status.toString(16));
  if (state.control !== view.getUint16(after, true)) return wrong("control", hex(view, after, 2), state.control);
  if (state.tags !== view.getUint8(after + TAGS)) return wrong("tags", hex(view, after + TAGS, 1), state.tags);
  for (let i = 0; i < 8; i++) {
    const mine = state.slot(i);
    const wanted = after + REGISTERS + i * 16;
    const off = distance(x87Work, mine, view, wanted);
    if (loose) measure(name, Number(off));
    if (off > (loose ? 1n : 0n)) {
      return wrong(`st${i}`, hex(view, wanted, 10), hex(x87Work, mine, 10));
    }
  }
  if (signal !== 0) return (view.getUint16(after + 2, true) & ES) === 0 ? wrong("ES", 1, 0) : undefined;

  const access = modrm < 0xc0 ? x87MemoryAccess(opcode, (modrm >> 3) & 7, operand16) : undefined;
  const stored = (outcome & X87_STORE) !== 0 && access?.access === "write" ? access.bytes : 0;
  if (stored < OPERAND_AREA) copy(view, operand + stored, OPERAND + stored, OPERAND_AREA - stored);
  const got = hex(x87Work, OPERAND, OPERAND_AREA);
  const wanted = hex(view, operandAfter, OPERAND_AREA);
  if (got !== wanted) return wrong("memory", wanted, got);
  const flags = (outcome & X87_EFLAGS) !== 0 ? outcome & 0x45 : eflags;
  if (flags !== view.getUint16(at + 6, true)) return wrong("eflags", hex(view, at + 6, 2), flags.toString(16));
  const ax = (outcome & X87_AX) !== 0 ? outcome & 0xffff : INITIAL_AX;
  if (ax !== view.getUint16(at + 8, true)) return wrong("ax", hex(view, at + 8, 2), ax.toString(16));
  return undefined;
}

/** Copies record bytes into the work area. */
function copy(view: DataView, from: number, to: number, bytes: number): void {
  for (let i = 0; i < bytes; i++) x87Work.setUint8(to + i, view.getUint8(from + i));
}
