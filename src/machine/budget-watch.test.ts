import assert from "node:assert/strict";
import { test } from "node:test";
import { BudgetWatch } from "./budget-watch.ts";

/** Kicks and looks within `ms` of a VM that uses `share` of a processor. */
function watched(processors: number, ms: number, share: (now: number) => number): { kicks: number; looks: number } {
  const told = { kicks: 0, looks: 0 };
  let [now, used] = [0, 0];
  const meter = { now: () => now, usedMicros: () => used };
  const watch = new BudgetWatch(processors, meter, () => told.kicks++);
  for (let wait = watch.look(); now < ms; wait = watch.look(), told.looks++) {
    used += share(now) * wait * 1000;
    now += wait;
  }
  return told;
}

test("a guest that uses little of its budget is never brought out, and seldom looked at", () => {
  assert.deepEqual(
    watched(0.9, 1000, () => 0.5),
    { kicks: 0, looks: 20 },
  );
});

test("a guest that uses up its budget is brought out 50 times a second, of a small one more often, of a tiny one less", () => {
  for (const [budget, share, least, most] of [
    [1, 1, 45, 50],
    [0.5, 1, 45, 50],
    [0.1, 0.1, 185, 200],
    [0.02, 0.02, 35, 40],
  ] as const) {
    const { kicks } = watched(budget, 1000, () => share);
    assert.ok(kicks >= least && kicks <= most, `${kicks} kicks with a budget of ${budget}`);
  }
});

test("a guest that begins to work is noticed within 50 ms, one that has ended its work left alone again", () => {
  const { kicks } = watched(1, 3000, (now) => (now >= 1000 && now < 2000 ? 1 : 0));
  assert.ok(kicks >= 45 && kicks <= 55, `${kicks} kicks`);
});
