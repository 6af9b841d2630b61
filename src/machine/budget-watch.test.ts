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

test("a guest that uses up its budget is brought out every 5 ms, one of a small budget less often", () => {
  const { kicks } = watched(0.5, 1000, () => 1);
  assert.ok(kicks >= 185 && kicks <= 200, `${kicks} kicks`);
  const { kicks: few } = watched(0.02, 1000, () => 0.02);
  assert.ok(few >= 35 && few <= 40, `${few} kicks`);
});

test("a guest that begins to work is noticed within 50 ms, one that has ended its work left alone again", () => {
  const { kicks } = watched(1, 3000, (now) => (now >= 1000 && now < 2000 ? 1 : 0));
  assert.ok(kicks >= 185 && kicks <= 210, `${kicks} kicks`);
});
