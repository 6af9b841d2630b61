/** The bench's table: medians, ratios and the raw figures beside them. */

import type { HostFacts } from "./host.ts";
import { type Machine, type MachineName, MEMORY_MIB } from "./machines.ts";
import type { BenchResult, RoundResult, WorkResult } from "./measure.ts";
import type { BenchOptions } from "./options.ts";
import { geometricMean, median } from "./statistics.ts";
import { WORK_GROUPS } from "./work.ts";

interface Row {
  readonly what: string;
  readonly isola: readonly number[];
  readonly qemu: readonly number[];
  readonly digits: number;
}

const KIB_PER_MIB = 1024;
const MILLION = 1e6;

function bootRows(rounds: readonly RoundResult[], { parts }: BenchOptions): Row[] {
  const of = (machine: MachineName, figure: (round: RoundResult) => number | undefined): number[] =>
    rounds.filter((round) => round.machine === machine).flatMap((round) => figure(round) ?? []);
  const both = (what: string, digits: number, figure: (round: RoundResult) => number | undefined): Row => ({
    what,
    digits,
    isola: of("isola", figure),
    qemu: of("qemu", figure),
  });
  const rows: Row[] = [];
  if (parts.has("boot")) {
    const atShell = (round: RoundResult) => round.figures.find(({ mark }) => mark === "shell");
    rows.push(
      both('"Run /init", wall s', 2, ({ init }) => init.wallSeconds),
      both('"Run /init", CPU s', 2, ({ init }) => init.cpuSeconds),
      both("prompt, wall s", 2, ({ shell }) => shell.wallSeconds),
      both("prompt, CPU s", 2, ({ shell }) => shell.cpuSeconds),
      both("before power-on, wall s", 2, (round) => {
        const figures = atShell(round);
        return figures && round.shell.wallSeconds - figures.guestSeconds;
      }),
      both("instructions to prompt, M", 0, (round) => {
        const figures = atShell(round);
        return figures && figures.instructions / MILLION;
      }),
      both("instructions per wall s, M", 1, (round) => {
        const figures = atShell(round);
        return figures && figures.instructions / figures.guestSeconds / MILLION;
      }),
      both("exits to prompt", 0, (round) => atShell(round)?.exits),
    );
  }
  if (parts.has("memory")) {
    rows.push(
      both(`RSS at prompt (${MEMORY_MIB} MiB guest), MiB`, 1, ({ memory }) => memory && memory.rssKib / KIB_PER_MIB),
      both("PSS at prompt, MiB", 1, ({ memory }) => memory && memory.pssKib / KIB_PER_MIB),
      both("private at prompt, MiB", 1, ({ memory }) => memory && memory.privateKib / KIB_PER_MIB),
    );
  }
  if (parts.has("idle"))
    rows.push(both("idle at prompt, % of a core", 2, ({ idle }) => (idle === undefined ? undefined : idle * 100)));
  return rows;
}

function workRows(work: readonly WorkResult[]): Row[] {
  return work.map(({ group, seconds }) => ({
    what: `${WORK_GROUPS.find(({ name }) => name === group)?.what ?? group}, s`,
    isola: seconds.isola,
    qemu: seconds.qemu,
    digits: 3,
  }));
}

function format(rows: readonly Row[]): string {
  const number = (value: number, digits: number): string => (Number.isNaN(value) ? "-" : value.toFixed(digits));
  const raw = (values: readonly number[], digits: number): string =>
    values.length === 0 ? "-" : values.map((value) => number(value, digits)).join(" ");
  const lines = [
    ["median of", "isola", "QEMU", "isola/QEMU", "isola, each", "QEMU, each"],
    ...rows.map(({ what, isola, qemu, digits }) => [
      what,
      number(median(isola), digits),
      number(median(qemu), digits),
      number(median(isola) / median(qemu), 2),
      raw(isola, digits),
      raw(qemu, digits),
    ]),
  ];
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? [];
  return lines
    .map((line) =>
      line
        .map((cell, i) => (i === 0 || i > 3 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** All that is printed, ending with a newline. */
export function report(
  host: HostFacts,
  machines: readonly Machine[],
  image: Readonly<Record<string, string>>,
  options: BenchOptions,
  { rounds, work }: BenchResult,
): string {
  const [isola, qemu] = machines;
  const packages = Object.entries(image).map(([name, version]) => `${name} ${version}`);
  const lines = [
    `isola ${isola?.version ?? ""} (commit ${host.commit}), Node ${host.node}, V8 ${host.v8}`,
    `QEMU ${qemu?.version ?? ""}, TCG, microvm, -cpu ${options.qemuCpu}`,
    `guest: ${packages.join(", ")}; 1 CPU, ${MEMORY_MIB} MiB`,
    `host: ${host.cores} x ${host.processor}, Linux ${host.kernel}, load ${host.load.toFixed(2)} at the start`,
    "",
    format([...bootRows(rounds, options), ...workRows(work)]),
  ];
  if (work.length > 0) {
    const ratios = work.map(({ seconds }) => median(seconds.isola) / median(seconds.qemu));
    lines.push("", `work, geometric mean of the ratios: ${geometricMean(ratios).toFixed(2)}`);
  }
  for (const { machine, retried } of rounds) {
    if (retried !== undefined) lines.push("", `${machine} had to be started twice: ${retried}`);
  }
  for (const { group, checksum } of work) lines.push(`${group}: both printed ${checksum}`);
  return `${lines.join("\n")}\n`;
}
