import assert from "node:assert/strict";
import { test } from "node:test";
import { sseCode } from "../../../isa/float/sse-packed.ts";
import { STRING_EXPLICIT, STRING_MASK } from "../../../isa/instructions/sse42.ts";
import { SCRATCH, STATE, xmmOffset } from "../../../isa/state.ts";
import { GuestMemory, MIN_RAM_BYTES } from "../../../memory/guest-memory.ts";
import { type EngineHost, GuestFault } from "../engine-host.ts";
import { sseHelpers } from "./sse.ts";

const BASE = 4096;
const OSXMMEXCPT = 1n << 10n;
/** Divide by zero: its flag and its mask in MXCSR. */
const ZE = 4;
const ZM = 1 << 9;

function rig() {
  const memory = GuestMemory.create(MIN_RAM_BYTES);
  const host = { memory, stateBase: BASE } as unknown as EngineHost;
  const { view } = memory;
  const text = (offset: number, value: string) => {
    memory.bytes.fill(0, BASE + offset, BASE + offset + 16);
    memory.bytes.set(new TextEncoder().encode(value), BASE + offset);
  };
  view.setUint32(BASE + STATE.mxcsr.offset, 0x1f80, true);
  view.setBigUint64(BASE + STATE.cr4.offset, OSXMMEXCPT, true);
  return { view, text, helpers: sseHelpers(host) as Record<string, (...args: (number | bigint)[]) => number> };
}

test("a masked exception sets its flag, and an unmasked one leaves the register and raises #XM or #UD", () => {
  const { view, helpers } = rig();
  const at = BASE + xmmOffset(1);
  const divide = () => helpers["sseExact"]?.(sseCode("divsd"), xmmOffset(1), xmmOffset(2));
  view.setFloat64(at, 1, true);
  divide();
  assert.equal(view.getFloat64(at, true), Infinity);
  assert.equal(view.getUint32(BASE + STATE.mxcsr.offset, true), 0x1f80 | ZE);

  const raises = (vector: number) => {
    view.setFloat64(at, 1, true);
    view.setUint32(BASE + STATE.mxcsr.offset, 0x1f80 & ~ZM, true);
    assert.throws(divide, (error) => error instanceof GuestFault && error.vector === vector);
    assert.equal(view.getFloat64(at, true), 1);
    assert.equal(view.getUint32(BASE + STATE.mxcsr.offset, true), (0x1f80 & ~ZM) | ZE);
  };
  raises(19);
  view.setBigUint64(BASE + STATE.cr4.offset, 0n, true);
  raises(6);
});

test("PCMPISTRI finds a substring, a character of a set and one outside a range", () => {
  const { view, text, helpers } = rig();
  const find = (first: string, second: string, control: number) => {
    text(xmmOffset(0), first);
    text(xmmOffset(1), second);
    helpers["sseStrings"]?.(control, xmmOffset(0), xmmOffset(1), 0n, 0n);
    return view.getUint32(BASE + SCRATCH + 2 * 16, true);
  };
  assert.equal(find("needle", "a needle here", 0b0000_1100), 2);
  assert.equal(find("aeiou", "rhythm, bare", 0b0000_0000), 9);
  assert.equal(find("az", "lower Upper", 0b0001_0100), 5);
  assert.equal(find("x", "none", 0), 16);
});

test("PCMPxSTRM marks the bytes that are members of a set, by implicit and explicit lengths", () => {
  const { view, helpers } = rig();
  let seed = 9;
  const random = () => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) >>> 8;
  for (let n = 0; n < 2000; n++) {
    const operands = [0, 1].map((register) => {
      const bytes = Array.from({ length: 16 }, () => (random() % 5 === 0 ? random() & 0xff : random() % 4));
      bytes.forEach((byte, i) => view.setUint8(BASE + xmmOffset(register) + i, byte));
      return bytes;
    });
    const [set = [], text = []] = operands;
    const explicit = random() % 2 === 0;
    const lengths = operands.map((bytes) => {
      const end = bytes.indexOf(0);
      return explicit ? random() % 17 : end < 0 ? 16 : end;
    });
    const [length1 = 0, length2 = 0] = lengths;
    const signed = random() % 2 === 0 ? 2 : 0;
    const control = signed | STRING_MASK | (explicit ? STRING_EXPLICIT : 0);
    const flags = helpers["sseStrings"]?.(control, xmmOffset(0), xmmOffset(1), BigInt(length1), BigInt(-length2));
    const members = set.slice(0, length1);
    const expected = text.map((byte, i) => (i < length2 && members.includes(byte) ? 1 << i : 0));
    const mask = expected.reduce((sum, bit) => sum | bit, 0);
    assert.equal(view.getUint16(BASE + SCRATCH + 2 * 16, true), mask);
    assert.equal((flags ?? 0) & 1, mask !== 0 ? 1 : 0);
  }
});

test("CRC32 gives the check value of CRC-32C", () => {
  const { helpers } = rig();
  let crc = -1;
  for (const byte of new TextEncoder().encode("123456789")) crc = helpers["crc32c"]?.(crc, byte, 0, 1) ?? 0;
  assert.equal(~crc >>> 0, 0xe3069283);
});
