/**
 * Beside v86, the other virtual machine on WebAssembly: a 32-bit guest, since v86 has no 64-bit mode. Debian's kernel
 * for i386 and BusyBox boot in isola, QEMU TCG and v86 by turns, and each runs the same programs at its prompt.
 *
 * v86 boots that kernel as it is, with the image's own command line, so all three are given that one (QEMU the TSC's
 * frequency besides: machines.ts). The kernel has no entry for PVH, so QEMU and v86 load the bzImage, which unpacks
 * itself in the guest, and isola the ELF. The boot is therefore also told from the kernel's first line on.
 */

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import packageJson from "../package.json" with { type: "json" };
import { IsolaError } from "../src/base/errors.ts";
import type { StoredImage } from "../src/images/store.ts";
import { GuestProcess, type Mark } from "./guest-process.ts";
import { boot, isolaMachine, type Machine, MEMORY_MIB, openImage, qemuMachine } from "./machines.ts";
import type { BenchOptions } from "./options.ts";
import { markedCommand } from "./programs.ts";
import { table } from "./report.ts";
import { geometricMean, median } from "./statistics.ts";

const V86_GUEST = fileURLToPath(new URL("./v86-guest.ts", import.meta.url));
const FIRMWARE = "/usr/share/seabios/bios.bin";
const VGA_FIRMWARE = "/usr/share/seabios/vgabios-stdvga.bin";

/** What works on a file that is there: made of BusyBox itself, so the same in all three. */
const PREPARATION =
  "cat /bin/busybox /bin/busybox >/tmp/data; seq 30000 >/tmp/numbers; gzip -c /tmp/data >/tmp/data.gz";

/** Programs of BusyBox; what they print is hashed, and must be the same in all three. */
export const PROGRAMS: readonly { readonly name: string; readonly command: string }[] = [
  { name: "sha256", command: "for i in 1 2 3 4 5 6 7 8; do sha256sum </tmp/data; done" },
  { name: "md5", command: "for i in 1 2 3 4 5 6 7 8; do dd if=/tmp/data bs=64k 2>/dev/null | md5sum; done" },
  { name: "gzip", command: "gzip -c </tmp/data" },
  { name: "gunzip", command: "for i in 1 2 3; do gunzip -c </tmp/data.gz; done" },
  { name: "sort", command: "sort -r /tmp/numbers" },
  { name: "awk", command: "awk 'BEGIN { for (i = 0; i < 100000; i++) s = (s * 31 + i) % 65521; print s }'" },
  {
    name: "shell",
    command: "i=0; s=0; while [ $i -lt 20000 ]; do s=$(((s * 31 + i) % 65521)); i=$((i + 1)); done; echo $s",
  },
  { name: "processes", command: "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i + 1)); done; echo $i" },
];

const NAMES = ["isola", "qemu", "v86"] as const;
type Name = (typeof NAMES)[number];

export interface V86Program extends Mark {
  readonly name: string;
  readonly checksum: string;
}

/** One boot of one machine. */
export interface V86Round {
  readonly machine: Name;
  /** The kernel's first line, "Run /init", the prompt. */
  readonly kernel: Mark;
  readonly init: Mark;
  readonly shell: Mark;
  readonly programs: readonly V86Program[];
}

export interface V86Result {
  readonly versions: Readonly<Record<Name, string>>;
  /** Of the guest, by package. */
  readonly image: Readonly<Record<string, string>>;
  readonly rounds: readonly V86Round[];
  /** What went wrong, one line each. */
  readonly failures: readonly string[];
}

/** @throws IsolaError `bench-no-v86` */
function v86Machine({ paths, commandLine }: StoredImage): Machine {
  for (const path of [FIRMWARE, VGA_FIRMWARE]) {
    if (existsSync(path)) continue;
    throw new IsolaError({
      code: "bench-no-v86",
      message: `starting v86: there is no ${path}; wanted: SeaBIOS from Debian's package seabios`,
    });
  }
  let version: string;
  try {
    const manifest = readFileSync(new URL("../package.json", import.meta.resolve("v86")), "utf8");
    ({ version } = JSON.parse(manifest) as { version: string });
  } catch (cause) {
    const message = "starting v86: it is not among this clone's packages; wanted: npm ci, with development packages";
    throw new IsolaError({ code: "bench-no-v86", message, cause });
  }
  const args = [V86_GUEST, FIRMWARE, VGA_FIRMWARE, paths.kernel, paths.initramfs, String(MEMORY_MIB), commandLine];
  const command = { machine: "v86", program: process.execPath, args, channel: false };
  return { name: "v86", version, start: () => new GuestProcess(command) };
}

/** Boots a machine and runs every program once. @throws IsolaError */
async function measureOnce(machine: Machine, name: Name, timeoutSeconds: number): Promise<V86Round> {
  const { guest, init, shell } = await boot(machine, timeoutSeconds);
  try {
    const kernel = await guest.mark("kernel", timeoutSeconds);
    await guest.command(PREPARATION, timeoutSeconds);
    const programs: V86Program[] = [];
    for (const program of PROGRAMS) {
      const line = markedCommand(program.name, program.command);
      const { checksum, seconds, cpuSeconds } = await guest.timed(line, program.name, timeoutSeconds);
      programs.push({ name: program.name, checksum, wallSeconds: seconds, cpuSeconds });
    }
    return { machine: name, kernel, init, shell, programs };
  } finally {
    await guest.kill();
  }
}

/** Programs that did not print the same everywhere, one line each. */
export function disagreements(rounds: readonly V86Round[]): string[] {
  return PROGRAMS.flatMap(({ name }) => {
    const printed = rounds.flatMap(({ machine, programs }) =>
      programs.filter((program) => program.name === name).map(({ checksum }) => `${machine} ${checksum.slice(0, 12)}`),
    );
    const checksums = new Set(printed.map((one) => one.split(" ")[1]));
    return checksums.size > 1 ? [`${name}: checksums differ: ${[...new Set(printed)].join(", ")}`] : [];
  });
}

/** A machine that fails is told and left out from then on; the others go on. @throws IsolaError where one is missing */
export async function measureV86(options: BenchOptions, say: (line: string) => void): Promise<V86Result> {
  const image = await openImage("debian-i386");
  const { kernel, initramfs } = image.paths;
  const machines: Readonly<Record<Name, Machine>> = {
    isola: isolaMachine(packageJson.version, image, { ...options, engine: "wasm" }),
    qemu: qemuMachine(image, { ...options, engine: "wasm" }, { kernel, initramfs, memoryMib: MEMORY_MIB }),
    v86: v86Machine(image),
  };
  const rounds: V86Round[] = [];
  const failed = new Map<Name, string>();
  for (let round = 1; round <= options.rounds; round++) {
    // The order changes from round to round: none is always the one that finds the caches cold.
    for (const name of round % 2 === 1 ? NAMES : NAMES.toReversed()) {
      if (failed.has(name)) continue;
      const head = `round ${round} of ${options.rounds}, ${name}`;
      try {
        const done = await measureOnce(machines[name], name, options.timeoutSeconds);
        rounds.push(done);
        const cpu = done.programs.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0);
        say(`${head}: init ${done.init.cpuSeconds.toFixed(2)} CPU s, programs ${cpu.toFixed(2)} CPU s`);
      } catch (error) {
        if (!(error instanceof IsolaError)) throw error;
        failed.set(name, `${name} FAILED: ${error.message}`);
        say(`${head}: ${error.message}`);
      }
    }
  }
  const versions = { isola: machines.isola.version, qemu: machines.qemu.version, v86: machines.v86.version };
  const failures = [...failed.values(), ...disagreements(rounds)];
  return { versions, image: image.manifest.versions, rounds, failures };
}

interface Row {
  readonly what: string;
  readonly seconds: Readonly<Record<Name, number>>;
}

function rowsOf(rounds: readonly V86Round[]): { readonly boot: readonly Row[]; readonly programs: readonly Row[] } {
  const row = (what: string, figure: (round: V86Round) => number | undefined): Row => {
    const of = (name: Name): number =>
      median(rounds.filter(({ machine }) => machine === name).flatMap((round) => figure(round) ?? []));
    return { what, seconds: { isola: of("isola"), qemu: of("qemu"), v86: of("v86") } };
  };
  const both = (what: string, figure: (round: V86Round) => Mark | undefined): Row[] => [
    row(`${what}, wall s`, (round) => figure(round)?.wallSeconds),
    row(`${what}, CPU s`, (round) => figure(round)?.cpuSeconds),
  ];
  return {
    boot: [
      ...both("kernel's first line", ({ kernel }) => kernel),
      ...both('"Run /init"', ({ init }) => init),
      ...both("prompt", ({ shell }) => shell),
      ...both('first line to "Run /init"', ({ kernel, init }) => ({
        wallSeconds: init.wallSeconds - kernel.wallSeconds,
        cpuSeconds: init.cpuSeconds - kernel.cpuSeconds,
      })),
    ],
    programs: PROGRAMS.flatMap(({ name }) =>
      both(name, ({ programs }) => programs.find((program) => program.name === name)),
    ),
  };
}

/** What is printed, ending with a newline. */
export function v86Report({ versions, image, rounds, failures }: V86Result): string {
  const number = (value: number): string => (Number.isNaN(value) ? "-" : value.toFixed(2));
  const speed = ({ seconds }: Row, peer: Name): number => seconds[peer] / seconds.isola;
  const line = (row: Row): string[] => [
    row.what,
    ...NAMES.map((name) => number(row.seconds[name])),
    number(speed(row, "qemu")),
    number(speed(row, "v86")),
  ];
  const { boot: boots, programs } = rowsOf(rounds);
  const mean = (unit: string): string[] => {
    const of = programs.filter(({ what }) => what.endsWith(unit));
    const means = (["qemu", "v86"] as const).map((peer) => number(geometricMean(of.map((row) => speed(row, peer)))));
    return [`programs, geometric mean, ${unit}`, "", "", "", ...means];
  };
  const packages = Object.entries(image).map(([name, version]) => `${name} ${version}`);
  return [
    `isola ${versions.isola}, QEMU ${versions.qemu} (microvm, TCG), v86 ${versions.v86}: ${packages.join(", ")}`,
    `1 CPU, ${MEMORY_MIB} MiB; speed: above 1 isola is faster`,
    "",
    table(
      [
        ["median of", "isola", "QEMU", "v86", "speed to QEMU", "to v86"],
        ...[...boots, ...programs].map(line),
        mean("wall s"),
        mean("CPU s"),
      ],
      1,
    ),
    ...(failures.length === 0 ? [] : ["", ...failures]),
    "",
  ].join("\n");
}
