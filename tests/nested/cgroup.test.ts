/**
 * Control groups of a server's VMs, by the kernel of a host whose controllers are isola's
 * (tests/long/nested-parts.ts). Guests here are a few instructions: the host is what is judged.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { hostView, takeDelegation } from "../../src/fleet/cgroup-delegation.ts";
import type { Fleet, VmStatus } from "../../src/fleet/contract.ts";
import { groupCpu, groupMemoryBytes, VmGroup, VmGroups } from "../../src/fleet/vm-group.ts";
import { vmSpecSchema } from "../../src/fleet/vm-spec.ts";
import { ffi } from "../../src/sys/ffi.ts";
import { kernel } from "../fleet/canary-kernels.ts";
import { eventually as within, testFleet, type TestFleet } from "../fleet/fleet-fixture.ts";
import { pause } from "../guests/transcript.ts";

/** The host is emulated, and slow where the one that emulates it is busy. */
const PATIENCE_SECONDS = Number(process.env["ISOLA_TEST_PATIENCE"] ?? 60);
const eventually = (what: string, check: () => Promise<boolean>): Promise<void> =>
  within(what, check, PATIENCE_SECONDS);

const ROOT = "/sys/fs/cgroup";
const DELEGATED = process.env["ISOLA_CGROUP"] ?? "";
/** Of the last period of a measurement, which the kernel accounts for when it ends; in percent of a processor. */
const ROUNDING_PERCENT = 2;

const idle = kernel((asm) => asm.label("on").emit("HLT").emit("JMP", "on"));
const spinning = kernel((asm) => asm.emit("CLI").label("on").emit("JMP", "on"));

const read = (...path: string[]): string => readFileSync(join(...path), "utf8").trim();
const stat = (folder: string, name: string): number =>
  Number(new RegExp(`^${name} (\\d+)$`, "m").exec(read(folder, "cpu.stat"))?.[1] ?? Number.NaN);
const groupsIn = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isDirectory() && /^[0-9a-f]{16}-/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name));

/** The group of a VM's process, as the kernel tells it; the same as `inspect` names. */
function groupOf({ pid, confinement }: VmStatus): string {
  const own = /^0::(.*)$/m.exec(read("/proc", String(pid), "cgroup"))?.[1] ?? "";
  const wall = confinement.find(({ name }) => name === "cgroup-v2");
  assert.deepEqual(wall, { name: "cgroup-v2", enforced: true, detail: `in ${ROOT}${own}` });
  return `${ROOT}${own}`;
}

/** Percent of a processor that a group uses over `seconds`. */
async function usedPercent(folder: string, seconds: number): Promise<number> {
  const [used, at] = [stat(folder, "usage_usec"), performance.now()];
  await pause(seconds * 1000);
  return (stat(folder, "usage_usec") - used) / (performance.now() - at) / 10;
}

async function make(
  { fleet, folder }: TestFleet,
  name: string,
  contents: Uint8Array,
  more: Parameters<Fleet["create"]>[0],
): Promise<string> {
  const path = join(folder, `kernel-${name}`);
  writeFileSync(path, contents);
  await fleet.create({ memoryBytes: "16M", ...more, name, kernel: path });
  return groupOf(await fleet.start(name));
}

test("each VM is in a group with its limits, on both engines; a new server finds them; none is left", async () => {
  await using place = await testFleet();
  const wall = (await place.fleet.host()).confinement.find(({ name }) => name === "cgroup-v2");
  assert.equal(wall?.detail, `a group for each VM below ${DELEGATED}: cpu, memory, pids`);
  const cap = 20;
  const capped = await make(place, "capped", spinning, { engine: "kvm", cpu: { capPercent: cap, shares: 512 } });
  const other = await make(place, "other", idle, { engine: "wasm" });
  const { fleet } = place;
  const { pid, spec } = await fleet.inspect("capped");
  assert.equal(read(other, "cgroup.procs"), String((await fleet.inspect("other")).pid));
  // Here with threads of the kernel's own that serve this VM's KVM: what they use counts as the VM's.
  assert.ok(read(capped, "cgroup.procs").split("\n").includes(String(pid)));
  assert.equal(read(capped, "memory.max"), String(groupMemoryBytes(spec)));
  assert.equal(read(capped, "memory.oom.group"), "1");
  assert.match(read(capped, "pids.max"), /^\d+$/);
  assert.deepEqual([read(capped, "cpu.weight"), read(other, "cpu.weight")], ["50", "100"]);
  assert.deepEqual([read(capped, "cpu.max"), read(other, "cpu.max")], ["22000 100000", "max 100000"]);
  // The kernel's ceiling holds at once; below it isola holds the guest to its cap, once what its start took is paid back.
  const used = await usedPercent(capped, 10);
  assert.ok(used <= cap * 1.1 + ROUNDING_PERCENT, `it used ${used} % of a processor`);
  await eventually("the cap", async () => (await usedPercent(capped, 10)) <= cap * 1.03);
  const peaks = [capped, other].map((group) => read(group, "memory.peak"));
  console.log(`memory at its most: ${peaks.join(", ")} bytes`);

  await fleet.update("capped", { cpu: { capPercent: 50, shares: 2048 } });
  assert.deepEqual([read(capped, "cpu.max"), read(capped, "cpu.weight")], ["55000 100000", "200"]);

  const left = join(dirname(capped), "0123456789abcdef-00000000");
  mkdirSync(left);
  const next = await place.reopen();
  assert.deepEqual(groupsIn(dirname(capped)).sort(), [capped, other].sort());
  assert.equal(groupOf(await next.inspect("capped")), capped);
  await eventually("its answer", async () => (await next.inspect("other")).responsive);
  await next.update("other", { cpu: { capPercent: 10 } });
  assert.equal(read(other, "cpu.max"), "11000 100000");

  await next.kill("capped");
  await eventually("the end of its group", async () => !groupsIn(DELEGATED).includes(capped));
  await next.stop("other", { graceSeconds: 0 });
  await eventually("the end of all groups", async () => groupsIn(DELEGATED).length === 0);
});

test("a VM's process beyond its memory dies alone, and it is told why", async () => {
  await using place = await testFleet();
  const greedy = await make(place, "greedy", idle, { engine: "kvm" });
  await make(place, "neighbour", idle, { engine: "kvm" });
  const { fleet } = place;
  const { pid } = await fleet.inspect("neighbour");
  // Less than it holds already: the kernel finds nothing to take back.
  writeFileSync(join(greedy, "memory.max"), String(20 * 2 ** 20));
  await eventually("its end", async () => (await fleet.inspect("greedy")).state === "failed");
  const { exit } = await fleet.inspect("greedy");
  assert.equal(exit?.kind, "process-lost");
  assert.match(exit?.message ?? "", /was ended by the host: it went beyond 20M of memory/);
  const neighbour = await fleet.inspect("neighbour");
  assert.deepEqual([neighbour.state, neighbour.pid], ["running", pid]);
  await eventually("the end of its group", async () => !groupsIn(DELEGATED).includes(greedy));
  groupOf(await fleet.start("greedy"));
});

test("native code that keeps to nothing is held: processor time, memory, threads; all of it ends at once", async () => {
  const groups = new VmGroups({ folder: DELEGATED, controllers: ["cpu", "memory", "pids"] }, "/hostile");
  const cap = 20;
  const spec = vmSpecSchema.parse({ name: "hostile", image: "debian", memoryBytes: "16M", cpu: { capPercent: cap } });
  const run = (script: string) => {
    const group = groups.make("0123456789abcdef", spec);
    const child = spawn(process.execPath, ["-e", script], { stdio: "ignore" });
    group.admit(child.pid ?? 0);
    return { group, child, ended: once(child, "exit") as Promise<[number | null, string | null]> };
  };

  const spinner = run(`require("node:child_process").spawn(process.execPath, ["-e", "for(;;);"], { detached: true });
    for (;;);`);
  const cpu = groupCpu(spec, undefined, 1);
  await eventually("two processes", async () => read(spinner.group.path, "cgroup.procs").split("\n").length === 2);
  spinner.group.share(cpu);
  const used = await usedPercent(spinner.group.path, 10);
  assert.ok(used <= (cpu.ceilingPercent ?? 0) + ROUNDING_PERCENT, `it used ${used} % of a processor`);
  assert.ok(stat(spinner.group.path, "nr_throttled") > 0);
  assert.equal(await spinner.group.remove(), true);
  assert.deepEqual(await spinner.ended, [null, "SIGKILL"]);

  const eater = run("const all = []; for (;;) all.push(Buffer.alloc(2 ** 24, 1));");
  assert.deepEqual(await eater.ended, [null, "SIGKILL"]);
  assert.match(eater.group.outOfMemory() ?? "", /went beyond/);
  assert.equal(await eater.group.remove(), true);

  const forker =
    run(`const { Worker } = require("node:worker_threads"); const { spawn } = require("node:child_process");
    setInterval(() => spawn(process.execPath, ["-e", "for(;;);"]).on("error", () => undefined), 1);`);
  const most = Number(read(forker.group.path, "pids.max"));
  await eventually("its limit of threads", async () => /^max [1-9]/m.test(read(forker.group.path, "pids.events")));
  assert.ok(Number(read(forker.group.path, "pids.current")) <= most);
  assert.equal(await forker.group.remove(), true);
  rmdirSync(groups.folder);
});

test("a server in a group that carries systemd's mark moves itself to a leaf; without the mark it touches nothing", async () => {
  const service = join(ROOT, "isola.service");
  mkdirSync(service);
  writeFileSync(join(service, "cgroup.procs"), String(process.pid));
  try {
    const found = takeDelegation(undefined);
    assert.deepEqual(found, { reason: `${service} is not delegated to the server` });
    assert.deepEqual([read(service, "cgroup.subtree_control"), groupNames(service)], ["", []]);
    mark(service);
    assert.ok(hostView().marked(service));
    assert.deepEqual(takeDelegation(undefined), { folder: service, controllers: ["cpu", "memory", "pids"] });
    assert.equal(read("/proc/self/cgroup"), "0::/isola.service/server");
    // As a server does that is started again where this one is.
    assert.deepEqual(takeDelegation(undefined), { folder: service, controllers: ["cpu", "memory", "pids"] });
    await using place = await testFleet({ cgroup: service });
    const group = await make(place, "one", idle, { engine: "kvm" });
    assert.ok(group.startsWith(`${service}/isola-`));
    await place.fleet.kill("one");
    await eventually("the end of its group", async () => groupsIn(service).length === 0);
  } finally {
    writeFileSync(join(ROOT, "cgroup.procs"), String(process.pid));
    for (const name of groupNames(service)) assert.equal(await new VmGroup(join(service, name)).remove(), true);
    rmdirSync(service);
  }
});

const groupNames = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);

/** As systemd does it for a unit with Delegate=yes. */
function mark(folder: string): void {
  const types = { arguments: ["string", "string", "string", "uint64", "int32"], return: "int32" } as const;
  // SAFETY: the signature is glibc's; the kernel reads one byte of the value during the call.
  const { functions } = ffi().dlopen("libc.so.6", { setxattr: types });
  assert.equal(functions.setxattr(folder, "user.delegate", "1", 1n, 0), 0);
}
