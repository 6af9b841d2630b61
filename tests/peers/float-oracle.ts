/** Compiles the two C programs that ask this machine's processor for floating-point answers, and runs them. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const LARGEST_ANSWER = 2 ** 30;

export interface FloatOracle {
  readonly processor: string;
  readonly sseOperations: readonly string[];
  /** SSE records; `operation` restricts them to one. */
  sse(seed: number, count: number, operation?: number): DataView;
  /** x87 records; `instruction` (opcode, ModRM) restricts them to one. */
  x87(seed: number, count: number, instruction?: readonly [number, number]): DataView;
}

function view(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Builds the oracle. Throws where there is no x86-64 gcc. */
export function buildFloatOracle(): FloatOracle {
  const directory = mkdtempSync(join(tmpdir(), "isola-float-"));
  const compile = (name: string): string => {
    const program = join(directory, name);
    execFileSync("gcc", ["-O1", "-o", program, fileURLToPath(new URL(`./${name}.c`, import.meta.url))]);
    return program;
  };
  const sse = compile("float-sse");
  const x87 = compile("float-x87");
  const run = (program: string, args: readonly (string | number)[]): Buffer =>
    execFileSync(program, args.map(String), { maxBuffer: LARGEST_ANSWER });
  const model = /^model name\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  const family = /^cpu family\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  return {
    processor: `${model ?? "unknown"}, family ${family ?? "unknown"}`,
    sseOperations: run(sse, ["names"]).toString().trim().split("\n"),
    sse: (seed, count, operation) => view(run(sse, operation === undefined ? [seed, count] : [seed, count, operation])),
    x87: (seed, count, instruction) =>
      view(run(x87, [seed, count, ...(instruction ?? []).map((byte) => byte.toString(16))])),
  };
}
