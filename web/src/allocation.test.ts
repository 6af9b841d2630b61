import assert from "node:assert/strict";
import { test } from "node:test";
import type { HostInventory, VmStatus } from "../../src/fleet/contract.ts";
import { cpuAllocation, diskAllocation, hueOf, memoryAllocation } from "./allocation.ts";

const MIB = 2 ** 20;

const HOST = {
  processors: { count: 2 },
  memory: { allocatableBytes: 1000 * MIB, hostReserveBytes: 200 * MIB },
  disk: { quotaBytes: 500 * MIB },
} as HostInventory;

function vm(name: string, change: Partial<VmStatus> = {}): VmStatus {
  return {
    id: name,
    name,
    created: `2026-01-01T00:00:0${name.length}Z`,
    state: "running",
    spec: { cpu: { reservationPercent: 20 } },
    memory: { asked: 128 * MIB, granted: 128 * MIB, used: 64 * MIB },
    cpu: { asked: 20, granted: 100, used: 5, seconds: 1 },
    disk: { asked: 100 * MIB, granted: 100 * MIB, used: 10 * MIB },
    ...change,
  } as VmStatus;
}

const held = (slices: readonly { key: string; held: number }[]): Record<string, number> =>
  Object.fromEntries(slices.map(({ key, held: amount }) => [key, amount]));

test("memory: the host's reserve, what each VM that is on is kept, and the rest is free", () => {
  const { slices, free, total } = memoryAllocation(HOST, [vm("a"), vm("bb", { state: "stopped" })]);
  assert.equal(total, 1200 * MIB);
  assert.deepEqual(held(slices), { host: 200 * MIB, a: 128 * MIB, free: 872 * MIB });
  assert.equal(free, 872 * MIB);
});

test("a VM that uses more than it is kept holds what it uses", () => {
  const memory = { asked: 10 * MIB, granted: 10 * MIB, used: 30 * MIB };
  assert.equal(held(memoryAllocation(HOST, [vm("a", { memory })]).slices)["a"], 30 * MIB);
});

test("a draft that fits is drawn out of what is free", () => {
  const draft = { name: "new", memoryBytes: 300 * MIB, cpuReservationPercent: 50, diskBytes: 400 * MIB };
  assert.deepEqual(held(memoryAllocation(HOST, [], draft).slices), {
    host: 200 * MIB,
    draft: 300 * MIB,
    free: 700 * MIB,
  });
  assert.deepEqual(held(cpuAllocation(HOST, [vm("a")], draft).slices), { a: 20, draft: 50, free: 130 });
  assert.deepEqual(held(diskAllocation(HOST, [vm("a")], draft).slices), { a: 100 * MIB, draft: 400 * MIB });
});

test("a draft that does not fit shows by how much", () => {
  const draft = { name: "", memoryBytes: 1100 * MIB, cpuReservationPercent: 0, diskBytes: 0 };
  const { slices, free } = memoryAllocation(HOST, [], draft);
  assert.deepEqual(held(slices), { host: 200 * MIB, draft: 1000 * MIB, excess: 100 * MIB });
  assert.equal(free, 1000 * MIB);
});

test("a VM keeps its colour when another is renamed, and none gets one that is not there", () => {
  const list = Array.from({ length: 9 }, (_, index) => vm("x".repeat(index + 1)));
  assert.deepEqual(
    list.map(({ id }) => hueOf(list, id)),
    [0, 1, 2, 3, 4, 5, 6, 7, 0],
  );
  assert.deepEqual(
    list.map(({ id }) => hueOf(list.toReversed(), id)),
    [0, 1, 2, 3, 4, 5, 6, 7, 0],
  );
});
