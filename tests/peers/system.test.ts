/** The test guests of tests/system on QEMU and isola, side by side. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { PROGRAMS } from "../system/programs.ts";
import { readRecorded } from "../system/recorded.ts";
import { complaints, readResults } from "../system/results.ts";
import { runIsola } from "../system/run-isola.ts";
import { qemuVersion, runQemu } from "../system/run-qemu.ts";

const LIMIT_MS = 60_000;
const recorded = readRecorded();

for (const program of PROGRAMS.filter(({ manualOnly }) => manualOnly !== true)) {
  test(`${program.name}: ${program.cases.length} cases give the same on both`, async () => {
    const same = (await qemuVersion()) === recorded.qemu;
    const image = program.image();
    const qemu = readResults(program, await runQemu(image, LIMIT_MS));
    const lines = complaints(program, readResults(program, runIsola(image, LIMIT_MS)), qemu, same);
    assert.equal(lines.length, 0, lines.join("\n"));
    // What `npm test` goes by is what QEMU does.
    if (same) assert.deepEqual(recorded.programs[program.name], qemu, "record anew: node tests/system/record.ts");
  });
}
