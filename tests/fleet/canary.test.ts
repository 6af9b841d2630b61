/** Memory of another VM, living or gone, never appears in a guest. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Fleet } from "../../src/fleet/contract.ts";
import { markingKernel, searchingKernel } from "./canary-kernels.ts";
import { testFleet, VmConsole } from "./fleet-fixture.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** The searcher's RAM is as large as what the VM that is gone had. */
const NEIGHBOUR_BYTES = 64 * MIB;
const GONE_BYTES = 256 * MIB;
const SEARCHED_BYTES = 6 * GIB;

test("a mark in a neighbour's RAM, and in RAM that was freed, is nowhere in a guest that maps all it can", async () => {
  await using place = await testFleet();
  const run = async (fleet: Fleet, name: string, memoryBytes: number, code: Uint8Array): Promise<VmConsole> => {
    const kernel = join(place.folder, `${name}.elf`);
    writeFileSync(kernel, code);
    await fleet.create({ name, kernel, memoryBytes, engine: "wasm" });
    await fleet.start(name);
    return await VmConsole.open(fleet, name);
  };
  const { fleet } = place;
  const marked = await Promise.all([
    run(fleet, "neighbour", NEIGHBOUR_BYTES, markingKernel(NEIGHBOUR_BYTES)),
    run(fleet, "gone", GONE_BYTES, markingKernel(GONE_BYTES)),
  ]);
  for (const console of marked) await console.expect(/^!$/);
  await fleet.kill("gone");
  const search = await run(fleet, "search", GONE_BYTES, searchingKernel(GONE_BYTES, SEARCHED_BYTES));
  // Nowhere; then in the one place where the searcher left it, so that it would have been found.
  await search.expect(/^01!$/);
});
