/**
 * Finds what the interpreter's loop should hold (npm run profile): boots the image `debian` on one thread while the
 * engine counts every record, then writes src/cpu/wasm/hot-instructions.ts from the most frequent sequences.
 *
 * The counts of one boot differ little from another's: the kernel takes other turns only where time decides.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { IsolaError } from "../src/base/errors.ts";
import { PortableVcpu } from "../src/cpu/wasm/portable-vcpu.ts";
import type { ProfiledTrace } from "../src/cpu/wasm/traces.ts";
import { decompress } from "../src/images/decompress/decompress.ts";
import { ImageStore } from "../src/images/store.ts";
import { acpiTables, RESERVED_RANGES } from "../src/machine/acpi.ts";
import { Board } from "../src/machine/board.ts";
import { loadKernel } from "../src/machine/boot/load-kernel.ts";
import { clockOrigin, HostClock } from "../src/machine/clock.ts";
import { GuestMemory } from "../src/memory/guest-memory.ts";
import { hotSequences } from "./hot-sequences.ts";
import { MEMORY_MIB } from "./machines.ts";
import { MARKS } from "./marks.ts";

const HOT_FILE = fileURLToPath(new URL("../src/cpu/wasm/hot-instructions.ts", import.meta.url));
const DEFAULTS = { singles: 140, merges: 130, longest: 3, limit: 180 };
const NS_PER_MS = 1e6;

const USAGE = `Usage: npm run profile -- [options]

Boots image debian with counting, and writes the hot instructions of the interpreter's loop.

  --singles N     single instructions in the loop (default ${DEFAULTS.singles})
  --merges N      pairs that are merged, one after the other (default ${DEFAULTS.merges})
  --longest N     instructions of the longest sequence (default ${DEFAULTS.longest})
  --command LINE  typed at the prompt before "poweroff"; may be given more than once
  --keep FILE     write the profile itself, as JSON
  --from FILE     take a kept profile instead of booting
  --output FILE   default src/cpu/wasm/hot-instructions.ts
  --limit S       give up a boot after so many seconds (default ${DEFAULTS.limit})
  --help          this text

Examples:
  npm run profile
  npm run profile -- --keep out/profile.json --output out/hot.ts
  npm run profile -- --from out/profile.json --singles 100 --merges 200`;

type Profile = { readonly trace: ProfiledTrace; readonly counts: number[] }[];

/** Boots, types the commands and "poweroff", and gives what was counted. @throws IsolaError `profile-boot` */
async function profileBoot(commands: readonly string[], limitSeconds: number): Promise<Profile> {
  const image = await new ImageStore().open("debian", ({ step }) => console.error(`image debian: ${step}`));
  const ramBytes = MEMORY_MIB * 2 ** 20;
  const memory = GuestMemory.create(ramBytes);
  const clock = new HostClock(clockOrigin());
  const board = new Board({ clock, ramBytes, vcpus: 1 });
  const tables = acpiTables({ vcpus: 1 });
  const state = await loadKernel({
    memory,
    ...image,
    decompress,
    tables,
    rsdp: tables[0]?.address ?? 0,
    reserved: RESERVED_RANGES.map(({ start, end }) => ({ start, size: end - start })),
  });
  const vcpu = new PortableVcpu(memory, { bus: board.bus, interrupts: board.interrupts, clock }, { counts: true });
  vcpu.state.load(state);

  let output = "";
  let input = Buffer.alloc(0);
  let typed = false;
  const deadline = performance.now() + limitSeconds * 1000;
  while (!board.requests.powerOff) {
    const exit = vcpu.run();
    if (board.nextDeadline() <= clock.now()) board.runTimers(clock.now());
    const bytes = board.serial.read();
    if (bytes.length > 0) {
      process.stderr.write(bytes);
      output = (output + Buffer.from(bytes).toString("latin1")).slice(-4096);
    }
    if (!typed && output.includes(MARKS.shell)) {
      typed = true;
      input = Buffer.from([...commands, "poweroff", ""].join("\n"));
    }
    if (input.length > 0) input = input.subarray(board.serial.write(input));
    const late = performance.now() > deadline;
    if (late || board.requests.reset || exit.kind === "shutdown" || exit.kind === "internal-error") {
      const why = late ? `no end within ${limitSeconds} s` : board.requests.reset ? "a reset" : exit.kind;
      throw new IsolaError({ code: "profile-boot", message: `profiling a boot: ${why}; wanted a power-off` });
    }
    if (exit.kind === "halt") {
      const ticket = board.wakeTicket();
      const ms = (board.nextDeadline() - clock.now()) / NS_PER_MS;
      if (!board.interrupts.pending() && ms > 0) board.sleep(ticket, Math.min(ms, 1000));
      if (board.nextDeadline() <= clock.now()) board.runTimers(clock.now());
    }
  }
  return vcpu.profile();
}

/** Bytes as hexadecimal, so that a kept profile stays small and readable. */
function keep(path: string, profile: Profile): void {
  const plain = profile.map(({ trace, counts }) => ({
    ...trace,
    bytes: trace.bytes.map((one) => Buffer.from(one).toString("hex")),
    counts,
  }));
  writeFileSync(path, JSON.stringify(plain));
}

function readKept(path: string): Profile {
  const plain = JSON.parse(readFileSync(path, "utf8")) as (Omit<ProfiledTrace, "bytes"> & {
    bytes: string[];
    counts: number[];
  })[];
  return plain.map(({ counts, bytes, ...trace }) => ({
    trace: { ...trace, bytes: bytes.map((hex) => Uint8Array.from(Buffer.from(hex, "hex"))) },
    counts,
  }));
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}

function fileText(words: readonly string[]): string {
  return `/**
 * The instructions whose handlers lie inside the interpreter's loop, and the sequences that run as one: an encoding for
 * each combination of operands that is frequent when a Debian kernel boots and runs a shell. 64-bit mode, hexadecimal;
 * "!" marks those whose flags nobody sees. Written by \`npm run profile\`.
 */
export const HOT_INSTRUCTIONS: readonly string[] = [
${words.map((one) => `  "${one}",`).join("\n")}
];
`;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      singles: { type: "string" },
      merges: { type: "string" },
      longest: { type: "string" },
      limit: { type: "string" },
      command: { type: "string", multiple: true, default: [] },
      keep: { type: "string" },
      from: { type: "string" },
      output: { type: "string", default: HOT_FILE },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const natural = (name: keyof typeof DEFAULTS): number => {
    const text = values[name];
    if (text === undefined) return DEFAULTS[name];
    if (/^\d{1,6}$/.test(text)) return Number(text);
    throw new IsolaError({ code: "profile-option", message: `--${name} is "${text}"; wanted: a whole number` });
  };
  const [singles, merges, longest] = [natural("singles"), natural("merges"), natural("longest")];
  const profile =
    values.from === undefined ? await profileBoot(values.command, natural("limit")) : readKept(values.from);
  if (values.keep !== undefined) keep(values.keep, profile);

  const all = sum(profile.map(({ counts }) => sum(counts)));
  const hot = hotSequences(profile, singles, merges, longest);
  const dispatches = sum(hot.map(({ count }) => count));
  const covered = sum(hot.map(({ count, words }) => count * words.split(" ").length));
  const percent = (part: number) => `${((100 * part) / all).toFixed(1)} %`;
  console.log(
    `${all} instructions in ${profile.length} traces; ${hot.length} entries cover ${percent(covered)} of them ` +
      `by ${percent(dispatches)} as many dispatches`,
  );
  writeFileSync(values.output, fileText(hot.map(({ words }) => words)));
  console.log(`written: ${values.output}`);
}

try {
  await main();
} catch (error) {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  if (!(error instanceof IsolaError) && !/^(ERR_PARSE_ARGS|ENOENT|EACCES)/.test(code)) throw error;
  console.error(`profile: ${(error as Error).message}`);
  process.exitCode = 1;
}
