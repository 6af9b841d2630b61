/**
 * Work for a guest that has nothing but BusyBox: each group is a shell function that prints a checksum, so that two
 * machines are only compared where both computed the same. Groups take QEMU some tenths of a second.
 */

import { IsolaError } from "../src/base/errors.ts";
import type { GuestProcess } from "./guest-process.ts";

export interface WorkGroup {
  readonly name: string;
  readonly what: string;
  /** Body of the shell function; its output is hashed. */
  readonly body: string;
}

export const WORK_GROUPS: readonly WorkGroup[] = [
  { name: "sha256", what: "sha256sum of 4 MiB zeros", body: "dd if=/dev/zero bs=64k count=64 2>/dev/null | sha256sum" },
  { name: "gzip", what: "gzip of 1.2 MB of numbers", body: "gzip -c /tmp/numbers" },
  {
    name: "gunzip",
    what: "gunzip of the same, 3 times",
    body: "for i in 1 2 3; do gunzip -c /tmp/numbers.gz; done",
  },
  { name: "sort", what: "sort of 20,000 lines", body: "sort /tmp/shuffled" },
  {
    name: "awk",
    what: "awk: 30,000 rounds of arithmetic",
    body: "awk 'BEGIN { for (i = 0; i < 30000; i++) s = (s * 31 + i) % 65521; print s }'",
  },
  {
    name: "shell",
    what: "ash: 10,000 rounds of arithmetic",
    body: "i=0; s=0; while [ $i -lt 10000 ]; do s=$(((s * 31 + i) % 65521)); i=$((i + 1)); done; echo $s",
  },
  {
    name: "processes",
    what: "100 processes started",
    body: "i=0; while [ $i -lt 100 ]; do /bin/busybox echo $i; i=$((i + 1)); done",
  },
  {
    name: "syscalls",
    what: "dd: 20,000 blocks of 1 byte",
    body: "dd if=/dev/zero of=/tmp/bytes bs=1 count=20000 2>/dev/null; cat /tmp/bytes",
  },
  {
    name: "copy",
    what: "cp of 38 MB of memory, 3 times",
    body: "for i in 1 2 3; do cp /tmp/big /tmp/copy; done; tail -c 65536 /tmp/copy",
  },
];

/** Data for the groups; the same bytes everywhere. */
const PREPARATION = [
  "seq 1 180000 > /tmp/numbers",
  "for i in $(seq 32); do cat /tmp/numbers; done > /tmp/big",
  "gzip -c /tmp/numbers > /tmp/numbers.gz",
  "awk 'BEGIN { s = 1; for (i = 0; i < 20000; i++) { s = (s * 16807) % 2147483647; print s } }' > /tmp/shuffled",
];

/** Types data and functions into a guest that stands at its shell. @throws IsolaError */
export async function prepareWork(guest: GuestProcess, timeoutSeconds: number): Promise<void> {
  for (const line of PREPARATION) await guest.command(line, timeoutSeconds);
  for (const { name, body } of WORK_GROUPS) {
    await guest.command(`work_${name}() { { ${body}; } | sha256sum; }`, timeoutSeconds);
  }
}

/** Runs a group once. @throws IsolaError `bench-checksum` where no checksum came */
export async function runWork(
  guest: GuestProcess,
  { name }: WorkGroup,
  timeoutSeconds: number,
): Promise<{ readonly seconds: number; readonly checksum: string }> {
  const { output, seconds } = await guest.command(`work_${name}`, timeoutSeconds);
  const checksum = /\b([0-9a-f]{64})\b/.exec(output)?.[1];
  if (checksum === undefined) {
    throw new IsolaError({
      code: "bench-checksum",
      message: `running group ${name} under ${guest.machine}: no checksum came, only ${JSON.stringify(output.slice(-200))}`,
    });
  }
  return { seconds, checksum };
}
