/** What a guest's output says of each case, and the judgement on it. */

import type { SystemProgram } from "./programs.ts";

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

/** What the cases must give: QEMU's results, or the manual's where QEMU is wrong. */
export function wantedResults(program: SystemProgram, qemu: Results): Results {
  return Object.fromEntries(
    program.cases.map(({ name, manual }) => [name, manual?.result ?? qemu[name] ?? "no record"]),
  );
}

/**
 * One line for each case that is not as it should be. A known gap that is closed is reported too: its mark must go. So is
 * QEMU where it does as the manual says after all, if `exact`: if this is the version whose faults are listed.
 */
export function complaints(program: SystemProgram, isola: Results, qemu: Results, exact: boolean): string[] {
  const wanted = wantedResults(program, qemu);
  const lines: string[] = [];
  for (const { name, spec, manual, gap } of program.cases) {
    const is = isola[name] ?? "";
    const should = wanted[name] ?? "";
    if (gap !== undefined) {
      if (is === should) lines.push(`${name}: the gap is closed, drop its mark (${gap})`);
    } else if (is !== should) {
      lines.push(`${name} [${spec}]:\n    isola  ${is}\n    wanted ${should}`);
    }
    if (manual !== undefined && exact && qemu[name] === manual.result) {
      lines.push(`${name}: QEMU does as the manual says, drop the exception (${manual.why})`);
    }
  }
  return lines;
}
