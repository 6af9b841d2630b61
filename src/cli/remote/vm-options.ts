/** The options of `isola create` and `isola template set`, and the spec that they ask for. */

import { resolve } from "node:path";
import type { Command } from "commander";
import { parseSize } from "../../base/size.ts";
import { usageError } from "../report.ts";

export interface VmFlags {
  readonly memory?: string;
  readonly memoryReservation?: string;
  readonly cpu?: string;
  readonly cpus?: string;
  readonly shares?: string;
  readonly cap?: string;
  readonly cpuReservation?: string;
  readonly pool?: string;
  readonly disk?: readonly string[];
  readonly project?: string;
  readonly description?: string;
  readonly kernel?: string;
  readonly initrd?: readonly string[];
  readonly append?: string;
  readonly engine?: string;
  readonly autostart?: boolean;
  readonly restart?: string;
  readonly reboot?: boolean;
  readonly clockOffset?: string;
}

const DISK_FORM = "[name=NAME,]size=SIZE[,readonly][,bps=SIZE][,iops=NUMBER]";

const collect = (value: string, former: readonly string[] | undefined): string[] => [...(former ?? []), value];

export function vmOptions(command: Command): Command {
  return command
    .option("--memory <SIZE>", "RAM (default: 256M)")
    .option("--memory-reservation <SIZE>", "RAM kept free for it on the host (default: all of its RAM)")
    .option("--cpu <MODEL>", "the processor, as in x86-64-v2,+aes,-rdrand (default: x86-64-v2)")
    .option("--cpus <N>", "processors (default: 1); more than one need the engine kvm")
    .option("--shares <N>", "weight against others while processors are short (default: 1024)")
    .option("--cap <PERCENT>", "the most it gets, in percent of one processor, even where others are idle")
    .option("--cpu-reservation <PERCENT>", "what it is guaranteed, in percent of one processor")
    .option("--pool <NAME>", "the CPU pool it runs in (default: default)")
    .option("--disk <DISK>", `${DISK_FORM}, repeatable; the first is /dev/vda`, collect)
    .option("--project <NAME>", "the project it counts for (default: default)")
    .option("--description <TEXT>", "a line for people")
    .option("--kernel <FILE>", "a kernel on the server, in place of the image's")
    .option(
      "--initrd <FILE>",
      "an initial RAM disk or Multiboot module on the server, repeatable; words follow the name",
      collect,
    )
    .option("--append <WORDS>", "words added to the kernel's command line")
    .option("--engine <NAME>", "what runs guest code: auto, wasm or kvm (default: auto)")
    .option("--autostart", "start it when the server starts")
    .option("--restart <POLICY>", "no, on-failure, unless-stopped or always, [:TRIES]")
    .option("--no-reboot", "a guest's reset ends the VM")
    .option("--clock-offset <SECONDS>", "guest time minus host time");
}

function number(option: string, text: string): number {
  const value = Number(text);
  if (/^-?\d+(\.\d+)?$/.test(text) && Number.isFinite(value)) return value;
  throw usageError(`--${option} ${text}: not a number`);
}

function size(option: string, text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw usageError(`--${option} ${text}: not a size in whole bytes; wanted: as in 256M`);
  return bytes;
}

/** A disk in DISK_FORM; one without a name is called by its place: disk0. */
export function parseDisk(text: string, index: number): Record<string, unknown> {
  const disk: Record<string, unknown> = { name: `disk${index}` };
  for (const part of text.split(",")) {
    const [key = "", value] = part.split("=", 2);
    if (key === "readonly" && value === undefined) disk["readonly"] = true;
    else if (key === "name" && value !== undefined) disk["name"] = value;
    else if (key === "size" && value !== undefined) disk["sizeBytes"] = size("disk size", value);
    else if (key === "bps" && value !== undefined) disk["bytesPerSecond"] = size("disk bps", value);
    else if (key === "iops" && value !== undefined) disk["requestsPerSecond"] = number("disk iops", value);
    else throw usageError(`--disk ${text}: ${part} is unknown; wanted: ${DISK_FORM}`);
  }
  if (disk["sizeBytes"] === undefined) throw usageError(`--disk ${text}: no size; wanted: as in size=1G`);
  return disk;
}

export function parseRestart(text: string): Record<string, unknown> {
  const [policy = "", tries] = text.split(":", 2);
  return { policy, ...(tries === undefined ? {} : { maxRetries: number("restart", tries) }) };
}

function parseInitrd(text: string): { path: string; commandLine?: string } {
  const space = text.indexOf(" ");
  if (space < 0) return { path: resolve(text) };
  return { path: resolve(text.slice(0, space)), commandLine: text.slice(space + 1) };
}

/** The fields of a spec that the options name; the server fills in and checks the rest. */
export function specOf(flags: VmFlags): Record<string, unknown> {
  const {
    memory,
    memoryReservation,
    cpu: model,
    cpus,
    shares,
    cap,
    cpuReservation,
    pool,
    restart,
    clockOffset,
  } = flags;
  const cpu = {
    ...(model === undefined ? {} : { model }),
    ...(cpus === undefined ? {} : { count: number("cpus", cpus) }),
    ...(shares === undefined ? {} : { shares: number("shares", shares) }),
    ...(cap === undefined ? {} : { capPercent: number("cap", cap) }),
    ...(cpuReservation === undefined ? {} : { reservationPercent: number("cpu-reservation", cpuReservation) }),
    ...(pool === undefined ? {} : { pool }),
  };
  const given = {
    memoryBytes: memory === undefined ? undefined : size("memory", memory),
    memoryReservationBytes: memoryReservation === undefined ? undefined : size("memory-reservation", memoryReservation),
    cpu: Object.keys(cpu).length === 0 ? undefined : cpu,
    disks: flags.disk?.map(parseDisk),
    project: flags.project,
    description: flags.description,
    kernel: flags.kernel === undefined ? undefined : resolve(flags.kernel),
    initrds: flags.initrd?.map(parseInitrd),
    append: flags.append,
    engine: flags.engine,
    autostart: flags.autostart,
    restart: restart === undefined ? undefined : parseRestart(restart),
    // Commander sets a --no- option to true where it is not given.
    rebootOnReset: flags.reboot === false ? false : undefined,
    clock: clockOffset === undefined ? undefined : { offsetSeconds: number("clock-offset", clockOffset) },
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}
