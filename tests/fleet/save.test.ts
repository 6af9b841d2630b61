/** VMs of a server whose state is saved, and which go on with it: under a new server too, or not at all. */

import assert from "node:assert/strict";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { FleetError } from "../../src/fleet/fleet-error.ts";
import { echoProgram } from "../guests/echo-program.ts";
import { testFleet, VmConsole } from "./fleet-fixture.ts";

const PROMPT = /root@debian:[^\n]*# /;
const BLOCK_BYTES = 4096;

const refused = (code: string, message: RegExp) => (error: unknown) => {
  assert.equal((error as FleetError).code, code);
  assert.match((error as FleetError).message, message);
  return true;
};

test("a saved VM goes on under another server: its lines and its disk's blocks come once, in order", async () => {
  await using place = await testFleet();
  let { fleet } = place;
  const disks = [{ name: "data", sizeBytes: 1024 * BLOCK_BYTES }];
  const { id } = await fleet.create({ name: "one", image: "debian", memoryBytes: "96M", append: "quiet", disks });
  await assert.rejects(fleet.save("one"), refused("illegal-transition", /cannot save one: it is stopped/));
  await fleet.start("one");
  const first = await VmConsole.open(fleet, "one");
  await first.expect(PROMPT);
  const write = "dd if=/bin/busybox of=/dev/vda bs=4k count=1 skip=$i seek=$i conv=notrunc,fsync 2>/dev/null";
  await first.type(
    `stty -echo; i=0; while [ $i -lt 1000 ]; do printf 'line %d ' $i; ${write}; i=$((i+1)); echo .; done\n`,
  );
  await first.expect(/line 20 \.\r\n/);
  const saved = await fleet.save("one");
  assert.deepEqual([saved.state, saved.exit?.kind, saved.saved, saved.pid], ["stopped", "saved", true, null]);
  const before = new TextDecoder().decode(await fleet.log("one"));

  fleet = await place.reopen();
  assert.equal((await fleet.inspect("one")).saved, true);
  const started = await fleet.start("one");
  assert.deepEqual([started.state, started.saved], ["running", false]);
  const second = await VmConsole.open(fleet, "one");
  const last = [...before.matchAll(/line (\d+) \.\r\n/g)].length + 20;
  await second.expect(new RegExp(`line ${last} \\.\r\n`));
  const text = new TextDecoder().decode(await fleet.log("one"));
  assert.ok(text.startsWith(before));
  const lines = [...text.matchAll(/line (\d+) \.\r\n/g)].map(([, number]) => Number(number));
  assert.deepEqual(
    lines,
    Array.from(lines, (_, number) => number),
  );
  await fleet.kill("one");
  const disk = readFileSync(join(place.folder, "disks", id, "data.raw"));
  for (let block = 0; block <= last; block++) {
    const bytes = disk.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
    assert.ok(
      bytes.some((byte) => byte !== 0),
      `block ${block} was not written`,
    );
  }
  assert.equal((await fleet.inspect("one")).saved, false);
});

test("a state that does not fit, or is damaged, is refused with the reason and kept; a cold start drops it", async () => {
  await using place = await testFleet();
  const { fleet } = place;
  const kernel = join(place.folder, "echo-program");
  writeFileSync(kernel, echoProgram(0x501));
  const { id } = await fleet.create({ name: "echo", kernel, memoryBytes: "16M" });
  await fleet.start("echo");
  const console = await VmConsole.open(fleet, "echo");
  await console.expect(/>/);
  await console.type("ab");
  await console.expect(/ab/);
  await fleet.pause("echo");
  assert.equal((await fleet.save("echo")).saved, true);

  await fleet.update("echo", { memoryBytes: "32M" });
  await assert.rejects(fleet.start("echo"), refused("start-failed", /saved state has 16777216 bytes of memory/));
  await fleet.update("echo", { memoryBytes: "16M" });
  const file = join(place.folder, "vms", id, "saved");
  const whole = readFileSync(file);
  truncateSync(file, whole.length - 1);
  await assert.rejects(fleet.start("echo"), refused("start-failed", /it ends in the middle of its memory/));
  assert.deepEqual([(await fleet.inspect("echo")).state, (await fleet.inspect("echo")).saved], ["failed", true]);
  writeFileSync(file, whole);
  await fleet.start("echo");
  const again = await VmConsole.open(fleet, "echo");
  await again.type("cd");
  await again.expect(/cd/);

  assert.equal((await fleet.save("echo")).saved, true);
  assert.equal((await fleet.start("echo", { cold: true })).saved, false);
  const booted = await VmConsole.open(fleet, "echo");
  await booted.expect(/>/);
});
