/**
 * A VM beside hostile ones: before, while and after each of them does its worst, the VM's checksums are right, its work
 * for a second of its processor time stays what it was, and its console answers. Prints all three.
 *
 *   node tests/long/fleet/neighbours.ts [--seconds 20] [--only NAME]
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Fleet } from "../../../src/fleet/contract.ts";
import type { VmConsole } from "../../fleet/fleet-fixture.ts";
import { ask, bootDebian, processorTime, withFleet } from "./guests.ts";
import { floodingKernel, spinningKernel, writingKernel } from "./hostile-kernels.ts";

const MIB = 2 ** 20;
const KERNEL_BYTES = 64 * MIB;
/** Work for its own processor time that a VM keeps at the least; caches and the host's cores are shared. */
const KEPT = 0.75;
const PATIENCE_SECONDS = 60;
const ASKED = 10;
const SETTLE_MS = 3000;
/** V8 optimises the engine's code meanwhile: without that the first figures are low. */
const WARM_MS = 30_000;
const BLOCK = Buffer.alloc(512 * 1024);
const SUM = createHash("sha256").update(BLOCK).digest("hex");

/** Counts rounds whose checksum is right in /tmp/n; says so where one is not. */
const WORK =
  `n=0; while :; do s=$(head -c ${BLOCK.length} /dev/zero | sha256sum); ` +
  `[ "\${s%% *}" = ${SUM} ] || echo wrong-$((1 + 1)); n=$((n + 1)); echo $n >/tmp/n; done &`;

type Begin = (fleet: Fleet, folder: string) => Promise<void>;
const bare =
  (code: Uint8Array): Begin =>
  async (fleet, folder) => {
    const kernel = join(folder, "kernel");
    writeFileSync(kernel, code);
    await fleet.create({ name: "hostile", kernel, memoryBytes: KERNEL_BYTES, engine: "wasm" });
    await fleet.start("hostile");
  };
const inDebian =
  (command: string, more: object = {}): Begin =>
  async (fleet) => {
    const console = await bootDebian(fleet, "hostile", { engine: "wasm", ...more });
    await console.type(`${command}\n`);
  };

const HOSTILE: Readonly<Record<string, Begin>> = {
  "writes everywhere": bare(writingKernel(KERNEL_BYTES)),
  "floods devices": bare(floodingKernel()),
  "forks without end": inDebian("while :; do sh -c 'while :; do :; done' & done"),
  "spins with interrupts off": bare(spinningKernel()),
  "fills its disk": inDebian(
    "mke2fs -q /dev/vda && mount /dev/vda /mnt && while :; do cat /dev/zero >/mnt/$((n = n + 1)); sync; rm /mnt/*; done",
    { disks: [{ name: "data", sizeBytes: "64M" }] },
  ),
};

const { values } = parseArgs({ options: { seconds: { type: "string", default: "20" }, only: { type: "string" } } });

interface Measured {
  /** Rounds of work for a second of the VM's own processor time. */
  readonly rate: number;
  /** Times that answers took, ms. */
  readonly latencies: readonly number[];
}

async function measure(console: VmConsole, pid: number): Promise<Measured> {
  const rounds = async (): Promise<number> => {
    await console.type("echo n=$(cat /tmp/n)=\n");
    return Number((await console.expect(/\nn=(\d+)=\r\n/, PATIENCE_SECONDS))[1]);
  };
  const [before, used] = [await rounds(), processorTime(pid)];
  const latencies: number[] = [];
  for (let i = 0; i < ASKED; i++) {
    await sleep((Number(values.seconds) * 1000) / ASKED);
    latencies.push(await ask(console, i, PATIENCE_SECONDS));
  }
  const [after, usedAfter] = [await rounds(), processorTime(pid)];
  assert.doesNotMatch(console.text, /wrong-2/);
  return { rate: (after - before) / ((usedAfter - used) / 1e9), latencies };
}

function show(name: string, { rate, latencies }: Measured, base: Measured): void {
  const sorted = latencies.toSorted((a, b) => a - b);
  const part = ((rate / base.rate) * 100).toFixed(0);
  console.log(
    `${name}: ${rate.toFixed(2)} checksums a second of its time (${part} %), ` +
      `answers in ${sorted[ASKED >> 1]?.toFixed(0)} ms, longest ${sorted.at(-1)?.toFixed(0)} ms`,
  );
}

const folder = mkdtempSync(join(tmpdir(), "isola-neighbours-"));
try {
  await withFleet({}, async (fleet) => {
    const neighbour = await bootDebian(fleet, "neighbour", { engine: "wasm" });
    await neighbour.type(`${WORK}\n`);
    const pid = (await fleet.inspect("neighbour")).pid ?? 0;
    await sleep(WARM_MS);
    const base = await measure(neighbour, pid);
    show("before", base, base);
    for (const [name, begin] of Object.entries(HOSTILE)) {
      if (values.only !== undefined && values.only !== name) continue;
      await begin(fleet, folder);
      await sleep(SETTLE_MS);
      const during = await measure(neighbour, pid);
      show(`beside one that ${name}`, during, base);
      // What it does is its own: the hostile VM is steered as any other.
      await fleet.kill("hostile");
      await fleet.remove("hostile");
      assert.ok(during.rate > base.rate * KEPT, `${name}: ${during.rate}, it was ${base.rate}`);
    }
    const after = await measure(neighbour, pid);
    show("after", after, base);
    assert.ok(after.rate > base.rate * KEPT, `after: ${after.rate}, it was ${base.rate}`);
    const { state, guest, restarts } = await fleet.inspect("neighbour");
    assert.deepEqual({ state, resets: guest.resets, restarts }, { state: "running", resets: 0, restarts: 0 });
  });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
