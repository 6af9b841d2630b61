import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Throttle } from "./throttle.ts";

/** When each of the requests went on, in milliseconds, all asked for at once. */
async function times(throttle: Throttle, requests: readonly number[], milliseconds: number): Promise<number[]> {
  const done: number[] = [];
  for (const bytes of requests) void throttle.admit(bytes).then(() => done.push(performanceNow()));
  await settled();
  for (let at = 0; at < milliseconds; at++) {
    clock++;
    mock.timers.tick(1);
    await settled();
  }
  return done;
}
let clock = 0;
const performanceNow = (): number => clock;
/** All that followed from what was resolved has run. */
const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
};

test("bytes and requests are held to their rates after a short burst", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    clock = 0;
    const slow = await times(new Throttle({ bytesPerSecond: 1000 }, performanceNow), [100, 100, 100, 500, 100], 1200);
    // 100 bytes are 100 ms: two are within the burst, the others wait until those before them are paid for.
    assert.deepEqual(slow, [0, 0, 100, 200, 700]);
    clock = 0;
    const requests = await times(new Throttle({ requestsPerSecond: 10 }, performanceNow), [1, 1e9, 1, 1], 1000);
    assert.deepEqual(requests, [0, 0, 100, 200]);
    clock = 0;
    assert.deepEqual(await times(new Throttle({}, performanceNow), [1e12, 1e12], 1), [0, 0]);
  } finally {
    mock.timers.reset();
  }
});

test("idle time is not saved up, and what waits is let go at once", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    clock = 10_000_000;
    const throttle = new Throttle({ requestsPerSecond: 1 }, performanceNow);
    const first = await times(throttle, [1, 1, 1], 1500);
    assert.deepEqual(first, [10_000_000, 10_000_900]);
    throttle.hurry();
    await settled();
    assert.equal(first.length, 3);
    assert.deepEqual(await times(throttle, [1], 1), [10_001_500]);
  } finally {
    mock.timers.reset();
  }
});
