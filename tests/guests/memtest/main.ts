/**
 * Memtest86+ over so many MiB of a 32 MiB guest: node tests/guests/memtest/main.ts --count MIB [--seed N]
 *
 * All of memory is one whole pass; more begins the next. There is nothing random in it, so the seed changes nothing.
 */

import { parseArgs } from "node:util";
import { MEMORY_MIB, testMemory } from "./session.ts";

/** Generous: ten times what one MiB takes on a busy host. */
const SECONDS_PER_MIB = 200;

const { values } = parseArgs({ options: { seed: { type: "string" }, count: { type: "string", default: "1" } } });
if (!/^[1-9]\d{0,5}$/.test(values.count)) throw new Error(`--count is "${values.count}"; wanted: a number of MiB`);
for (let left = Number(values.count); left > 0; left -= MEMORY_MIB) {
  const first = Math.max(0, MEMORY_MIB - left);
  const started = performance.now();
  await testMemory(first, MEMORY_MIB, (MEMORY_MIB - first) * SECONDS_PER_MIB);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(`MiB ${first} to ${MEMORY_MIB}: no error in tests 0 to 9, ${seconds} s`);
}
