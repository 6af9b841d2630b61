/** What a guest's output says of each case, and the judgement on it. */

import { KNOWN_GAPS } from "./known-gaps.ts";
import type { SystemProgram } from "./programs.ts";
import { QEMU_FAULTS } from "./qemu-faults.ts";

/** A guest that has gone astray may log for ever. */
const LONGEST_RESULT = 4000;

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
    found.set(Number.parseInt(number, 16), result.trim().slice(0, LONGEST_RESULT));
  }
  const results: Results = {};
  for (const [i, { name }] of program.cases.entries()) {
    if (Object.hasOwn(results, name)) throw new RangeError(`there are two cases "${name}" in ${program.name}`);
    results[name] = found.get(i) ?? "not run";
  }
  return results;
}

/** The manual's results of a program's cases where QEMU is wrong, by name. */
function manualResults(program: SystemProgram, qemu: Results): Map<string, string> {
  const found = new Map<string, string>();
  for (const { cases = {}, like } of QEMU_FAULTS[program.name] ?? []) {
    for (const { name } of program.cases) {
      const given = found.get(name) ?? qemu[name] ?? "";
      const fixed = like?.names.test(name) === true ? like.fix(given) : given;
      if (fixed !== given) found.set(name, fixed);
    }
    for (const [name, result] of Object.entries(cases)) found.set(name, result);
  }
  return found;
}

/**
 * One line for each case that is not as it should be. A known gap that is closed is reported too: its mark must go. So is
 * QEMU where it does as the manual says after all, if `exact`: if this is the version whose faults are listed.
 */
export function complaints(program: SystemProgram, isola: Results, qemu: Results, exact: boolean): string[] {
  const faults = manualResults(program, qemu);
  const gaps = KNOWN_GAPS[program.name] ?? {};
  const lines: string[] = [];
  for (const { name, spec } of program.cases) {
    const is = isola[name] ?? "";
    const should = faults.get(name) ?? qemu[name] ?? "no record";
    if (should.includes("!")) lines.push(`${name}: QEMU came to no result: ${should}`);
    if (should === "not run") continue;
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
