import assert from "node:assert/strict";
import { test } from "node:test";
import { type CpuClaim, divideCpu } from "./cpu-division.ts";

const claim = (change: Partial<CpuClaim>): CpuClaim => ({
  shares: 1024,
  reservationPercent: 0,
  limitPercent: 100,
  demandPercent: 100,
  ...change,
});
const divide = (capacity: number, ...claims: Partial<CpuClaim>[]): number[] =>
  divideCpu(capacity, claims.map(claim)).map((value) => Math.round(value * 1000) / 1000);

test("shares divide a pool that all want", () => {
  assert.deepEqual(divide(100, {}, {}), [50, 50]);
  assert.deepEqual(divide(90, { shares: 1024 }, { shares: 2048 }), [30, 60]);
  assert.deepEqual(divide(90, { shares: 1024 }, { shares: 8192 }), [10, 80]);
  assert.deepEqual(divide(100, {}, {}, {}, {}), [25, 25, 25, 25]);
});

test("what a cap or little demand leaves goes to the others", () => {
  assert.deepEqual(divide(100, { limitPercent: 25 }, {}), [25, 75]);
  assert.deepEqual(divide(100, { limitPercent: 10 }, { limitPercent: 25 }, { limitPercent: 50 }), [10, 25, 50]);
  // It may use what is its own at any time.
  const [idle, busy] = divide(100, { demandPercent: 1 }, {});
  assert.deepEqual([idle, busy], [99, 99]);
});

test("a hundred idle VMs take from one that computes no more than they use", () => {
  const idle = Array.from({ length: 100 }, () => ({ demandPercent: 0.5 }));
  const [computing] = divide(100, {}, ...idle);
  assert.equal(computing, 50);
});

test("a reservation holds against any weight", () => {
  assert.deepEqual(divide(100, { shares: 2, reservationPercent: 40 }, { shares: 262_144 }), [40, 60]);
  assert.deepEqual(divide(100, { reservationPercent: 60 }, {}, {}), [60, 20, 20]);
  // Unused, it is not lost.
  const [unused, user] = divide(100, { reservationPercent: 60, demandPercent: 5 }, {});
  assert.deepEqual([unused, user], [95, 95]);
});

test("where there is enough for all, each may have all it may", () => {
  assert.deepEqual(
    divide(200, { demandPercent: 10 }, { demandPercent: 100 }, { limitPercent: 25, demandPercent: 3 }),
    [100, 100, 25],
  );
  assert.deepEqual(divide(100), []);
});

test("what would be used never exceeds a pool that is short, nor a budget its claim's limit", () => {
  let seed = 7;
  const random = (below: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return (seed / 2 ** 31) * below;
  };
  for (let round = 0; round < 500; round++) {
    const capacity = 50 + random(400);
    const claims = Array.from({ length: 1 + Math.floor(random(8)) }, () =>
      claim({
        shares: 2 + random(10_000),
        limitPercent: 5 + random(200),
        demandPercent: random(200),
        reservationPercent: random(5),
      }),
    );
    const budgets = divideCpu(capacity, claims);
    const wanted = claims.reduce((total, one) => total + Math.min(one.demandPercent, one.limitPercent), 0);
    const given = claims.reduce((total, one, i) => total + Math.min(one.demandPercent, budgets[i] ?? 0), 0);
    if (wanted >= capacity * 0.9) assert.ok(given <= capacity + 1e-6, `${given} of ${capacity}`);
    for (const [i, one] of claims.entries()) assert.ok((budgets[i] ?? 0) <= one.limitPercent + 1e-6);
  }
});
