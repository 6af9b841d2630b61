/** A VM of many processors on the host's own /dev/kvm: their threads begin, stand still, go on and end together. */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { createNodeVm } from "../../src/fleet/node-vm.ts";
import { elfOf, multibootHeaderOf } from "../../src/machine/boot/sample-kernels.ts";
import { missingKvm } from "./host-kvm.ts";

const CPUS = 16;
const MIB = 2 ** 20;
const ORIGIN = 0x10_0000;

const skip = missingKvm(`the test of ${CPUS} processors`, (kvm) => {
  const most = kvm.capability("MAX_VCPUS");
  return most >= CPUS ? undefined : `its VMs have ${most} processors at the most`;
});

/** Writes to port 0x80 again and again; the other processors wait to be started. */
function spinning(): Uint8Array {
  const header = multibootHeaderOf(0);
  const contents = Uint8Array.from([...header, 0xe6, 0x80, 0xeb, 0xfc]);
  return elfOf({ bits: 32, entry: ORIGIN + header.length, segments: [{ physical: ORIGIN, contents }] });
}

test(`a VM of ${CPUS} processors is paused, goes on, and leaves nothing behind`, {
  skip,
  timeout: 120_000,
}, async () => {
  const descriptors = () => readdirSync("/proc/self/fd").length;
  const before = descriptors();
  const vm = createNodeVm({ memoryBytes: 16 * MIB, kernel: spinning(), commandLine: "", engine: "kvm", cpus: CPUS });
  await vm.start();
  const exits = async (above: number): Promise<number> => {
    for (;;) {
      const { exits: now } = vm.stats();
      if (now > above) return now;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  for (let round = 0; round < 3; round++) {
    await vm.pause();
    const { exits: still } = vm.stats();
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(vm.stats().exits, still);
    vm.resume();
    // What a pause brought out counts as exits of all processors.
    await exits(still + CPUS - 1);
  }
  vm.stop();
  assert.deepEqual(await vm.done, { kind: "stopped" });
  // Node keeps a few of its own once it has had a worker; each processor would leave one more.
  assert.ok(descriptors() <= before + 4, `${descriptors()} descriptors, ${before} before`);
});
