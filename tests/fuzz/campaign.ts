/** Runs cases on two engines, batch by batch, and keeps count of what they met. */

import { BATCH_CASES, type CaseCode, type CaseMaker, type CaseRun, type TestCase, toBatch } from "./cases.ts";
import { type Difference, differences, mismatches, windowsEqual } from "./compare.ts";
import type { Ring3Engine } from "./image.ts";
import { knownDifference } from "./known-differences.ts";
import { BLOCK, NO_EXCEPTION } from "./layout.ts";
import { DROPPED, shrink } from "./shrink.ts";

export interface Failure {
  readonly test: TestCase;
  readonly differences: readonly Difference[];
}

export interface CampaignOptions {
  readonly maker: CaseMaker;
  readonly expected: Ring3Engine;
  readonly actual: Ring3Engine;
  /** Number of the first case, and how many. */
  readonly start: number;
  readonly count: number;
  /** Stop after so many failures that differ in kind: by forms and by what differs. */
  readonly maxFailures: number;
  readonly onFailure: (failure: Failure) => void;
  readonly onProgress?: (done: number) => void;
}

export interface CampaignResult {
  readonly cases: number;
  readonly failures: number;
  /** Cases by exception vector; NO_EXCEPTION for those that raised none. */
  readonly vectors: ReadonlyMap<number, number>;
  /** Instructions by form. */
  readonly forms: ReadonlyMap<string, number>;
  /** Cases that differ as they are meant to, by reason. */
  readonly known: ReadonlyMap<string, number>;
  /** Milliseconds in each engine. */
  readonly expectedTime: number;
  readonly actualTime: number;
}

const KINDS_PER_FORM = 3;
/** A signal or an interrupt in the middle of a case shows on some hosts. The engine under test gave the same twice. */
const OTHER_ANSWER = "the processor, asked again, gave the engine's answer";
const AFTER_STRAY = "after a case that wrote beside the hot bytes, as meant";

const increment = <K>(counts: Map<K, number>, key: K, by = 1): void => {
  counts.set(key, (counts.get(key) ?? 0) + by);
};

/** An unexplained mismatch of a batch. */
interface Failed {
  readonly index: number;
  readonly code: CaseCode | undefined;
  readonly test: TestCase;
  readonly found: readonly Difference[];
  /** The block that the engine under test gave. */
  readonly actual: Uint8Array;
}

const blockOf = (outputs: Uint8Array, index: number): Uint8Array =>
  outputs.subarray(index * BLOCK.size, (index + 1) * BLOCK.size);

/** What two engines make of one case alone. */
export function differencesAlone(
  test: TestCase,
  window: Uint8Array,
  expected: Ring3Engine,
  actual: Ring3Engine,
): readonly Difference[] {
  const batch = toBatch([test], window);
  const a = expected.run(batch).outputs;
  const b = actual.run(batch).outputs;
  if (mismatches([test], a, b).length === 0) return [];
  const found = differences(test, a, b);
  return knownDifference(test, found, a, b) === undefined ? found : [];
}

function kindOf({ test, differences: found }: Failure): string {
  const names = test.instructions.map(({ name }) => name).filter((name) => name !== DROPPED);
  return [...names, ...found.map(({ what }) => what.replace(/[-+]0x.*|\d+$/, ""))].join(" ");
}

export function runCampaign(options: CampaignOptions): CampaignResult {
  const { maker, expected, actual, start, count } = options;
  const vectors = new Map<number, number>();
  const forms = new Map<string, number>();
  const known = new Map<string, number>();
  let failures = 0;
  let done = 0;
  let expectedTime = 0;
  let actualTime = 0;
  const timed = (engine: Ring3Engine, batch: Parameters<Ring3Engine["run"]>[0]) => {
    const begin = performance.now();
    const result = engine.run(batch);
    return { result, time: performance.now() - begin };
  };

  const kinds = new Set<string>();
  const blamed = new Map<string, number>();
  while (done < count && kinds.size < options.maxFailures) {
    const size = Math.min(BATCH_CASES, count - done);
    const run = maker.makeRun(start + done, size);
    const a = timed(expected, run.batch);
    const b = timed(actual, run.batch);
    expectedTime += a.time;
    actualTime += b.time;
    countForms(run.codes);
    countVectors(a.result.outputs);
    const sameWindows = windowsEqual(a.result.window, b.result.window);
    // The outputs last until an engine runs again: what is unexplained is copied first.
    const unexplained: Failed[] = [];
    for (const index of mismatches(run.codes, a.result.outputs, b.result.outputs)) {
      const [left, right] = [blockOf(a.result.outputs, index), blockOf(b.result.outputs, index)];
      const test = run.test(index);
      const found = differences(test, left, right);
      const reason = knownDifference(test, found, left, right);
      if (reason !== undefined) increment(known, reason);
      else unexplained.push({ index, code: run.codes[index], test, found, actual: right.slice() });
    }
    let previous: CaseCode | undefined;
    for (const failed of unexplained) {
      const { index, code, test, found } = failed;
      // Of the cases with the same code one is enough; and a form that failed in several ways already is not looked at
      // again: shrinking takes many runs.
      failures++;
      if (code === previous) continue;
      if (test.instructions.some(({ name }) => (blamed.get(name) ?? 0) >= KINDS_PER_FORM)) continue;
      if (alone(test).length > 0) report(simplify(test));
      else {
        const before = strayWriters(run, index);
        if (before === "known") {
          failures--;
          increment(known, AFTER_STRAY);
          continue;
        }
        if (before === "none" && changedItsAnswer(run, failed)) {
          failures--;
          increment(known, OTHER_ANSWER);
          continue;
        }
        const lone = { what: "alone", expected: "differs", actual: "equal" };
        if (before === "none") report({ test, differences: [...found, lone] });
      }
      previous = code;
      if (kinds.size >= options.maxFailures) break;
    }
    if (!sameWindows) strayWriters(run, size);
    done += size;
    options.onProgress?.(done);
  }
  return { cases: done, failures: Math.max(failures, kinds.size), vectors, forms, known, expectedTime, actualTime };

  function countForms(codes: readonly CaseCode[]): void {
    for (let from = 0, to = 0; from < codes.length; from = to) {
      const code = codes[from];
      while (to < codes.length && codes[to] === code) to++;
      for (const { name } of code?.instructions ?? []) increment(forms, name, to - from);
    }
  }

  function countVectors(outputs: Uint8Array): void {
    const counts = new Int32Array(NO_EXCEPTION + 1);
    for (let at = BLOCK.vector; at < outputs.length; at += BLOCK.size) {
      // The vector's low bytes, little-endian; 0x100 is the greatest.
      const vector = (outputs[at] ?? 0) | ((outputs[at + 1] ?? 0) << 8);
      counts[vector] = (counts[vector] ?? 0) + 1;
    }
    for (const [vector, cases] of counts.entries()) if (cases > 0) increment(vectors, vector, cases);
  }

  /** Whether the batch, run once more, gives what the engine under test gave first and gives again, known differences aside. */
  function changedItsAnswer(run: CaseRun, { index, test, actual: first }: Failed): boolean {
    const a = blockOf(expected.run(run.batch).outputs, index);
    const b = blockOf(actual.run(run.batch).outputs, index);
    const agree =
      mismatches([test], a, b).length === 0 || knownDifference(test, differences(test, a, b), a, b) !== undefined;
    return agree && mismatches([test], first, b).length === 0;
  }

  function alone(test: TestCase): readonly Difference[] {
    return differencesAlone(test, maker.window, expected, actual);
  }

  function report(failure: Failure): void {
    const kind = kindOf(failure);
    if (kinds.has(kind)) return;
    kinds.add(kind);
    const last = failure.test.instructions.findLast(({ name }) => name !== DROPPED);
    if (last !== undefined) increment(blamed, last.name);
    options.onFailure(failure);
  }

  function simplify(test: TestCase): Failure {
    const small = shrink(test, (candidate) => alone(candidate).length > 0);
    return { test: small, differences: alone(small) };
  }

  /** Looks for cases before `end` that write beside the hot bytes what they should not, and reports those not known. */
  function strayWriters(run: CaseRun, end: number): "none" | "known" | "reported" {
    // A wild case restores the window: only what follows the last one can matter.
    let begin = end;
    while (begin > 0 && !run.wild(begin - 1)) begin--;
    let stray: "none" | "known" | "reported" = "none";
    for (const index of strayIndices(run, begin, end)) {
      const test = run.test(index);
      const batch = toBatch([test], maker.window);
      const a = expected.run(batch);
      const b = actual.run(batch);
      if (stray === "none") stray = "known";
      const found = [
        ...differences(test, a.outputs, b.outputs),
        { what: "window beside the hot bytes", expected: "one content", actual: "another" },
      ];
      if (knownDifference(test, found, a.outputs, b.outputs) !== undefined) continue;
      stray = "reported";
      report({ test, differences: found });
    }
    return stray;
  }

  /** Cases from `begin` to before `end` that leave different windows: halved until one is left, the last one first. */
  function strayIndices(run: CaseRun, begin: number, end: number): number[] {
    if (begin >= end) return [];
    const tests = Array.from({ length: end - begin }, (_, i) => run.test(begin + i));
    const batch = toBatch(tests, maker.window);
    if (windowsEqual(expected.run(batch).window, actual.run(batch).window)) return [];
    if (tests.length === 1) return [begin];
    const middle = (begin + end) >> 1;
    return [...strayIndices(run, middle, end), ...strayIndices(run, begin, middle)];
  }
}

/** Lines that sum a campaign up. */
export function summary(result: CampaignResult, expected: string, actual: string): string[] {
  const raised = result.cases - (result.vectors.get(NO_EXCEPTION) ?? 0);
  const instructions = [...result.forms.values()].reduce((sum, count) => sum + count, 0);
  const rate = (time: number): string => `${Math.round(result.cases / time)} k/s`;
  const counts = [...result.forms.values()];
  const least = counts.length === 0 ? 0 : counts.reduce((a, b) => Math.min(a, b));
  return [
    `${result.cases} cases, ${instructions} instructions of ${result.forms.size} forms (each at least ${least} times), ` +
      `${raised} exceptions, ${result.failures} mismatches`,
    ...[...result.known].map(([reason, count]) => `${count} differ as meant: ${reason}`),
    `${expected} ${rate(result.expectedTime)}, ${actual} ${rate(result.actualTime)}`,
  ];
}
