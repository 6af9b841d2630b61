/**
 * Runs hostile guests: node tests/guests/hostile/main.ts --seed N --count M [--from I]
 *
 * The guests run on a worker; this thread watches it. A guest fails the run where the engine throws, ends with an error
 * of its own, or does not come back from a slice. Case I of seed N is the same guest again.
 */

import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { type CaseResult, runHostileCase } from "./machine.ts";

/** Silence after which a guest counts as hung; a slice takes about a millisecond, on a busy host some hundred. */
const HUNG_MS = 30_000;
const POLL_MS = 500;

interface Job {
  readonly seed: number;
  readonly from: number;
  readonly count: number;
  /** Counts signs of life. */
  readonly pulse: SharedArrayBuffer;
}

type Report = { readonly index: number } & ({ readonly result: CaseResult } | { readonly error: string });

export interface Summary {
  /** Cases by mode and outcome. */
  readonly outcomes: Readonly<Record<string, number>>;
  readonly instructions: number;
  /** One line for each case that failed. */
  readonly failures: readonly string[];
}

/** Runs `count` cases from `from` on; resolves when all have ended, or the first has hung. */
export function runHostileGuests(seed: number, from: number, count: number): Promise<Summary> {
  const pulse = new SharedArrayBuffer(4);
  const job: Job = { seed, from, count, pulse };
  const worker = new Worker(new URL(import.meta.url), { workerData: job });
  const outcomes: Record<string, number> = {};
  const failures: string[] = [];
  let instructions = 0;
  let next = from;
  return new Promise((resolve) => {
    let seen = 0;
    let seenAt = performance.now();
    const timer = setInterval(() => {
      const beats = Atomics.load(new Int32Array(pulse), 0);
      if (beats !== seen) [seen, seenAt] = [beats, performance.now()];
      else if (performance.now() - seenAt > HUNG_MS) {
        failures.push(`case ${next} of seed ${seed} hung`);
        void worker.terminate();
      }
    }, POLL_MS);
    worker.on("message", (report: Report) => {
      next = report.index + 1;
      if ("error" in report) failures.push(`case ${report.index} of seed ${seed}: ${report.error}`);
      else {
        const { mode, outcome, instructions: retired } = report.result;
        const key = `${mode} ${outcome}`;
        outcomes[key] = (outcomes[key] ?? 0) + 1;
        instructions += retired;
      }
    });
    worker.on("error", (error) => failures.push(`case ${next} of seed ${seed} ended its thread: ${String(error)}`));
    worker.on("exit", () => {
      clearInterval(timer);
      if (next !== from + count && failures.length === 0)
        failures.push(`case ${next} of seed ${seed} ended its thread`);
      resolve({ outcomes, instructions, failures });
    });
  });
}

function runJob({ seed, from, count, pulse }: Job): void {
  const beats = new Int32Array(pulse);
  for (let index = from; index < from + count; index++) {
    let report: Report;
    try {
      report = { index, result: runHostileCase(seed, index, () => Atomics.add(beats, 0, 1)) };
    } catch (error) {
      report = { index, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    parentPort?.postMessage(report);
  }
}

async function main(): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ options: { seed: text, count: text, from: text } });
  const [seed, from, count] = [values.seed ?? "1", values.from ?? "0", values.count ?? "100"].map(Number);
  if (![seed, from, count].every((number) => Number.isSafeInteger(number))) {
    throw new Error("wanted: --seed N --count M [--from I], whole numbers");
  }
  const summary = await runHostileGuests(seed as number, from as number, count as number);
  console.log(`seed ${seed}: ${count} hostile guests, ${summary.instructions} instructions`);
  console.log(summary.outcomes);
  console.log(`resident: ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`);
  for (const failure of summary.failures) console.error(failure);
  if (summary.failures.length > 0) process.exitCode = 1;
}

if (!isMainThread && parentPort !== null && workerData !== null) runJob(workerData as Job);
else if (import.meta.main) await main();
