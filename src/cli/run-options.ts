/** Checks the values of `isola run`'s options. Every refusal is a "usage" error with the value found and the one wanted. */

import { type EngineName, TRACE_NAMES, type TraceName } from "../machine/vm-contract.ts";
import { usageError } from "./report.ts";

export const ENGINE_CHOICES = ["auto", "wasm", "kvm"] as const;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
/** The kernel's own limit is 2,048 bytes with the final zero [linux arch/x86/include/asm/setup.h, COMMAND_LINE_SIZE]. */
const COMMAND_LINE_LIMIT = 2047;

/** Refuses everything but 1: RAM and device state are laid out for more processors, but only one is run so far. */
export function parseCpus(text: string): number {
  const cpus = Number(text);
  if (!/^\d+$/.test(text) || cpus < 1) throw usageError(`--cpus ${text}: not a number of processors; wanted: 1`);
  if (cpus > 1) {
    throw usageError(`--cpus ${text}: guests have one processor so far, since isola runs one vCPU a VM; wanted: 1`);
  }
  return cpus;
}

export function parseEngine(text: string): EngineName {
  switch (text) {
    case "auto":
    case "wasm":
      return "wasm";
    case "kvm":
      throw usageError("--engine kvm: guests run on the portable engine only so far; wanted: auto or wasm");
    default:
      throw usageError(`--engine ${text}: no such engine; wanted: ${ENGINE_CHOICES.join(", ")}`);
  }
}

export function parseName(text: string): string {
  if (NAME.test(text)) return text;
  throw usageError(`--name ${text}: not a name; wanted: 1 to 63 letters, digits, dots, hyphens and underscores`);
}

/** Collects the names of repeated or comma-separated `--trace`. */
export function parseTrace(text: string, former: readonly TraceName[]): TraceName[] {
  const names = text.split(",").map((name) => {
    const known = TRACE_NAMES.find((candidate) => candidate === name);
    if (known === undefined) throw usageError(`--trace ${name}: no such trace; wanted: ${TRACE_NAMES.join(", ")}`);
    return known;
  });
  return [...new Set([...former, ...names])];
}

/** The guest's kernel command line: the image's (or the serial console), then what the user appends. */
export function composeCommandLine(base: string, append: string | undefined): string {
  const line = [base, append ?? ""].filter((part) => part !== "").join(" ");
  if (/[\0\n]/.test(line)) throw usageError("--append: it holds a line break or a zero; wanted: one line");
  const length = Buffer.byteLength(line);
  if (length > COMMAND_LINE_LIMIT) {
    throw usageError(`--append: the kernel's command line has ${length} bytes; wanted: at most ${COMMAND_LINE_LIMIT}`);
  }
  return line;
}
