/**
 * The guests' tests with every trace compiled the first time that it runs: `node tests/long/compiled-guests.ts --count
 * FILES [--seed N]`. The list of files is gone through from the one that the seed names; after the last comes the first.
 */

import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";

/** A boot takes minutes so, and nothing else that these tests wait for is quicker. */
const PATIENCE_SECONDS = 1200;
export const GUEST_TESTS = [
  "debian",
  "i386",
  "disk",
  "screen",
  "pause",
  "save",
  "hostile",
  "idle",
  "bad-input",
] as const;

function main(): number {
  const { values } = parseArgs({
    options: { seed: { type: "string", default: "0" }, count: { type: "string", default: String(GUEST_TESTS.length) } },
  });
  const [first, count] = [Number(values.seed), Number(values.count)];
  if (!Number.isInteger(first) || !Number.isInteger(count) || first < 0 || count < 1) {
    throw new Error(`--seed ${values.seed} --count ${values.count}: wanted: a seed from 0 and a count from 1`);
  }
  const files = Array.from({ length: Math.min(count, GUEST_TESTS.length) }, (_, i) => {
    return `tests/guests/${GUEST_TESTS[(first + i) % GUEST_TESTS.length]}.test.ts`;
  });
  const environment = { ISOLA_TEST_COMPILER: "1", ISOLA_TEST_PATIENCE: String(PATIENCE_SECONDS) };
  const { status } = spawnSync(process.execPath, ["--test", "--test-concurrency=1", ...files], {
    stdio: "inherit",
    env: { ...process.env, ...environment },
  });
  return status ?? 1;
}

if (import.meta.main) process.exitCode = main();
