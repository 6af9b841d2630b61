/** The bench's table: medians, ratios and the raw figures beside them. */

import type { HostFacts } from "./host.ts";
import { accelerator, type Machine, type MachineName, MEMORY_MIB, PROGRAMS_MEMORY_MIB } from "./machines.ts";
import type { RoundResult } from "./measure.ts";
import type { BenchOptions } from "./options.ts";
import type { ProgramResult } from "./program-rounds.ts";
import { GROUPS } from "./programs.ts";
import { geometricMean, median } from "./statistics.ts";

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
  if (parts.has("resident")) {
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

/** Speed against QEMU's: above 1 is faster. */
function speed(machine: "isola" | "interpreter", { seconds }: ProgramResult): number {
  return median(seconds.qemu) / median(seconds[machine]);
}

function programTable(programs: readonly ProgramResult[]): string {
  const number = (value: number, digits: number) => (Number.isNaN(value) ? "-" : value.toFixed(digits));
  const means = (of: readonly ProgramResult[]) => {
    const mean = (machine: "isola" | "interpreter") =>
      geometricMean(of.map((one) => speed(machine, one)).filter((ratio) => !Number.isNaN(ratio)));
    return [number(mean("isola"), 2), number(mean("interpreter"), 2)];
  };
  const lines = [
    ["group", "program", "native s", "QEMU s", "isola s", "interp. s", "isola/QEMU speed", "interp./QEMU"],
  ];
  for (const group of GROUPS) {
    const of = programs.filter((one) => one.group === group);
    if (of.length === 0) continue;
    for (const one of of) {
      const { qemu, isola, interpreter } = one.seconds;
      const times = [one.nativeSeconds, median(qemu), median(isola), median(interpreter)];
      const speeds = [number(speed("isola", one), 2), number(speed("interpreter", one), 2)];
      lines.push([group, one.name, ...times.map((time) => number(time, 3)), ...speeds]);
      if (one.failure !== undefined) lines.push([group, `${one.name} FAILED: ${one.failure}`]);
    }
    lines.push([group, "geometric mean", "", "", "", "", ...means(of)]);
  }
  return table(lines, 2);
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
  return table(lines, 1, 3);
}

/** Columns side by side; those from `left` to `right` are aligned to the right. */
export function table(lines: readonly (readonly string[])[], left: number, right = Number.POSITIVE_INFINITY): string {
  const whole = lines.filter((line) => line.length === lines[0]?.length);
  const widths = lines[0]?.map((_, column) => Math.max(...whole.map((line) => line[column]?.length ?? 0))) ?? [];
  return lines
    .map((line) =>
      line
        .map((cell, i) => (i < left || i > right ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
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
  { rounds, programs }: { rounds: readonly RoundResult[]; programs: readonly ProgramResult[] },
): string {
  const [isola, qemu] = machines;
  const packages = Object.entries(image).map(([name, version]) => `${name} ${version}`);
  const lines = [
    `isola ${isola?.version ?? ""} (commit ${host.commit}), Node ${host.node}, V8 ${host.v8}`,
    `QEMU ${qemu?.version ?? ""}, microvm, ${accelerator(options)}`,
    `guest: ${packages.join(", ")}; 1 CPU, ${MEMORY_MIB} MiB`,
    `host: ${host.cores} x ${host.processor}, Linux ${host.kernel}, load ${host.load.toFixed(2)} at the start`,
    "",
    ...(rounds.length > 0 ? [format(bootRows(rounds, options)), ""] : []),
  ];
  if (programs.length > 0) {
    lines.push(`programs: 1 CPU, ${PROGRAMS_MEMORY_MIB} MiB, isola with --compiler ${options.compiler}`, "");
    lines.push(programTable(programs));
  }
  for (const { machine, retried } of rounds) {
    if (retried !== undefined) lines.push("", `${machine} had to be started twice: ${retried}`);
  }
  return `${lines.join("\n")}\n`;
}
