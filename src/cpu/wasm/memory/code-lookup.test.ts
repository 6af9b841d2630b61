/** Fetch addresses and the table of traces. */

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { JUMP_CACHE, TRACE_HASH } from "../layout.ts";
import { CoreFixture, CR4_SMEP, P, RW, SUPERVISOR_VIEW, US, USER_VIEW } from "./core-fixture.ts";

const ALL = P | RW | US;
const TABLES = [0x10000, 0x11000, 0x12000, 0x13000] as const;
const [TOP, SECOND, THIRD, LAST] = TABLES;
const RECORD = 0x80_0020;
const CONTEXT = 0x2a;

const fixture = new CoreFixture();
const { core, memory } = fixture;

/** The byte address of the first slot that a trace's key hashes to. */
function slotOf(physical: number, probe = 0): number {
  const hash = Math.imul(physical, 0x9e3779b1) >>> (32 - Math.log2(TRACE_HASH.entries));
  return TRACE_HASH.base + ((hash + probe) & (TRACE_HASH.entries - 1)) * 16;
}
function enter(slot: number, key: bigint, record: number): void {
  memory.view.setBigInt64(slot, key, true);
  memory.view.setInt32(slot + 8, record, true);
}
function keyOf(physical: number, context: number): bigint {
  return BigInt(physical) | (BigInt(context) << 44n) | (1n << 60n);
}

beforeEach(() => {
  fixture.reset();
  memory.bytes.fill(0, TRACE_HASH.base, TRACE_HASH.base + TRACE_HASH.entries * 16);
  fixture.put(TOP, 0, BigInt(SECOND) | ALL);
  fixture.put(SECOND, 0, BigInt(THIRD) | ALL);
  fixture.put(THIRD, 0, BigInt(LAST) | ALL);
  fixture.put(LAST, 1, 0x101000n | ALL);
  fixture.put(LAST, 2, 0x102000n | P | RW);
  fixture.paging("fourLevel", BigInt(TOP));
  fixture.set("decodeContext", CONTEXT);
  fixture.set("jumpContext", 0x1234);
});

describe("fetch", () => {
  test("gives the physical address, again from its TLB", () => {
    assert.equal(core.fetch(0x1008n), 0x101008n);
    fixture.put(LAST, 1, 0n);
    assert.equal(core.fetch(0x1010n), 0x101010n);
  });
  test("keeps the user's and the supervisor's rights apart", () => {
    assert.equal(core.fetch(0x2000n), 0x102000n);
    fixture.useView(USER_VIEW);
    assert.equal(core.fetch(0x2000n), -1n);
    assert.deepEqual(fixture.takeFault(), { vector: 14, error: 5, cr2: 0x2000n });
    assert.equal(core.fetch(0x1000n), 0x101000n);
    fixture.set("cr4", CR4_SMEP);
    fixture.useView(SUPERVISOR_VIEW);
    assert.equal(core.fetch(0x1000n), -1n);
    assert.deepEqual(fixture.takeFault(), { vector: 14, error: 0x11, cr2: 0x1000n });
  });
  test("page 0 is no special case of an empty TLB", () => {
    assert.equal(core.fetch(0n), -1n);
    assert.deepEqual(fixture.takeFault(), { vector: 14, error: 0, cr2: 0n });
  });
});

describe("lookup", () => {
  test("finds a trace by physical address and context, and enters it into the jump cache", () => {
    enter(slotOf(0x101008), keyOf(0x101008, CONTEXT), RECORD);
    assert.equal(core.lookup(0x1008n), RECORD);
    const jump = JUMP_CACHE.base + ((0x1008 ^ 1) & (JUMP_CACHE.entries - 1)) * 16;
    assert.equal(memory.view.getBigInt64(jump, true), 0x1008n);
    assert.equal(memory.view.getInt32(jump + 8, true), RECORD);
    assert.equal(memory.view.getInt32(jump + 12, true), 0x1234);
  });
  test("another context's trace is not found", () => {
    enter(slotOf(0x101008), keyOf(0x101008, CONTEXT + 1), RECORD);
    assert.equal(core.lookup(0x1008n), 0);
    assert.equal(fixture.takeFault(), undefined);
  });
  test("deleted slots are passed, an empty one ends the search", () => {
    enter(slotOf(0x101008, 0), -1n, 1);
    enter(slotOf(0x101008, 1), keyOf(0x101010, CONTEXT), 1);
    enter(slotOf(0x101008, 2), keyOf(0x101008, CONTEXT), RECORD);
    assert.equal(core.lookup(0x1008n), RECORD);
    enter(slotOf(0x101008, 1), 0n, 0);
    assert.equal(core.lookup(0x1008n), 0);
  });
  test("the search ends after a bounded number of slots", () => {
    for (let i = 0; i < TRACE_HASH.probes; i++) enter(slotOf(0x101008, i), -1n, 1);
    enter(slotOf(0x101008, TRACE_HASH.probes), keyOf(0x101008, CONTEXT), RECORD);
    assert.equal(core.lookup(0x1008n), 0);
    enter(slotOf(0x101008, TRACE_HASH.probes - 1), keyOf(0x101008, CONTEXT), RECORD);
    assert.equal(core.lookup(0x1008n), RECORD);
  });
  test("a fetch that faults leaves the fault", () => {
    assert.equal(core.lookup(0x7000n), 0);
    assert.deepEqual(fixture.takeFault(), { vector: 14, error: 0, cr2: 0x7000n });
  });
});
