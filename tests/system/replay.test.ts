/** The test guests on isola, against what QEMU gave when it was recorded; needs no QEMU. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { PROGRAMS } from "./programs.ts";
import { readRecorded } from "./recorded.ts";
import { complaints, readResults } from "./results.ts";
import { runIsola } from "./run-isola.ts";

const LIMIT_MS = 60_000;
const recorded = readRecorded();

for (const program of PROGRAMS) {
  test(`${program.name}: ${program.cases.length} cases do as QEMU or the manual`, () => {
    const isola = readResults(program, runIsola(program.image(), LIMIT_MS));
    const lines = complaints(program, isola, recorded.programs[program.name] ?? {}, true);
    assert.equal(lines.length, 0, lines.join("\n"));
  });
}
