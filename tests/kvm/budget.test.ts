/** A budget of processor time on the host's own /dev/kvm: it holds a guest that spins, and lets one be that idles. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createNodeVm } from "../../src/fleet/node-vm.ts";
import { elfOf, multibootHeaderOf } from "../../src/machine/boot/sample-kernels.ts";
import type { Vm } from "../../src/machine/vm-contract.ts";
import { missingKvm } from "./host-kvm.ts";

const MIB = 2 ** 20;
const ORIGIN = 0x10_0000;
const SPIN = [0xeb, 0xfe]; // JMP to itself
const HALT = [0xf4, 0xeb, 0xfd]; // HLT, again and again
const BUDGET = 0.2;

const skip = missingKvm("the tests of a budget on KVM");

async function running(code: readonly number[]): Promise<Vm> {
  const header = multibootHeaderOf(0);
  const contents = Uint8Array.from([...header, ...code]);
  const kernel = elfOf({ bits: 32, entry: ORIGIN + header.length, segments: [{ physical: ORIGIN, contents }] });
  const vm = createNodeVm({ memoryBytes: 16 * MIB, kernel, commandLine: "", engine: "kvm" });
  await vm.start();
  // Once it has stood still its thread has begun.
  await vm.pause();
  vm.resume();
  return vm;
}

test("a guest that spins is held to its budget", { skip, timeout: 60_000 }, async () => {
  const vm = await running(SPIN);
  vm.setCpuBudget(BUDGET);
  while (vm.stats().throttledMs < 200) await sleep(20);
  vm.stop();
  assert.deepEqual(await vm.done, { kind: "stopped" });
});

test("a guest that idles is not brought out to be looked at", { skip, timeout: 60_000 }, async () => {
  const vm = await running(HALT);
  vm.setCpuBudget(1);
  // What starting used is over.
  await sleep(500);
  const { exits } = vm.stats();
  await sleep(1000);
  const more = vm.stats().exits - exits;
  vm.stop();
  assert.deepEqual(await vm.done, { kind: "stopped" });
  assert.ok(more < 20, `${more} exits in a second`);
});
