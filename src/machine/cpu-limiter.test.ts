import assert from "node:assert/strict";
import { test } from "node:test";
import { CpuLimiter } from "./cpu-limiter.ts";
import { CONTROL, CONTROL_BYTES } from "./vcpu-messages.ts";

/** A limiter whose time and use are the test's. */
function make(processors: number, used = 0) {
  const control = new Int32Array(new SharedArrayBuffer(CONTROL_BYTES));
  control[CONTROL.budget] = processors * 1e6;
  const at = { ms: 1000, used };
  const limiter = new CpuLimiter(control, { now: () => at.ms, usedMicros: () => at.used });
  return { control, at, limiter };
}

test("a guest that always wants to run gets its budget", () => {
  for (const processors of [0.02, 0.1, 0.25, 0.5, 1.5]) {
    const { at, limiter } = make(processors);
    const begun = { ...at };
    while (at.ms < begun.ms + 60_000) {
      // Slices of a millisecond on as many threads as the budget fills.
      at.ms += 1;
      at.used += 1000 * Math.ceil(processors);
      at.ms += limiter.charge();
    }
    const share = (at.used - begun.used) / 1000 / (at.ms - begun.ms);
    assert.ok(Math.abs(share / processors - 1) < 0.01, `${share} of ${processors}`);
  }
});

test("what other threads of the process used is owed", () => {
  const { at, limiter } = make(0.5);
  at.used += 90_000;
  assert.equal(limiter.charge(), 220);
  at.ms += 100;
  assert.equal(limiter.charge(), 120);
  at.ms += 120;
  assert.equal(limiter.charge(), 0);
});

test("what the process's start used is owed", () => {
  const { at, limiter } = make(0.5, 90_000);
  assert.equal(limiter.charge(), 220);
  at.ms += 220;
  assert.equal(limiter.charge(), 0);
});

test("a guest whose budget is used up by what serves it still gets a turn now and then", () => {
  const { at, limiter } = make(0.1);
  let turns = 0;
  for (let held = true; at.ms < 61_000; ) {
    const ms = limiter.charge();
    if (ms === 0 && held) turns++;
    held = ms > 0;
    // Others use all the time there is.
    at.ms += held ? ms : 1;
    at.used += (held ? ms : 1) * 1000;
  }
  assert.ok(turns >= 20 && turns <= 40, `${turns} turns in a minute`);
});

test("an idle guest saves up 200 ms of its budget and no more", () => {
  const { at, limiter } = make(0.5);
  at.ms += 60_000;
  assert.equal(limiter.charge(), 0);
  at.used += 100_000;
  assert.equal(limiter.charge(), 0);
  at.used += 1000;
  assert.equal(limiter.charge(), 42);
});

test("who used up a budget sleeps until a turn is worth its cold caches", () => {
  for (const [processors, turnMicros] of [
    [0.02, 4000],
    [0.1, 20_000],
    [0.5, 20_000],
  ] as const) {
    const { at, limiter } = make(processors);
    at.used += 1;
    at.ms += limiter.charge();
    const { used } = at;
    while (limiter.charge() === 0) at.used += 100;
    assert.ok(Math.abs(at.used - used - turnMicros) <= 100, `${at.used - used} µs at ${processors}`);
  }
});

test("without a budget nothing is held back, nor owed afterwards", () => {
  const { control, at, limiter } = make(0, 1e6);
  at.used += 1e9;
  assert.equal(limiter.charge(), 0);
  control[CONTROL.budget] = 100_000;
  assert.equal(limiter.charge(), 0);
  at.used += 1000;
  assert.equal(limiter.charge(), 210);
});

test("a pause or a stop ends the wait", () => {
  const { control, at, limiter } = make(0.001);
  at.used += 1e6;
  control[CONTROL.pause] = 1;
  limiter.limit();
  control[CONTROL.pause] = 0;
  control[CONTROL.stop] = 1;
  limiter.limit();
  assert.equal(control[CONTROL.throttled], 0);
});
