import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { untilTold } from "../../bench/until-told.ts";

test("SIGINT stops the work, and what it was starting meanwhile is released too", async () => {
  const running = new Set(["first"]);
  const work = async (signal: AbortSignal): Promise<void> => {
    setImmediate(() => process.emit("SIGINT"));
    await sleep(60_000, undefined, { signal }).catch(() => undefined);
    await sleep(1);
    running.add("second");
  };
  const release = (): Promise<void> => {
    running.clear();
    return Promise.resolve();
  };
  await assert.rejects(untilTold(work, release), { code: "bench-interrupted" });
  assert.equal(running.size, 0);
  assert.equal(process.listenerCount("SIGINT"), 0);
});

test("work that ends gives its result, and is released", async () => {
  let released = 0;
  const release = (): Promise<void> => {
    released++;
    return Promise.resolve();
  };
  assert.equal(await untilTold(() => Promise.resolve(7), release), 7);
  assert.ok(released > 0);
});
