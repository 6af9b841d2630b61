/** Saved states in a test: kept in memory, and gone on with by another VM of this process. */

import assert from "node:assert/strict";
import { restoreNodeVm } from "../../src/fleet/node-vm.ts";
import { ZSTD_CODEC } from "../../src/fleet/saved-file.ts";
import { openState } from "../../src/machine/saved-state/manifest.ts";
import type { StateSource } from "../../src/machine/saved-state/state-file.ts";
import { ImageStore } from "../../src/images/store.ts";
import type { EngineName, Vm } from "../../src/machine/vm-contract.ts";
import { ENGINE, Guest, MIB } from "./guest.ts";

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
export async function restoredVm(bytes: Uint8Array, engine: EngineName = ENGINE): Promise<Vm> {
  return restoreNodeVm({ saved: await openState(sourceOf(bytes), [ZSTD_CODEC]), engine });
}

const PROMPT = /root@debian:[^\n]*# /;
/** Enough for some after the last move. */
const ROUNDS = 40;
/** Lines of two parts, so that most moves happen within a line; a timer beside; and what is typed ahead. */
const WORK = [
  "stty -echo; dmesg -n 1",
  "{ (sleep 2; echo timer $(cut -d. -f1 /proc/uptime) > /tmp/timer) & }",
  `i=0; while [ $i -lt ${ROUNDS} ]; do printf 'round %s ' $i`,
  "dd if=/bin/busybox bs=64k count=4 2>/dev/null | md5sum; i=$((i + 1)); done; cat /tmp/timer; echo end",
].join("; ");

/** Runs work in a Debian guest, moves it to one VM after another meanwhile, and looks at all that it printed. */
export async function moveGuest(route: readonly EngineName[]): Promise<void> {
  const count = route.length;
  const image = await new ImageStore().open("debian");
  const commandLine = `${image.commandLine} quiet`;
  await using guest = await Guest.start({ memoryBytes: 128 * MIB, ...image, commandLine });
  await guest.expect(PROMPT);
  guest.type(`${WORK}\n`);
  await guest.expect(/round 1 /);
  for (const [move, engine] of route.entries()) {
    guest.type(`echo typed ${move}\n`);
    const before = guest.vm.stats().guestNanoseconds;
    await guest.moveTo(async (vm) => restoredVm(await savedBytes(vm), engine));
    const after = guest.vm.stats().guestNanoseconds;
    assert.ok(after >= before, `the guest's clock went from ${before} to ${after}`);
    await guest.expect(/round \d+ /);
  }
  await guest.expect(/\nend\r\n/, 600);
  await guest.expect(new RegExp(`typed ${count - 1}\r\n`));
  guest.type("cat /proc/uptime; stty echo; poweroff\n");
  assert.deepEqual(await guest.end(), { kind: "power-off" });
  check(guest.text, count);
}

function check(text: string, count: number): void {
  assert.doesNotMatch(text, /(BUG|WARNING|Oops|segfault|traps|rcu[^\n]*stall|clocksource[^\n]*unstable):?/);
  const timers = text.match(/^timer \d+\r$/gm);
  assert.equal(timers?.length, 1);
  const rounds = [...text.matchAll(/round (\d+) ([0-9a-f]{32}) {2}-\r\n/g)];
  assert.deepEqual(
    rounds.map(([, number]) => Number(number)),
    Array.from({ length: ROUNDS }, (_, number) => number),
  );
  assert.equal(new Set(rounds.map(([, , sum]) => sum)).size, 1);
  const typed = [...text.matchAll(/^(?:root@debian:[^\n]*# )?typed (\d+)\r$/gm)].map(([, number]) => Number(number));
  assert.deepEqual(
    typed,
    Array.from({ length: count }, (_, number) => number),
  );
}
