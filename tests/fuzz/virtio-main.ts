/** Runs hostile virtio drivers: node tests/fuzz/virtio-main.ts --seed N --count M */

import { parseArgs } from "node:util";
import { runHostileDrivers } from "./virtio-driver.ts";

const CHUNK = 5000;

const { values } = parseArgs({ options: { seed: { type: "string" }, count: { type: "string" } } });
const seed = Number(values.seed ?? 1);
const count = Number(values.count ?? CHUNK);
for (let from = 0; from < count; from += CHUNK) {
  const met = await runHostileDrivers(seed, from, Math.min(CHUNK, count - from));
  console.log(`${Math.min(from + CHUNK, count)} of ${count} drivers`, met);
}
