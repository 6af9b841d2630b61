/** VMs as processes of their own: their life, their walls, and what a server's end leaves of them. */

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { FleetError } from "../../src/fleet/fleet-error.ts";
import { vmUuid } from "../../src/fleet/vm-spawn.ts";
import { screenProgram } from "../guests/screen-program.ts";
import { eventually, testFleet, VmConsole } from "./fleet-fixture.ts";

const PROMPT = /root@debian:[^\n]*# /;
const DEBIAN = { image: "debian", memoryBytes: "96M", append: "quiet" } as const;

const refused = (code: string, message: RegExp) => (error: unknown) => {
  assert.equal((error as FleetError).code, code);
  assert.match((error as FleetError).message, message);
  return true;
};

test("a VM from its making to its removal, over a server's restart", async () => {
  await using place = await testFleet();
  let { fleet } = place;
  const created = await fleet.create({ name: "one", ...DEBIAN });
  assert.equal(created.state, "stopped");
  await assert.rejects(fleet.create({ name: "one", ...DEBIAN }), refused("name-taken", /one is taken/));
  await assert.rejects(fleet.pause("one"), refused("illegal-transition", /cannot pause one: it is stopped/));
  await assert.rejects(fleet.inspect("none"), refused("not-found", /no VM "none"/));

  const started = await fleet.start("one");
  assert.equal(started.state, "running");
  assert.ok(started.pid !== null && started.pid > 0);
  assert.equal((await fleet.start("one")).pid, started.pid);
  const watcher = await VmConsole.open(fleet, "one");
  const other = await VmConsole.open(fleet, "one");
  await watcher.expect(PROMPT);
  await watcher.type("echo $((6 * 7))-first\n");
  await watcher.expect(/\n42-first\r\n/);
  await other.expect(/\n42-first\r\n/);

  assert.equal((await fleet.pause("one")).state, "paused");
  assert.equal((await fleet.pause("one")).state, "paused");
  await assert.rejects(fleet.start("one"), refused("illegal-transition", /it is paused.*resumed/));
  assert.equal((await fleet.resume("one")).state, "running");

  // A new server finds it as it was, with its console's last output.
  await fleet.rename("one", "first");
  fleet = await place.reopen();
  await eventually("the VM is found again", async () => (await fleet.inspect("first")).responsive);
  const found = await fleet.inspect("first");
  assert.deepEqual([found.state, found.pid, found.id], ["running", started.pid, started.id]);
  const again = await VmConsole.open(fleet, "first");
  await again.expect(/\n42-first\r\n/);
  await again.type("echo $((6 * 8))-second\n");
  await again.expect(/\n48-second\r\n/);

  const stopped = await fleet.stop("first", { graceSeconds: 60 });
  assert.equal(stopped.state, "stopped");
  assert.equal(stopped.exit?.kind, "power-off");
  assert.match(new TextDecoder().decode(await fleet.log("first")), /48-second[\s\S]*Power down/);
  assert.equal((await fleet.stop("first")).state, "stopped");
  await fleet.remove("first");
  assert.deepEqual(await fleet.list(), []);
  const kinds = (await fleet.events()).map(({ kind }) => kind).filter((kind) => kind !== "operation");
  for (const kind of ["vm.created", "vm.state", "vm.renamed", "vm.removed"])
    assert.ok(kinds.includes(kind as never), kind);
});

test("a VM's process has the walls that inspect names", async () => {
  await using place = await testFleet();
  const { fleet } = place;
  await fleet.create({ name: "walled", ...DEBIAN, cpu: { capPercent: 50 } });
  const { pid, confinement } = await fleet.start("walled");
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const enforced = (name: string): boolean => confinement.find((one) => one.name === name)?.enforced === true;
  assert.ok(enforced("no-new-privileges"));
  assert.match(status, /^NoNewPrivs:\t1$/m);
  const uid = Number(/^Uid:\t(\d+)/m.exec(status)?.[1]);
  assert.equal(uid !== process.getuid?.(), enforced("own-uid"));
  if (enforced("own-uid")) assert.match(status, /^CapEff:\t0+$/m);
  await fleet.kill("walled");
  const { state, exit } = await fleet.inspect("walled");
  assert.deepEqual([state, exit?.kind], ["stopped", "killed"]);
});

test("a program that knows only screen and keyboard is seen, typed to, and types on after a reset", async () => {
  await using place = await testFleet();
  const { fleet } = place;
  const kernel = join(place.folder, "screen-program");
  writeFileSync(kernel, screenProgram(0x501));
  await fleet.create({ name: "bare", kernel, memoryBytes: "16M" });
  assert.equal(await fleet.screen("bare"), null);
  await assert.rejects(fleet.pressKeys("bare", { keys: ["a"] }), refused("illegal-transition", /has no keyboard/));
  await fleet.start("bare");
  const shows = (line: string): Promise<void> =>
    eventually(`the screen shows ${line}`, async () => (await fleet.screen("bare"))?.lines[0] === line);
  await shows("keys:");
  await fleet.pressKeys("bare", { text: "aB" });
  await fleet.pressKeys("bare", { keys: ["f1"] });
  await shows("keys: 1e 2a 30 3b");
  assert.ok((await fleet.screen("bare"))?.painted[0]?.startsWith("\x1b[0;97;44mkeys: 1e"));
  await fleet.reset("bare");
  await shows("keys:");
  await fleet.pressKeys("bare", { keys: ["z"] });
  await shows("keys: 2c");
  // Whoever looks while it ends sees that it is off.
  const looked = (async (): Promise<void> => {
    while ((await fleet.screen("bare")) !== null);
  })();
  await Promise.all([looked, fleet.kill("bare")]);
});

test("a server that ends while it still looks for its VMs hears no more of them", async () => {
  await using place = await testFleet();
  const kernel = join(place.folder, "screen-program");
  writeFileSync(kernel, screenProgram(0x501));
  await place.fleet.create({ name: "bare", kernel, memoryBytes: "16M" });
  const starting = place.fleet.start("bare").catch(() => undefined);
  await eventually("it has a process", async () => (await place.fleet.inspect("bare")).pid !== null);
  // Each of these finds it starting, and is gone before it can have asked it.
  for (let round = 0; round < 5; round++) await place.reopen();
  await starting;
  await eventually("it runs", async () => (await place.fleet.inspect("bare")).state === "running");
});

test("a server that ends while it starts what is to start leaves that to the next one", async () => {
  await using place = await testFleet();
  const kernel = join(place.folder, "screen-program");
  writeFileSync(kernel, screenProgram(0x501));
  await place.fleet.create({ name: "bare", kernel, memoryBytes: "16M", autostart: true });
  // Each ends at another moment of the start; what it still had to write down it cannot any more.
  for (const ms of [0, 1, 20, 100]) {
    await place.reopen();
    await new Promise((resolve) => setTimeout(resolve, ms));
  }
  await place.reopen();
  await eventually("it runs", async () => (await place.fleet.inspect("bare")).state === "running");
});

test("a VM that is being made is not there for anything else", async () => {
  await using place = await testFleet();
  const { fleet } = place;
  const making = fleet.create({ name: "new", ...DEBIAN, disks: [{ name: "data", sizeBytes: "1M" }] });
  await assert.rejects(fleet.remove("new"), refused("illegal-transition", /cannot remove new: it is being created/));
  await assert.rejects(fleet.start("new"), refused("illegal-transition", /cannot start new: it is being created/));
  assert.equal((await making).state, "stopped");
  await fleet.remove("new");
});

test("a process that is killed is a failure, and the policy starts the VM again", async () => {
  await using place = await testFleet();
  const { fleet } = place;
  await fleet.create({ name: "back", ...DEBIAN, restart: { policy: "on-failure" } });
  await fleet.create({ name: "gone", ...DEBIAN });
  const [back, gone] = [await fleet.start("back"), await fleet.start("gone")];
  process.kill(back.pid ?? 0, "SIGKILL");
  process.kill(gone.pid ?? 0, "SIGKILL");
  await eventually("the VM without a policy has failed", async () => (await fleet.inspect("gone")).state === "failed");
  assert.match((await fleet.inspect("gone")).exit?.message ?? "", /SIGKILL/);
  await eventually("the other VM runs again", async () => {
    const { state, pid } = await fleet.inspect("back");
    return state === "running" && pid !== back.pid;
  });
  assert.equal((await fleet.inspect("back")).restarts, 1);
});

test("a VM has the processor, the words about its machine and the disk's rate that it was given", async () => {
  await using place = await testFleet();
  const { fleet } = place;
  const disks = [{ name: "data", sizeBytes: "16M", bytesPerSecond: "1M" }];
  const firmware = { smbios: { serial: "ds=nocloud" } };
  const { id } = await fleet.create({
    name: "slow",
    ...DEBIAN,
    disks,
    firmware,
    cpu: { model: "x86-64-v2,+aes,-rdrand" },
  });
  await fleet.start("slow");
  const guest = await VmConsole.open(fleet, "slow");
  await guest.expect(PROMPT);
  await guest.type("grep -o -w -e aes -e rdrand -e sha_ni /proc/cpuinfo; echo only-$((6 * 7))\n");
  const [, features] = await guest.expect(/\r\n([a-z_\r\n]*)only-42\r\n/);
  assert.equal(features?.trim(), "aes");
  // What the guest's own kernel made of the tables.
  await guest.type("cd /sys/class/dmi/id && cat sys_vendor product_serial product_uuid; echo dmi-$((6 * 7))\n");
  const [, machine] = await guest.expect(/\r\n(isola\r\n[^$]*)dmi-42\r\n/);
  assert.deepEqual(machine?.trim().split("\r\n"), ["isola", "ds=nocloud", vmUuid(id)]);
  // 4 MiB at 1 MiB/s, less the burst: on no host faster, by the guest's own clock.
  await guest.type("time dd if=/dev/zero of=/dev/vda bs=64k count=64 oflag=direct\n");
  const [, minutes, seconds] = await guest.expect(/real\s+(\d+)m ?([\d.]+)s/);
  assert.ok(Number(minutes) * 60 + Number(seconds) > 3.5, `${minutes} min ${seconds} s`);
});

test("what does not fit is refused with what is free and who holds the rest", async () => {
  await using place = await testFleet({ memoryBytes: 400 * 2 ** 20, diskBytes: 2 ** 30 });
  const { fleet } = place;
  await fleet.create({ name: "holder", ...DEBIAN, memoryBytes: "192M", disks: [{ name: "data", sizeBytes: "800M" }] });
  const big = { name: "big", ...DEBIAN, memoryBytes: "128M" };
  await assert.rejects(
    fleet.create({ ...big, disks: [{ name: "data", sizeBytes: "300M" }] }),
    refused("no-resources", /asks for 300M of disk space, 224M of 1G is free.*holder 800M/),
  );
  await fleet.create(big);
  await fleet.start("holder");
  await assert.rejects(
    fleet.start("big"),
    refused("no-resources", /asks for 201\.4M.*121\.8M of 400M is free.*holder 278\.2M/),
  );
  await fleet.putProject("small", { vms: 0 });
  await assert.rejects(fleet.create({ ...big, name: "more", project: "small" }), refused("quota-exceeded", /0 of 0/));
  await assert.rejects(fleet.create({ name: "a/b", ...DEBIAN }), refused("invalid-spec", /name: wanted/));
  await assert.rejects(fleet.create({ name: "x" }), refused("invalid-spec", /neither image nor kernel/));
  await assert.rejects(fleet.update("holder", { memoryBytes: "96M" }), refused("illegal-transition", /stop it first/));
  assert.equal((await fleet.update("holder", { cpu: { shares: 2048 } })).spec.cpu.shares, 2048);
  const { memory, disk } = await fleet.host();
  assert.equal(memory.reservedBytes, Math.ceil(278.2 * 2 ** 20));
  assert.equal(disk.grantedBytes, 800 * 2 ** 20);
});

test("a disk keeps what the guest was told is durable, after its process was killed", async () => {
  await using place = await testFleet();
  const { fleet } = place;
  await fleet.create({ name: "keeper", ...DEBIAN, disks: [{ name: "data", sizeBytes: "8M" }] });
  const { pid, confinement } = await fleet.start("keeper");
  assert.equal(
    confinement.find(({ name }) => name === "landlock")?.enforced,
    (await fleet.host()).confinement.find(({ name }) => name === "landlock")?.enforced,
  );
  const first = await VmConsole.open(fleet, "keeper");
  await first.expect(PROMPT);
  await first.type(
    "mke2fs -q /dev/vda && mount /dev/vda /mnt && echo kept-$((6 * 7)) >/mnt/file && sync && echo is-$((40 + 2))\n",
  );
  await first.expect(/\nis-42\r\n/);
  process.kill(pid ?? 0, "SIGKILL");
  await eventually("the VM has failed", async () => (await fleet.inspect("keeper")).state === "failed");
  await fleet.start("keeper");
  const second = await VmConsole.open(fleet, "keeper");
  await second.expect(PROMPT);
  await second.type("mount /dev/vda /mnt && cat /mnt/file\n");
  await second.expect(/\nkept-42\r\n/);
  assert.ok((await fleet.inspect("keeper")).disk.used > 0);
});
