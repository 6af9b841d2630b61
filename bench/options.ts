/** The bench's command line. */

import { parseArgs } from "node:util";
import { IsolaError } from "../src/base/errors.ts";
import { parseSize } from "../src/base/size.ts";
import { QEMU_CPU } from "./machines.ts";
import { GROUPS } from "./programs.ts";

export const PARTS = ["boot", "resident", "idle", "density", "kvm", "nested", "v86"] as const;
export type Part = (typeof PARTS)[number];
/** Take many minutes: done where they are named. */
const ONLY_NAMED: readonly Part[] = ["nested", "v86"];

export interface BenchOptions {
  readonly rounds: number;
  readonly parts: ReadonlySet<Part>;
  /** Names of benchmarks and of their groups. */
  readonly programs: ReadonlySet<string>;
  /** What runs the guests: isola's portable engine beside TCG, or both on the host's KVM. */
  readonly engine: "wasm" | "kvm";
  /** What isola's `--compiler` is given. */
  readonly compiler: string;
  /** Whether the programs also run on isola's interpreter alone. */
  readonly interpreter: boolean;
  readonly timeoutSeconds: number;
  readonly qemuCpu: string;
  /** Idle VMs at once, and the memory, in bytes, that they may have. */
  readonly vms: number;
  readonly memoryBytes: number;
  /** Where the JSON goes; undefined: out/ with the time in its name. */
  readonly output: string | undefined;
}

const DEFAULT_ROUNDS = 3;
const MAX_ROUNDS = 1000;
const DEFAULT_TIMEOUT = 60;
/** v86 takes 20 s of processor time to boot, and so do programs in it. */
const V86_TIMEOUT = 300;
const DEFAULT_VMS = 4;
const MAX_VMS = 1000;
const DEFAULT_MEMORY = "16G";

export const USAGE = `Usage: npm run bench -- [options]

Runs the same kernel and initramfs under isola's portable engine and under QEMU TCG, by turns, and prints medians and
ratios. Raw figures go to out/ as JSON. Programs are timed by the host, between two lines on the guest's console; each
prints a checksum, which must be what it prints on the host itself.

  --rounds N       boots of each machine, and runs of each program (default ${DEFAULT_ROUNDS})
  --only NAME,...  only these parts, groups of programs, or programs (default: all)
                     boot      time to "Run /init" and to the prompt, CPU time, instructions per second, exits
                     resident  resident size at the prompt of a 256 MiB guest
                     idle      CPU time over 10 s at the prompt
                     density   idle Debian VMs of 96 MiB on one server: memory beyond the guest's, processor time
                     kvm       on the host's /dev/kvm, beside C: a loop in ring 3, an exit to a port and back;
                               random reads in huge pages and in small ones
                     nested    boot, resident and idle with --engine kvm, in a host with hardware virtualization
                               that QEMU emulates; ten minutes and more, so only where it is named
                     v86       Debian's 32-bit kernel and programs of its BusyBox under isola, TCG and v86; ten minutes,
                               so only where it is named
                     ${GROUPS.join(", ")}
                               programs in a guest of 512 MiB
  --engine E       wasm: isola's portable engine and TCG (default); kvm: both machines on the host's KVM
  --compiler C     isola's --compiler (default on)
  --interpreter    run the programs on isola's interpreter alone as well
  --timeout S      seconds that one boot or one run of a program may take (default ${DEFAULT_TIMEOUT}; with v86 ${V86_TIMEOUT})
  --vms N          idle VMs at once, of density (default ${DEFAULT_VMS}; 100 take ten minutes and 16 GiB)
  --memory SIZE    what the server of density may give out (default ${DEFAULT_MEMORY})
  --qemu-cpu M     QEMU's processor model (default ${QEMU_CPU.split(",")[0] ?? ""} under isola's identity)
  --output FILE    where the JSON goes
  --help           this text

Examples:
  npm run bench
  npm run bench -- --rounds 3 --only boot
  npm run bench -- --only integer,gzip --interpreter
  npm run bench -- --only density --vms 100
  npm run bench -- --only v86 --rounds 1`;

function invalid(option: string, value: string, wanted: string): IsolaError {
  return new IsolaError({ code: "bench-option", message: `--${option} is "${value}"; wanted: ${wanted}` });
}

function natural(option: string, value: string, max: number): number {
  const number = /^\d+$/.test(value) ? Number(value) : 0;
  if (number < 1 || number > max) throw invalid(option, value, `a whole number from 1 to ${max}`);
  return number;
}

function size(option: string, value: string): number {
  const bytes = parseSize(value);
  if (bytes === undefined || bytes === 0) throw invalid(option, value, "a size as 16G");
  return bytes;
}

/** Undefined where help is asked for. @throws IsolaError `bench-option` */
export function readOptions(args: readonly string[]): BenchOptions | undefined {
  let values: Partial<Record<string, string | boolean>>;
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        rounds: { type: "string" },
        only: { type: "string" },
        engine: { type: "string" },
        compiler: { type: "string" },
        interpreter: { type: "boolean" },
        timeout: { type: "string" },
        vms: { type: "string" },
        memory: { type: "string" },
        "qemu-cpu": { type: "string" },
        output: { type: "string" },
        help: { type: "boolean" },
      },
    }));
  } catch (cause) {
    const message = `reading the options: ${(cause as Error).message.split("\n")[0] ?? ""}; see --help`;
    throw new IsolaError({ code: "bench-option", message, cause });
  }
  if (values["help"] === true) return undefined;
  const text = (name: string): string | undefined => {
    const value = values[name];
    return typeof value === "string" ? value : undefined;
  };
  const unnamed = PARTS.filter((part) => !ONLY_NAMED.includes(part));
  const only = new Set(text("only")?.split(",") ?? [...unnamed, ...GROUPS]);
  const engine = text("engine") ?? "wasm";
  if (engine !== "wasm" && engine !== "kvm") throw invalid("engine", engine, "wasm or kvm");
  return {
    engine,
    rounds: natural("rounds", text("rounds") ?? String(DEFAULT_ROUNDS), MAX_ROUNDS),
    parts: new Set(PARTS.filter((part) => only.has(part))),
    programs: new Set([...only].filter((name) => !PARTS.some((part) => part === name))),
    compiler: text("compiler") ?? "on",
    interpreter: values["interpreter"] === true,
    timeoutSeconds: natural(
      "timeout",
      text("timeout") ?? String(only.has("v86") ? V86_TIMEOUT : DEFAULT_TIMEOUT),
      86_400,
    ),
    vms: natural("vms", text("vms") ?? String(DEFAULT_VMS), MAX_VMS),
    memoryBytes: size("memory", text("memory") ?? DEFAULT_MEMORY),
    qemuCpu: text("qemu-cpu") ?? QEMU_CPU,
    output: text("output"),
  };
}
