/**
 * Programs that verify the processor, in a Debian guest: node tests/guests/verify/main.ts --count CHECKS [--seed N]
 *
 * The list of checks is gone through from the one that the seed names; after the last comes the first. With --only TEXT
 * those whose name holds it.
 */

import { parseArgs } from "node:util";
import { CHECKS, runChecks } from "./session.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "0" },
    count: { type: "string", default: String(CHECKS.length) },
    only: { type: "string", default: "" },
  },
});
for (const name of ["seed", "count"] as const) {
  if (!/^\d{1,9}$/.test(values[name])) throw new Error(`--${name} is "${values[name]}"; wanted: a number`);
}
const named = CHECKS.filter(({ name }) => name.includes(values.only));
const first = Number(values.seed) % named.length;
const chosen = Array.from({ length: Math.min(Number(values.count), named.length) }, (_, i) => {
  const check = named[(first + i) % named.length];
  if (check === undefined) throw new Error(`there is no check ${values.only}`);
  return check;
});
await runChecks(chosen, (line) => console.log(line));
