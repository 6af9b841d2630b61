/** Comparing what two engines made of the same cases: every register, flag, exception and hot byte. */

import { ARITHMETIC, IF, IOPL } from "../../src/isa/flags.ts";
import { GPR_NAMES } from "../../src/cpu/vcpu.ts";
import type { CaseCode } from "./cases.ts";
import { BLOCK, HOT_REACH, NO_EXCEPTION, WINDOW_READ_ONLY, WINDOW_SEAM } from "./layout.ts";

/** IF and IOPL are the host's own where KVM runs ring 3 natively. */
const HIDDEN_FLAGS = IF | IOPL;
const WORD = 4;
const BLOCK_WORDS = BLOCK.size / WORD;

/**
 * What is compared, in bytes of a block. Of the FXSAVE image: not FOP, FIP and FDP, which processors of different
 * vendors keep differently; not MXCSR_MASK, which names a vendor's feature; nothing reserved.
 */
const RANGES: readonly (readonly [from: number, to: number])[] = [
  [BLOCK.fx + 24, BLOCK.fx + 28],
  [BLOCK.fx + 32, BLOCK.fx + 416],
  [BLOCK.gpr, BLOCK.rflags],
  [BLOCK.rip, BLOCK.wild + 8],
  [BLOCK.hot, BLOCK.size],
];

export interface Difference {
  /** Such as `rax`, `rflags`, `xmm3`, `window+0x1f`. */
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
}

/** The flags of block `index` that are to be equal. */
function comparedFlags(test: CaseCode, outputs: Int32Array, index: number): number {
  const vector = outputs[index * BLOCK_WORDS + BLOCK.vector / WORD];
  const undefinedFlags = vector === NO_EXCEPTION ? test.finalUndefined : test.anyUndefined;
  return ~(HIDDEN_FLAGS | (undefinedFlags & ARITHMETIC));
}

const words = (bytes: Uint8Array): Int32Array =>
  new Int32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.byteLength / WORD));

/** Indices of the cases whose blocks differ. Both outputs hold one block per case. */
export function mismatches(cases: readonly CaseCode[], expected: Uint8Array, actual: Uint8Array): number[] {
  const a = words(expected);
  const b = words(actual);
  const found: number[] = [];
  for (let index = 0; index < cases.length; index++) {
    const test = cases[index];
    if (test !== undefined && !blockEqual(test, a, b, index)) found.push(index);
  }
  return found;
}

function blockEqual(test: CaseCode, a: Int32Array, b: Int32Array, index: number): boolean {
  const start = index * BLOCK_WORDS;
  for (const [from, to] of RANGES) {
    for (let at = start + from / WORD, end = start + to / WORD; at < end; at++) if (a[at] !== b[at]) return false;
  }
  // x87 control, status and tag word: 5 bytes, then a reserved one.
  if (a[start] !== b[start] || (((a[start + 1] ?? 0) ^ (b[start + 1] ?? 0)) & 0xff) !== 0) return false;
  const flags = start + BLOCK.rflags / WORD;
  if ((((a[flags] ?? 0) ^ (b[flags] ?? 0)) & comparedFlags(test, a, index)) !== 0) return false;
  return a[flags + 1] === b[flags + 1];
}

/** Whether the window's pages are equal at the batch's end, but for the hot bytes: those are the last case's. */
export function windowsEqual(a: Uint8Array, b: Uint8Array): boolean {
  const seam = WINDOW_SEAM - WINDOW_READ_ONLY;
  const parts = [
    [0, seam - HOT_REACH],
    [seam + HOT_REACH, a.length],
  ] as const;
  return parts.every(([from, to]) => Buffer.compare(a.subarray(from, to), b.subarray(from, to)) === 0);
}

/** What differs in one case's blocks, in words. */
export function differences(test: CaseCode, expected: Uint8Array, actual: Uint8Array): Difference[] {
  const found: Difference[] = [];
  const a = new DataView(expected.buffer, expected.byteOffset, BLOCK.size);
  const b = new DataView(actual.buffer, actual.byteOffset, BLOCK.size);
  const compare = (what: string, read: (view: DataView) => string): void => {
    const [left, right] = [read(a), read(b)];
    if (left !== right) found.push({ what, expected: left, actual: right });
  };
  const [left, right] = [words(expected), words(actual)];
  /** Whether the bytes are equal: then their texts are not made. */
  const equal = (from: number, bytes: number): boolean => {
    for (let at = from / WORD; at < (from + bytes) / WORD; at++) if (left[at] !== right[at]) return false;
    return true;
  };
  const hex = (at: number) => (view: DataView) => `0x${view.getBigUint64(at, true).toString(16)}`;
  if (!equal(BLOCK.rip, BLOCK.wild - BLOCK.rip)) compare("exception", (view) => exceptionText(view));
  if (!equal(BLOCK.gpr, BLOCK.rflags - BLOCK.gpr)) {
    for (const [index, name] of GPR_NAMES.entries()) compare(name, hex(BLOCK.gpr + 8 * index));
  }
  const mask = comparedFlags(test, left, 0);
  if (!equal(BLOCK.rflags, 8)) {
    compare("rflags", (view) => `0x${((view.getUint32(BLOCK.rflags, true) & mask) >>> 0).toString(16)}`);
    compare("rflags[63:32]", (view) => view.getUint32(BLOCK.rflags + 4, true).toString(16));
  }
  compareFx();
  if (!equal(BLOCK.wild, 8)) compare("window's checksum", hex(BLOCK.wild));
  for (let at = 0; at < BLOCK.hotBytes; at += 8) {
    if (equal(BLOCK.hot + at, 8)) continue;
    const distance = at - BLOCK.hotBytes / 2;
    compare(`window${distance < 0 ? "-" : "+"}0x${Math.abs(distance).toString(16)}`, hex(BLOCK.hot + at));
  }
  return found;

  function compareFx(): void {
    if (!equal(BLOCK.fx + 24, 4)) compare("mxcsr", (view) => `0x${view.getUint32(BLOCK.fx + 24, true).toString(16)}`);
    if (!equal(BLOCK.fx, 8)) {
      compare("fcw", (view) => `0x${view.getUint16(BLOCK.fx, true).toString(16)}`);
      compare("fsw", (view) => `0x${view.getUint16(BLOCK.fx + 2, true).toString(16)}`);
      compare("ftw", (view) => `0x${view.getUint8(BLOCK.fx + 4).toString(16)}`);
    }
    for (let i = 0; i < 24; i++) {
      const at = BLOCK.fx + 32 + 16 * i;
      if (!equal(at, 16)) compare(i < 8 ? `st/mm${i}` : `xmm${i - 8}`, (view) => wide(view, at));
    }
  }
}

/** 128 bits as lanes of 64, highest first. */
export function wide(view: DataView, at: number): string {
  const lane = (place: number): string => view.getBigUint64(place, true).toString(16).padStart(16, "0");
  return `${lane(at + 8)}_${lane(at)}`;
}

const VECTOR_NAMES = new Map<number, string>([
  [0, "#DE"],
  [1, "#DB"],
  [3, "#BP"],
  [4, "#OF"],
  [5, "#BR"],
  [6, "#UD"],
  [7, "#NM"],
  [11, "#NP"],
  [12, "#SS"],
  [13, "#GP"],
  [14, "#PF"],
  [16, "#MF"],
  [17, "#AC"],
  [19, "#XM"],
  [31, "did not end"],
]);

/** The exception of a block, as a person reads it. */
export function exceptionText(view: DataView): string {
  const vector = view.getUint32(BLOCK.vector, true);
  const hex = (at: number): string => `0x${view.getBigUint64(at, true).toString(16)}`;
  if (vector === NO_EXCEPTION) return "none";
  const name = VECTOR_NAMES.get(vector) ?? `vector ${vector}`;
  const cr2 = vector === 14 ? ` cr2 ${hex(BLOCK.cr2)}` : "";
  return `${name}(${hex(BLOCK.errorCode)}) at rip ${hex(BLOCK.rip)}${cr2}`;
}
