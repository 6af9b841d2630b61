/**
 * VMs of a server on the engine kvm, on the host's own /dev/kvm: a program that every KVM runs. Whole systems: see
 * tests/nested/fleet.test.ts.
 */

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { kvmReport } from "../../src/fleet/engine-choice.ts";
import { multibootProgram } from "../guests/multiboot-program.ts";
import { eventually, testFleet } from "./fleet-fixture.ts";

const { maxCpus, reason } = kvmReport();
const skip = maxCpus === undefined ? (reason ?? "no /dev/kvm") : false;
if (skip !== false) console.log(`KVM tests of the fleet not run: ${skip}`);

test("two VMs run on KVM by descriptors that they were handed; their walls and their engine are told", {
  skip,
}, async () => {
  await using place = await testFleet();
  const { fleet, folder } = place;
  const kernel = join(folder, "kernel");
  writeFileSync(kernel, multibootProgram());
  const names = ["one", "two"];
  for (const name of names) {
    await fleet.create({ name, kernel, memoryBytes: "32M", engine: "kvm", rebootOnReset: false });
  }
  const [started] = await Promise.all(names.map((name) => fleet.start(name)));
  assert.ok(started !== undefined);
  assert.equal(started.engine, "kvm");
  const wall = (name: string) => started.confinement.find((one) => one.name === name);
  assert.deepEqual([wall("no-native-calls")?.enforced, wall("node-permissions")?.enforced], [false, false]);
  const kernelWalls = ["no-new-privileges", "landlock", "own-uid"];
  const host = await fleet.host();
  for (const name of kernelWalls) {
    assert.equal(wall(name)?.enforced, host.confinement.find((one) => one.name === name)?.enforced, name);
  }
  for (const name of names) {
    await eventually(`the end of ${name}`, async () => (await fleet.inspect(name)).state === "stopped");
    assert.equal((await fleet.inspect(name)).exit?.kind, "reset");
    assert.match(new TextDecoder().decode(await fleet.log(name)), /^2badb002 0000024d/);
  }
});
