/**
 * The programs that run in the guest: our own in C (bench/guest, compiled static by the host's gcc), and real ones as
 * they are installed on the host. Each is run natively first, for the checksum that both machines must print.
 */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { IsolaError } from "../src/base/errors.ts";
import { PREPROCESSED, preprocessedProgram, REAL_PREPARATION, realPrograms } from "./real-programs.ts";

const GUEST_SOURCES = fileURLToPath(new URL("guest/", import.meta.url));
const MS_PER_SECOND = 1000;

/** Groups in the order of the table. */
export const GROUPS = ["integer", "floating-point", "simd", "memory", "system", "self-modifying", "real"] as const;
export type Group = (typeof GROUPS)[number];

export interface Benchmark {
  readonly group: Group;
  readonly name: string;
  /** What a shell runs; it prints "@begin NAME" and "@end NAME CHECKSUM". */
  readonly command: string;
}

export interface NativeResult {
  readonly checksum: string;
  readonly seconds: number;
}

function failed(what: string, cause: unknown): IsolaError {
  const stderr = (cause as { stderr?: unknown }).stderr;
  const words = typeof stderr === "string" && stderr !== "" ? stderr : (cause as Error).message;
  return new IsolaError({ code: "bench-program", message: `${what}: ${words.trim().slice(-300)}`, cause });
}

/** Compiles the program of bench/guest to a static executable. @throws IsolaError `bench-program` */
export function compileGuestProgram(output: string): void {
  const sources = readdirSync(GUEST_SOURCES).filter((name) => name.endsWith(".c"));
  const paths = sources.map((name) => join(GUEST_SOURCES, name));
  const options = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o", output];
  try {
    execFileSync("gcc", [...options, ...paths, "-lm"], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (cause) {
    throw failed("compiling bench/guest (wanted: Debian's packages gcc and libc6-dev)", cause);
  }
}

/** What a shell runs to run a command between its marks, and to print the hash of what that prints. */
export function markedCommand(name: string, command: string): string {
  return `echo "@begin ${name}"; sum=$({ ${command}; } | sha256sum); echo "@end ${name} \${sum%% *}"`;
}

/** All benchmarks. `program`: the compiled one; it lies at `/bin/bench` in the guest. */
export function listBenchmarks(program: string): Benchmark[] {
  const lines = execFileSync(program, ["--list"], { encoding: "utf8" }).trim().split("\n");
  const own = lines.map((line) => {
    const [group = "", name = ""] = line.split(" ");
    const known = GROUPS.find((one) => one === group);
    if (known === undefined) throw failed("listing bench/guest", new Error(`group ${group} is not known`));
    return { group: known, name, command: `bench ${name}` };
  });
  const real = realPrograms().map(({ name, command }) => ({
    group: "real" as const,
    name,
    command: markedCommand(name, command),
  }));
  return [...own, ...real];
}

/** Benchmarks by names of theirs or of groups. @throws IsolaError `bench-option` */
export function chooseBenchmarks(all: readonly Benchmark[], names: ReadonlySet<string>): Benchmark[] {
  for (const name of names) {
    if (all.some((one) => one.name === name || one.group === name)) continue;
    const wanted = `a group (${GROUPS.join(", ")}) or a benchmark (${all.map((one) => one.name).join(", ")})`;
    throw new IsolaError({ code: "bench-option", message: `--only has "${name}"; wanted: a part, ${wanted}` });
  }
  return all.filter(({ name, group }) => names.has(name) || names.has(group));
}

/** Runs benchmarks on the host itself. @throws IsolaError `bench-program` */
export function runNatively(program: string, benchmarks: readonly Benchmark[]): Map<string, NativeResult> {
  const folder = mkdtempSync(join(tmpdir(), "isola-bench-"));
  const results = new Map<string, NativeResult>();
  const shell = (script: string) =>
    execFileSync("sh", ["-e", "-c", `bench() { ${program} "$@"; }\n${script}`], {
      cwd: folder,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
      maxBuffer: 2 ** 24,
    });
  try {
    if (benchmarks.some(({ group }) => group === "real")) {
      writeFileSync(join(folder, PREPROCESSED), preprocessedProgram());
      for (const line of REAL_PREPARATION) shell(line);
    }
    for (const { name, command } of benchmarks) {
      const begun = performance.now();
      const output = shell(command);
      const seconds = (performance.now() - begun) / MS_PER_SECOND;
      const checksum = /^@end \S+ ([0-9a-f]+)$/m.exec(output)?.[1];
      if (checksum === undefined) throw new Error(`${name} printed no checksum`);
      results.set(name, { checksum, seconds });
    }
  } catch (cause) {
    throw failed("running the benchmarks natively", cause);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return results;
}
