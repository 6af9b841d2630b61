/** Saved states in a test: kept in memory, and gone on with by another VM of this process. */

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFileDisk } from "../../src/backends/file-disk.ts";
import { restoreNodeVm } from "../../src/fleet/node-vm.ts";
import { ZSTD_CODEC } from "../../src/fleet/saved-file.ts";
import { openState } from "../../src/machine/saved-state/manifest.ts";
import type { StateCodec, StateSource } from "../../src/machine/saved-state/state-file.ts";
import { ImageStore } from "../../src/images/store.ts";
import type { Disk, EngineName, Vm } from "../../src/machine/vm-contract.ts";
import { ENGINE, Guest, MIB } from "./guest.ts";
import { tickProgram } from "./tick-program.ts";

/** The whole state of a VM, which is left paused. */
export async function savedBytes(vm: Vm, codec = ZSTD_CODEC): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  const sink = {
    write: async (bytes: Uint8Array): Promise<void> => {
      pieces.push(Uint8Array.from(bytes));
      await Promise.resolve();
    },
  };
  await vm.save(sink, { codec });
  const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

export function sourceOf(bytes: Uint8Array): StateSource {
  let at = 0;
  return {
    read: async (length) => {
      const part = bytes.subarray(at, at + length);
      at += part.length;
      return Promise.resolve(part);
    },
  };
}

/** A VM, not yet started, that goes on from `bytes`. */
export async function restoredVm(
  bytes: Uint8Array,
  engine: EngineName = ENGINE,
  disks: readonly Disk[] = [],
): Promise<Vm> {
  return restoreNodeVm({ saved: await openState(sourceOf(bytes), [ZSTD_CODEC]), engine, disks });
}

/** Moves a small program that lives by interrupts (tick-program.ts): its letters follow each other all the way. */
export async function moveTicks(first: EngineName, route: readonly EngineName[]): Promise<void> {
  const options = { memoryBytes: 16 * MIB, kernel: tickProgram(), commandLine: "", engine: first };
  await using guest = await Guest.start(options);
  await guest.expect(/abc/);
  for (const engine of route) {
    await guest.moveTo(async (vm) => restoredVm(await savedBytes(vm), engine));
    const { length } = guest.text;
    while (guest.text.length < length + 4) await guest.expect(/[a-z]/);
  }
  const wanted = Array.from(guest.text, (_, number) => String.fromCharCode(97 + (number % 26))).join("");
  assert.equal(guest.text, wanted);
}

const PROMPT = /root@debian:[^\n]*# /;
const BLOCK_BYTES = 65536;
const BLOCKS = 32;
/** What the disk's first bytes say when the work is to end. */
const STOP = "stop";
/**
 * Lines of two parts, so that most moves happen within a line; a write to the disk in each round; a timer beside; and
 * what is typed ahead. The shell looks at the disk itself, whose first block is the host's to write.
 */
const WORK = [
  "stty -echo; dmesg -n 1",
  "{ (sleep 2; echo timer $(cut -d. -f1 /proc/uptime) > /tmp/timer) & }",
  `i=0; until [ "$(dd if=/dev/vda bs=4 count=1 2>/dev/null)" = ${STOP} ]; do printf 'round %s ' $i`,
  "dd if=/bin/busybox bs=64k count=4 2>/dev/null | md5sum",
  `dd if=/bin/busybox of=/dev/vda bs=64k count=1 seek=$((1 + i % ${BLOCKS})) conv=notrunc,fsync 2>/dev/null`,
  "echo 1 > /proc/sys/vm/drop_caches; i=$((i + 1)); done; wait; cat /tmp/timer; echo end",
].join("; ");

export interface MoveOptions {
  readonly codec?: StateCodec;
  /** Called after each move. */
  readonly moved?: (moves: number) => void;
}

/** Runs work in a Debian guest, moves it to one VM after another meanwhile, and looks at all that it did. */
export async function moveGuest(route: readonly EngineName[], { codec, moved }: MoveOptions = {}): Promise<void> {
  const count = route.length;
  const image = await new ImageStore().open("debian");
  const commandLine = `${image.commandLine} quiet`;
  const directory = mkdtempSync(join(tmpdir(), "isola-moves-"));
  const path = join(directory, "disk.raw");
  try {
    await using disk = await openFileDisk({ path, sizeBytes: BLOCK_BYTES * (BLOCKS + 1) });
    await using guest = await Guest.start({ memoryBytes: 96 * MIB, ...image, commandLine, disks: [disk] });
    await guest.expect(PROMPT);
    guest.type(`${WORK}\n`);
    await guest.expect(/round 1 /);
    for (const [move, engine] of route.entries()) {
      guest.type(`echo typed ${move}\n`);
      const before = guest.vm.stats().guestNanoseconds;
      await guest.moveTo(async (vm) => restoredVm(await savedBytes(vm, codec), engine, [disk]));
      const after = guest.vm.stats().guestNanoseconds;
      assert.ok(after >= before, `the guest's clock went from ${before} to ${after}`);
      await guest.expect(/round \d+ /);
      moved?.(move + 1);
    }
    writeFileSync(path, STOP, { flag: "r+" });
    await guest.expect(/\nend\r\n/);
    await guest.expect(new RegExp(`typed ${count - 1}\r\n`));
    guest.type("cat /proc/uptime; stty echo; poweroff\n");
    assert.deepEqual(await guest.end(), { kind: "power-off" });
    const rounds = check(guest.text, count);
    checkDisk(readFileSync(path), rounds);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** What was printed: every line once and whole. Gives the number of rounds. */
function check(text: string, count: number): number {
  assert.doesNotMatch(text, /(BUG|WARNING|Oops|segfault|traps|rcu[^\n]*stall|clocksource[^\n]*unstable):?/);
  const timers = text.match(/^timer \d+\r$/gm);
  assert.equal(timers?.length, 1);
  const rounds = [...text.matchAll(/round (\d+) ([0-9a-f]{32}) {2}-\r\n/g)];
  assert.deepEqual(
    rounds.map(([, number]) => Number(number)),
    Array.from(rounds, (_, number) => number),
  );
  // Not the echo of what was typed, which says "round %s".
  assert.equal(text.match(/round \d/g)?.length, rounds.length, `a round is broken:\n${text}`);
  assert.equal(new Set(rounds.map(([, , sum]) => sum)).size, 1);
  const typed = [...text.matchAll(/^(?:root@debian:[^\n]*# )?typed (\d+)\r$/gm)].map(([, number]) => Number(number));
  assert.deepEqual(
    typed,
    Array.from({ length: count }, (_, number) => number),
  );
  return rounds.length;
}

/** What was written: the same block in each place that a round came to, nothing in the others. */
function checkDisk(disk: Buffer, rounds: number): void {
  const block = (index: number): Buffer => disk.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
  assert.ok(!block(1).equals(Buffer.alloc(BLOCK_BYTES)));
  for (let index = 1; index <= BLOCKS; index++) {
    const wanted = index <= rounds ? block(1) : Buffer.alloc(BLOCK_BYTES);
    assert.ok(block(index).equals(wanted), `block ${index} after ${rounds} rounds`);
  }
}
