/**
 * One Debian guest that is saved and restored so many times in the middle of its work, with a disk write, a timer and a
 * half-printed line in flight: node tests/guests/save-cycles/main.ts --count CYCLES [--seed N]
 *
 * Nothing in it is random but when the moves come, so the seed changes nothing.
 */

import { parseArgs } from "node:util";
import { PLAIN_CODEC } from "../../../src/machine/saved-state/state-file.ts";
import { ENGINE } from "../guest.ts";
import { moveGuest } from "../saved-guest.ts";

const TOLD_EVERY = 20;

const { values } = parseArgs({ options: { seed: { type: "string" }, count: { type: "string", default: "5" } } });
if (!/^[1-9]\d{0,5}$/.test(values.count)) throw new Error(`--count is "${values.count}"; wanted: a number of cycles`);
const cycles = Number(values.count);
const began = performance.now();
const seconds = (): string => ((performance.now() - began) / 1000).toFixed(0);
await moveGuest(new Array<typeof ENGINE>(cycles).fill(ENGINE), {
  codec: PLAIN_CODEC,
  moved(moves) {
    if (moves % TOLD_EVERY === 0) console.log(`${moves} of ${cycles} cycles, ${seconds()} s`);
  },
});
console.log(`${cycles} cycles: nothing lost, nothing twice, ${seconds()} s`);
