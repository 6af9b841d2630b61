import assert from "node:assert/strict";
import { test } from "node:test";
import { sseCode } from "../../../isa/float/sse-packed.ts";
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

test("CRC32 gives the check value of CRC-32C", () => {
  const { helpers } = rig();
  let crc = -1;
  for (const byte of new TextEncoder().encode("123456789")) crc = helpers["crc32c"]?.(crc, byte, 0, 1) ?? 0;
  assert.equal(~crc >>> 0, 0xe3069283);
});
