/** Side by side with QEMU (npm run bench): see USAGE in options.ts. */

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import packageJson from "../package.json" with { type: "json" };
import { IsolaError } from "../src/base/errors.ts";
import { densityReport, measureDensity } from "./density.ts";
import { hostFacts } from "./host.ts";
import type { StoredImage } from "../src/images/store.ts";
import { kvmReport, measureKvm } from "./kvm-cost.ts";
import { isolaMachine, openImage, PROGRAMS_MEMORY_MIB, qemuMachine } from "./machines.ts";
import { measure } from "./measure.ts";
import { measureNested } from "./nested.ts";
import { type BenchOptions, readOptions, USAGE } from "./options.ts";
import { programPaths, writeProgramImage } from "./program-image.ts";
import { type ProgramResult, runPrograms } from "./program-rounds.ts";
import { chooseBenchmarks, compileGuestProgram, listBenchmarks, runNatively } from "./programs.ts";
import { report } from "./report.ts";
import { measureV86, type V86Result, v86Report } from "./v86.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Makes the guest's programs and runs them natively; the function runs them in the machines. */
function prepare(image: StoredImage, options: BenchOptions): (say: (line: string) => void) => Promise<ProgramResult[]> {
  const { program, initramfs } = programPaths(ROOT);
  compileGuestProgram(program);
  const benchmarks = chooseBenchmarks(listBenchmarks(program), options.programs);
  writeProgramImage(image.paths.initramfs, program, initramfs);
  const native = runNatively(program, benchmarks);
  const boots = { initramfs, memoryMib: PROGRAMS_MEMORY_MIB };
  const compilers = options.interpreter ? [options.compiler, "off"] : [options.compiler];
  const machines = [
    ...compilers.map((compiler) => isolaMachine(packageJson.version, image, { ...options, compiler }, boots)),
    qemuMachine(image, options, boots),
  ];
  return (say) => runPrograms(machines, benchmarks, native, options, say);
}

/** Writes what was measured, and how, as JSON. */
function writeFigures(options: BenchOptions, figures: object): void {
  const stamp = new Date().toISOString().replaceAll(/[:.]/g, "-");
  const path = options.output ?? join(ROOT, "out", `bench-${stamp}.json`);
  mkdirSync(dirname(path), { recursive: true });
  const said = { ...options, parts: [...options.parts], programs: [...options.programs] };
  writeFileSync(path, `${JSON.stringify({ ...figures, options: said }, undefined, 2)}\n`);
  console.log(`\nraw figures: ${path}`);
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) {
    console.log(USAGE);
    return;
  }
  if (process.platform !== "linux") {
    throw new IsolaError({
      code: "bench-host",
      message: `measuring on ${process.platform}: wanted Linux, for its /proc`,
    });
  }
  const host = hostFacts();
  if (options.parts.has("density")) {
    const density = await measureDensity(options, (line) => console.error(line));
    process.stdout.write(
      `commit ${host.commit}, Node ${host.node}, ${host.cores} x ${host.processor}\n${densityReport(density)}`,
    );
    if (options.parts.size === 1 && options.programs.size === 0) return;
  }
  if (options.parts.has("kvm")) {
    const alone = options.parts.size === 1 && options.programs.size === 0;
    try {
      process.stdout.write(kvmReport(measureKvm(ROOT, options.rounds, (line) => console.error(line))));
    } catch (error) {
      if (alone || !(error instanceof IsolaError)) throw error;
      console.error(`left out: ${error.message}`);
    }
    if (alone) return;
  }
  if (options.parts.has("nested")) {
    process.stdout.write(await measureNested(ROOT, options));
    if (options.parts.size === 1 && options.programs.size === 0) return;
  }
  let v86: V86Result | undefined;
  if (options.parts.has("v86")) {
    v86 = await measureV86(options, (line) => console.error(line));
    process.stdout.write(
      `commit ${host.commit}, Node ${host.node}, ${host.cores} x ${host.processor}\n${v86Report(v86)}`,
    );
    if (v86.failures.length > 0) process.exitCode = 1;
    if (options.parts.size === 1 && options.programs.size === 0) {
      writeFigures(options, { host, v86 });
      return;
    }
  }
  const image = await openImage("debian");
  const say = (line: string): void => console.error(line);
  const machines = [isolaMachine(packageJson.version, image, options), qemuMachine(image, options)];
  const chosen = options.programs.size > 0 ? prepare(image, options) : undefined;
  const rounds = await measure(machines, options, say);
  const programs = chosen === undefined ? [] : await chosen(say);
  const { versions } = image.manifest;
  process.stdout.write(`\n${report(host, machines, versions, options, { rounds, programs })}`);
  const facts = { host, image: versions, machines: machines.map(({ name, version }) => ({ name, version })) };
  if (programs.some(({ failure }) => failure !== undefined)) process.exitCode = 1;
  writeFigures(options, { ...facts, rounds, programs, v86 });
}

try {
  await main();
} catch (error) {
  if (!(error instanceof IsolaError)) throw error;
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
