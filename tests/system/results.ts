/** What a guest's output says of each case, and the judgement on it. */

import { KNOWN_GAPS } from "./known-gaps.ts";
import type { SystemProgram } from "./programs.ts";
import { QEMU_FAULTS } from "./qemu-faults.ts";

/** By the case's name: what it logged. */
export type Results = Record<string, string>;

/** Reads the lines that the guest's runtime writes. What came before a case's end, or the lack of it, is its result. */
export function readResults(program: SystemProgram, output: string): Results {
  const found = new Map<number, string>();
  const text = output.replaceAll("\r", "");
  for (const part of text.split(/^@/m).slice(1)) {
    const [number = "", ...rest] = part.split("\n");
    // A line that begins with a full stop ends the program; one with an exclamation mark says how it died.
    const result = rest.filter((line) => line !== "" && line !== ".").join(" ");
    found.set(Number.parseInt(number, 16), result.trim());
  }
  const results: Results = {};
  for (const [i, { name }] of program.cases.entries()) {
    if (Object.hasOwn(results, name)) throw new RangeError(`there are two cases "${name}" in ${program.name}`);
    results[name] = found.get(i) ?? "not run";
  }
  return results;
}

/** QEMU's result, or the manual's where QEMU is wrong. */
function wantedResult(name: string, faults: ReadonlyMap<string, string>, qemu: Results): string {
  return faults.get(name) ?? qemu[name] ?? "no record";
}

/** Cases of a program by name, out of groups that share a reason. */
function flat(groups: readonly { readonly cases: Results }[]): Map<string, string> {
  return new Map(groups.flatMap(({ cases }) => Object.entries(cases)));
}

/**
 * One line for each case that is not as it should be. A known gap that is closed is reported too: its mark must go. So is
 * QEMU where it does as the manual says after all, if `exact`: if this is the version whose faults are listed.
 */
export function complaints(program: SystemProgram, isola: Results, qemu: Results, exact: boolean): string[] {
  const faults = flat(QEMU_FAULTS[program.name] ?? []);
  const gaps = KNOWN_GAPS[program.name] ?? {};
  const lines: string[] = [];
  for (const { name, spec } of program.cases) {
    const is = isola[name] ?? "";
    const should = wantedResult(name, faults, qemu);
    if (gaps[name] === undefined && is !== should) {
      lines.push(`${name} [${spec}]:\n    isola  ${is}\n    wanted ${should}`);
    }
    if (gaps[name] !== undefined && is === should) {
      lines.push(`${name}: the gap is closed; take it out of known-gaps.ts`);
    }
    if (exact && faults.has(name) && qemu[name] === should) {
      lines.push(`${name}: QEMU does as the manual says; take it out of qemu-faults.ts`);
    }
  }
  const names = new Set(program.cases.map(({ name }) => name));
  for (const name of [...faults.keys(), ...Object.keys(gaps)]) {
    if (!names.has(name)) lines.push(`${name}: there is no such case in ${program.name}`);
  }
  return lines;
}
