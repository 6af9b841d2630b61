/** The string compares and CRC32 of SSE4.2 [SDM 1 §12.10.1, SDM 2 CRC32]. Operands are offsets in the vCPU's state. */

import { CF, OF, SF, ZF } from "../../../isa/flags.ts";
import { STRING_EXPLICIT, STRING_MASK } from "../../../isa/instructions/sse42.ts";
import { SCRATCH } from "../../../isa/state.ts";
import type { EngineHost, Helpers } from "../engine-host.ts";

/** Aggregation, by bits 3:2 of the immediate. */
const EQUAL_ANY = 0;
const RANGES = 1;
const EQUAL_EACH = 2;

/** The checksum's table for the reflected polynomial 0x11EDC6F41. */
const CRC_TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

export function sse42Helpers(host: EngineHost): Helpers {
  const { view } = host.memory;
  const base = host.stateBase;
  const first = new Int32Array(16);
  const second = new Int32Array(16);

  /** Unpacks elements by bits 1:0 of the immediate: bytes or words, unsigned or signed. */
  const unpack = (to: Int32Array, at: number, format: number): void => {
    for (let i = 0; i < 16; i++) {
      if (format === 0) to[i] = view.getUint8(at + i);
      else if (format === 2) to[i] = view.getInt8(at + i);
      else if (i < 8) to[i] = format === 1 ? view.getUint16(at + i * 2, true) : view.getInt16(at + i * 2, true);
    }
  };
  /** Elements before the first zero, or the magnitude of an explicit length. */
  const lengthOf = (elements: Int32Array, count: number, explicit: bigint | undefined): number => {
    if (explicit !== undefined) {
      const magnitude = explicit < 0n ? -explicit : explicit;
      return magnitude > BigInt(count) ? count : Number(magnitude);
    }
    const end = elements.indexOf(0);
    return end < 0 || end > count ? count : end;
  };
  const at = (elements: Int32Array, i: number): number => elements[i] ?? 0;

  /** The bytes of the first string, while they are looked for. */
  const members = new Uint8Array(256);
  /** The bits of those bytes of the second string that are in the first one. */
  const membersOf = (length1: number, length2: number): number => {
    for (let i = 0; i < length1; i++) members[at(first, i) & 0xff] = 1;
    let found = 0;
    for (let j = 0; j < length2; j++) found |= (members[at(second, j) & 0xff] ?? 0) << j;
    for (let i = 0; i < length1; i++) members[at(first, i) & 0xff] = 0;
    return found;
  };
  /** Whether element `j` of the second string is part of the first one as a set, or as a list of ranges. */
  const inSet = (j: number, length: number, ranges: boolean): boolean => {
    const element = at(second, j);
    if (!ranges) {
      for (let i = 0; i < length; i++) if (at(first, i) === element) return true;
      return false;
    }
    for (let i = 0; i + 1 < length; i += 2) {
      if (at(first, i) <= element && element <= at(first, i + 1)) return true;
    }
    return false;
  };
  /** Whether the first string begins at element `j` of the second, as far as the register goes. */
  const startsAt = (j: number, count: number, length1: number, length2: number): boolean => {
    for (let i = 0; i < length1 && j + i < count; i++) {
      if (j + i >= length2 || at(first, i) !== at(second, j + i)) return false;
    }
    return true;
  };

  return {
    /** (immediate and form, first, second, RAX, RDX): leaves index or mask in scratch slot 2. @returns the six flags */
    sseStrings(control: number, a: number, b: number, rax: bigint, rdx: bigint): number {
      const format = control & 3;
      const count = (format & 1) !== 0 ? 8 : 16;
      const explicit = (control & STRING_EXPLICIT) !== 0;
      unpack(first, base + a, format);
      unpack(second, base + b, format);
      const length1 = lengthOf(first, count, explicit ? rax : undefined);
      const length2 = lengthOf(second, count, explicit ? rdx : undefined);
      const aggregation = (control >> 2) & 3;

      const ofBytes = aggregation === EQUAL_ANY && count === 16;
      let bits = ofBytes ? membersOf(length1, length2) : 0;
      for (let j = ofBytes ? count : 0; j < count; j++) {
        let holds: boolean;
        if (aggregation === EQUAL_ANY || aggregation === RANGES) {
          holds = j < length2 && inSet(j, length1, aggregation === RANGES);
        } else if (aggregation === EQUAL_EACH) {
          holds = j < length1 && j < length2 ? at(first, j) === at(second, j) : j >= length1 && j >= length2;
        } else holds = startsAt(j, count, length1, length2);
        if (holds) bits |= 1 << j;
      }
      const all = (1 << count) - 1;
      if ((control & 0x10) !== 0) bits ^= (control & 0x20) !== 0 ? (1 << length2) - 1 : all;

      const result = base + SCRATCH + 2 * 16;
      const high = (control & 0x40) !== 0;
      if ((control & STRING_MASK) !== 0) {
        view.setBigUint64(result, 0n, true);
        view.setBigUint64(result + 8, 0n, true);
        if (!high) view.setUint16(result, bits, true);
        else {
          const size = 16 / count;
          for (let i = 0; i < 16; i++) view.setUint8(result + i, ((bits >> Math.floor(i / size)) & 1) !== 0 ? 0xff : 0);
        }
      } else {
        const index = bits === 0 ? count : 31 - Math.clz32(high ? bits : bits & -bits);
        view.setUint32(result, index, true);
      }
      return (
        (bits !== 0 ? CF : 0) | (length2 < count ? ZF : 0) | (length1 < count ? SF : 0) | ((bits & 1) !== 0 ? OF : 0)
      );
    },
    /** (checksum, low and high half of the data, its bytes): the new checksum. */
    crc32c(checksum: number, low: number, high: number, bytes: number): number {
      let crc = checksum;
      for (let i = 0; i < bytes; i++) {
        const byte = (i < 4 ? low >>> (i * 8) : high >>> ((i - 4) * 8)) & 0xff;
        crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ byte) & 0xff] ?? 0);
      }
      return crc;
    },
  };
}
