/**
 * Differences from the processor that are meant: results that the manuals leave open, and features of the recording
 * processor that isola does not offer. Each is as narrow as its reason.
 */

import type { TestCase } from "./cases.ts";
import type { Difference } from "./compare.ts";
import { BLOCK } from "./layout.ts";

/** RCPPS and its kin: relative error at most 1.5 * 2^-12 each [SDM 2, RCPPS]. */
const APPROXIMATION = 2 * 1.5 * 2 ** -12;

interface KnownDifference {
  readonly reason: string;
  readonly applies: (test: TestCase, found: readonly Difference[], expected: DataView, actual: DataView) => boolean;
}

const KNOWN: readonly KnownDifference[] = [
  {
    reason: "an approximation, within the bound of both",
    applies(test, found, expected, actual) {
      if (test.instructions.at(-1)?.approximate !== true) return false;
      if (!found.every(({ what }) => what.startsWith("xmm"))) return false;
      for (let at = BLOCK.fx + 160; at < BLOCK.fx + 416; at += 4) {
        if (!near(expected.getFloat32(at, true), actual.getFloat32(at, true))) return false;
      }
      return true;
    },
  },
  {
    // AMD's misaligned-SSE mode makes bit 17 of MXCSR writable [APM 2 §11.5.9]; isola's processor lacks it.
    reason: "MXCSR.MM is a reserved bit without the misaligned-SSE feature",
    applies(test, _found, expected, actual) {
      const loads = test.instructions.some(({ name }) => name.startsWith("LDMXCSR"));
      return loads && actual.getUint32(BLOCK.vector, true) === 13 && (expected.getUint32(BLOCK.fx + 24, true) & 0x20000) !== 0;
    },
  },
  {
    // After #GP such a KVM tries to emulate the instruction, and raises #UD where its emulator does not know it. The
    // portable engine's #GP is then right or hides a missing #UD; one that should not be at all would still show.
    reason: "a paravirtual KVM's #UD in place of #GP",
    applies(_test, found, expected, actual) {
      const codes = expected.getUint32(BLOCK.vector, true) === 6 && actual.getUint32(BLOCK.vector, true) === 13;
      const sameRip = expected.getBigUint64(BLOCK.rip, true) === actual.getBigUint64(BLOCK.rip, true);
      return codes && sameRip && actual.getUint32(BLOCK.errorCode, true) === 0 && found.length === 1;
    },
  },
  {
    // The kernel's half belongs to the host there: its pages are present, though not for ring 3.
    reason: "a paravirtual KVM's #PF says present above the lower half",
    applies(_test, found, expected, actual) {
      const pageFaults = expected.getUint32(BLOCK.vector, true) === 14 && actual.getUint32(BLOCK.vector, true) === 14;
      const sameAddress = expected.getBigUint64(BLOCK.cr2, true) === actual.getBigUint64(BLOCK.cr2, true);
      const upper = expected.getUint32(BLOCK.cr2 + 4, true) >= 0xffff_8000;
      const bits = expected.getUint32(BLOCK.errorCode, true) ^ actual.getUint32(BLOCK.errorCode, true);
      return pageFaults && sameAddress && upper && bits === 1 && found.length === 1;
    },
  },
  {
    // [SDM 2, SHLD]: "If the count is greater than the operand size, the result is undefined".
    reason: "SHLD and SHRD of 16 bits by more than 16",
    applies(test, found, expected, actual) {
      const shifts = test.instructions.some(({ name, bytes }) => {
        return /^SH[LR]D/.test(name) && Array.from(bytes).slice(0, -3).includes(0x66);
      });
      const vectors = [expected, actual].map((block) => block.getUint32(BLOCK.vector, true));
      return shifts && vectors[0] === vectors[1] && found.length > 0;
    },
  },
  {
    // [SDM 2, MASKMOVDQU]: with a mask of zeros, whether faults are raised is up to the processor.
    reason: "MASKMOVDQU with a mask of zeros: whether it faults",
    applies(test, _found, expected, actual) {
      const masked = test.instructions.some(({ name }) => name.startsWith("MASKMOV"));
      return masked && expected.getUint32(BLOCK.vector, true) === 14 && actual.getUint32(BLOCK.vector, true) !== 14;
    },
  },
];

function near(a: number, b: number): boolean {
  return Object.is(a, b) || (Number.isNaN(a) && Number.isNaN(b)) || Math.abs(a - b) <= APPROXIMATION * Math.abs(a);
}

/** Why this difference is meant, or undefined where it is not. */
export function knownDifference(
  test: TestCase,
  found: readonly Difference[],
  expected: Uint8Array,
  actual: Uint8Array,
): string | undefined {
  const a = new DataView(expected.buffer, expected.byteOffset, expected.byteLength);
  const b = new DataView(actual.buffer, actual.byteOffset, actual.byteLength);
  return KNOWN.find((known) => known.applies(test, found, a, b))?.reason;
}
