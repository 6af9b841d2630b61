/**
 * Runs the long tests (npm run test:long).
 *
 * Without options it takes up every job where the committed records leave it and works until its target is reached;
 * each chunk is appended to tests/long/records.jsonl, so an interrupted run loses one chunk at the most. `--slice` runs
 * a small piece of every job from one seed, and records nothing.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { LONG_JOBS, type LongJob } from "./jobs.ts";
import { appendRecord, type LongRecord, progressOf, readRecords } from "./records.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const RECORDS = fileURLToPath(new URL("records.jsonl", import.meta.url));
const USAGE = `Usage: npm run test:long -- [--slice] [--job NAME] [--seed N] [--count N] [--list]

  --slice     a bounded piece of every job, recorded nowhere
  --job NAME  only this job
  --seed N    the first seed (default: the first unused one; with --slice the time)
  --count N   stop after so many cases of each job
  --list      name the jobs and how far the records take them`;
const SEED_LIMIT = 2 ** 31;

interface Options {
  readonly slice: boolean;
  readonly list: boolean;
  readonly job: string | undefined;
  readonly seed: number | undefined;
  readonly count: number | undefined;
}

function natural(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} is "${text}"; wanted: a whole number`);
  return value;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      slice: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
      job: { type: "string" },
      seed: { type: "string" },
      count: { type: "string" },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  if (values.job !== undefined && !LONG_JOBS.some(({ name }) => name === values.job)) {
    throw new Error(`there is no job "${values.job}"; jobs: ${LONG_JOBS.map(({ name }) => name).join(", ")}`);
  }
  return {
    slice: values.slice,
    list: values.list,
    job: values.job,
    seed: natural("seed", values.seed),
    count: natural("count", values.count),
  };
}

function git(...args: string[]): string {
  const { status, stdout } = spawnSync("git", args, { cwd: ROOT, encoding: "utf8" });
  return status === 0 ? stdout.trim() : "";
}

function currentCommit(): string {
  const commit = git("rev-parse", "--short=12", "HEAD");
  if (commit === "") return "unknown";
  return git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!tests/long/records.jsonl") === ""
    ? commit
    : `${commit}+`;
}

/** Runs one chunk, its output passed through; resolves to "pass" or to how it failed. */
function runChunk(job: LongJob, seed: number, count: number): Promise<string> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...job.args(seed, count)], { cwd: ROOT, stdio: "inherit" });
    let hung = false;
    const timer = setTimeout(() => {
      hung = true;
      child.kill("SIGKILL");
    }, job.limitSeconds * 1000);
    child.on("error", (error) => {
      clearTimeout(timer);
      resolve(`not started: ${error.message}`);
    });
    child.on("exit", (status, signal) => {
      clearTimeout(timer);
      if (hung) resolve(`hung for ${job.limitSeconds} s`);
      else if (signal !== null) resolve(`signal ${signal}`);
      else resolve(status === 0 ? "pass" : `exit ${status}`);
    });
  });
}

async function runRecorded(job: LongJob, seed: number, count: number): Promise<LongRecord> {
  console.log(`-- ${job.name}: ${count} cases from seed ${seed}`);
  const commit = currentCommit();
  const begun = performance.now();
  const result = await runChunk(job, seed, count);
  const seconds = Math.round((performance.now() - begun) / 100) / 10;
  const record = { commit, seed, job: job.name, count, seconds, result };
  console.log(JSON.stringify(record));
  return record;
}

function firstUnused(seeds: ReadonlySet<number>, from: number): number {
  let seed = from;
  while (seeds.has(seed)) seed += 1;
  return seed;
}

/** Works on one job until its target or the given count; throws at the first chunk that fails. */
async function runToTarget(job: LongJob, options: Options): Promise<void> {
  const { passed, seeds } = progressOf(readRecords(RECORDS), job.name);
  let left = options.count ?? Math.max(0, job.target - passed);
  let seed = options.seed ?? 1;
  if (left === 0) console.log(`-- ${job.name}: ${passed} cases of ${job.target} are recorded; nothing left`);
  while (left > 0) {
    const count = Math.min(left, job.chunk);
    seed = options.seed === undefined ? firstUnused(seeds, seed) : seed;
    const record = await runRecorded(job, seed, count);
    appendRecord(RECORDS, record);
    assert.equal(record.result, "pass");
    seeds.add(seed);
    seed += 1;
    left -= count;
  }
}

function list(jobs: readonly LongJob[]): void {
  const records = readRecords(RECORDS);
  for (const job of jobs) {
    const { passed } = progressOf(records, job.name);
    console.log(`${job.name}: ${job.about}; ${passed} of ${job.target} cases passed on record`);
  }
}

/** One job as a test, so that the run closes with the test runner's summary. */
function register(job: LongJob, options: Options, sliceSeed: number): void {
  test(job.name, async (t) => {
    const missing = job.missing();
    if (missing !== undefined) {
      // A slice takes what the host can run, and says what it left out; the whole needs every job.
      if (!options.slice) throw new Error(`${job.name} cannot run here: ${missing}`);
      t.skip(missing);
      return;
    }
    if (options.slice) {
      const count = options.count ?? job.slice;
      if (count === 0) {
        t.skip("it has no piece short enough for a slice");
        return;
      }
      const { result } = await runRecorded(job, sliceSeed % SEED_LIMIT, count);
      assert.equal(result, "pass");
    } else {
      await runToTarget(job, options);
    }
  });
}

try {
  const options = readOptions();
  const jobs = LONG_JOBS.filter(({ name }) => options.job === undefined || name === options.job);
  if (options.list) list(jobs);
  else for (const job of jobs) register(job, options, options.seed ?? Math.floor(Date.now() / 1000));
} catch (error) {
  console.error(`test:long: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
}
