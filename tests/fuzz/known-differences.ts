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
