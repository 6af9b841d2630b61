import assert from "node:assert/strict";
import { test } from "node:test";
import { FLAT_CODE32, FLAT_CODE64, FLAT_DATA, flatDescriptor, resetState } from "./reset-state.ts";

test("the first instruction lies at 0xfffffff0, in real mode", () => {
  const state = resetState();
  assert.equal(state.segments.cs.base + state.rip, 0xfffffff0n);
  assert.equal(state.segments.cs.selector, 0xf000);
  assert.equal(state.cr0, 0x60000010n);
  assert.equal(state.rflags, 2n);
});

test("RDX holds the signature, every other register is zero", () => {
  const { gpr } = resetState(0xa20f12n);
  assert.equal(gpr.rdx, 0xa20f12n);
  assert.deepEqual(
    Object.entries(gpr).filter(([name, value]) => name !== "rdx" && value !== 0n),
    [],
  );
});

test("states share nothing", () => {
  const first = resetState();
  first.segments.ds.base = 5n;
  first.segments.es.limit = 1;
  first.fx[0] = 9;
  first.msrs.set(0x277, 0n);
  const second = resetState();
  assert.equal(second.segments.ds.base, 0n);
  assert.equal(second.segments.ss.limit, 0xffff);
  assert.equal(second.fx[0], 0x40);
  assert.equal(second.msrs.get(0x277), 0x0007040600070406n);
});

test("flat descriptors are the well-known ones", () => {
  assert.equal(flatDescriptor(FLAT_CODE64), 0x00af9b000000ffffn);
  assert.equal(flatDescriptor(FLAT_CODE32), 0x00cf9b000000ffffn);
  assert.equal(flatDescriptor(FLAT_DATA), 0x00cf93000000ffffn);
});
