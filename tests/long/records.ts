/** The committed log of long tests: one JSON object a line, appended after every chunk. */
import { appendFileSync, existsSync, readFileSync } from "node:fs";

export interface LongRecord {
  /** Abbreviated commit of the tree that ran; "+" at its end where tracked files differed from it. */
  readonly commit: string;
  readonly seed: number;
  readonly job: string;
  /** Cases asked for. */
  readonly count: number;
  /** Wall-clock seconds. */
  readonly seconds: number;
  /** "pass", or how it failed: "exit 1", "signal SIGKILL", "hung". */
  readonly result: string;
}

function parseRecord(line: string, where: string): LongRecord {
  const value: unknown = JSON.parse(line);
  if (typeof value === "object" && value !== null) {
    const { commit, seed, job, count, seconds, result } = value as Partial<Record<keyof LongRecord, unknown>>;
    if (
      typeof commit === "string" &&
      typeof seed === "number" &&
      typeof job === "string" &&
      typeof count === "number" &&
      typeof seconds === "number" &&
      typeof result === "string"
    ) {
      return { commit, seed, job, count, seconds, result };
    }
  }
  throw new Error(`${where} is not a record of a long test: ${line}`);
}

/** Every record of the file, in order; none where it does not exist. Throws on a line that is no record. */
export function readRecords(path: string): LongRecord[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n");
  return lines.flatMap((line, index) => (line === "" ? [] : [parseRecord(line, `${path}:${index + 1}`)]));
}

export function appendRecord(path: string, record: LongRecord): void {
  appendFileSync(path, `${JSON.stringify(record)}\n`);
}

/** Cases that passed, and seeds already used, of one job. */
export function progressOf(records: readonly LongRecord[], job: string): { passed: number; seeds: Set<number> } {
  const own = records.filter((record) => record.job === job);
  return {
    passed: own.reduce((sum, { count, result }) => (result === "pass" ? sum + count : sum), 0),
    seeds: new Set(own.map(({ seed }) => seed)),
  };
}
