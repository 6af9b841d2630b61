/**
 * Runs the programs under QEMU, records what they gave, and shows where isola differs:
 *   node tests/system/record.ts [PROGRAM...]
 */

import { PROGRAMS } from "./programs.ts";
import { readRecorded, writeRecorded } from "./recorded.ts";
import { complaints, readResults, type Results } from "./results.ts";
import { runIsola } from "./run-isola.ts";
import { qemuVersion, runQemu } from "./run-qemu.ts";

const LIMIT_MS = 20_000;
const names = process.argv.slice(2);
const programs: Record<string, Results> = names.length === 0 ? {} : { ...readRecorded().programs };
for (const program of PROGRAMS) {
  if (names.length > 0 && !names.includes(program.name)) continue;
  const image = program.image();
  const qemu = program.manualOnly === true ? {} : readResults(program, await runQemu(image, LIMIT_MS));
  programs[program.name] = qemu;
  const lines = complaints(program, readResults(program, runIsola(image, LIMIT_MS)), qemu, true);
  console.log(`${program.name}: ${program.cases.length} cases, ${lines.length} complaints`);
  for (const line of lines) console.log(`  ${line}`);
}
writeRecorded({ qemu: await qemuVersion(), programs });
