/**
 * Kills servers, VMs' processes and both at random moments of random operations, and looks what is left: the next
 * server's record agrees with reality, no process is left that it does not know, no VM is half made or half removed, and
 * what was answered stays true. One of the VMs writes its disk all the while: after its process was killed the file
 * system is whole, and holds all that the guest was told is durable.
 *
 *   node tests/long/fleet/faults.ts --seed 1 --count 200
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Fleet, VmStatus } from "../../../src/fleet/contract.ts";
import { openFleet } from "../../../src/fleet/fleet-server.ts";
import { isActive } from "../../../src/fleet/fleet-status.ts";
import { diskPath, VM_FILES } from "../../../src/fleet/vm-spawn.ts";
import { checkDisk, durable, makeFileSystem, WRITER, writerSpec } from "./disk-writer.ts";
import { idleKernel } from "./idle-kernel.ts";

const { values } = parseArgs({
  options: { seed: { type: "string", default: "1" }, count: { type: "string", default: "200" } },
});
const count = Number(values.count);
let seed = Number(values.seed) >>> 0;
const random = (below: number): number => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
};

const SERVER = fileURLToPath(new URL("fault-server.ts", import.meta.url));
const LONGEST_LIFE_MS = 4000;
const SETTLE_MS = 60_000;
const folder = mkdtempSync(join(tmpdir(), "isola-faults-"));
const kernel = join(folder, "kernel");
writeFileSync(kernel, idleKernel());
const state = join(folder, "state");

/** VMs' processes on this host that have a file of this run's state folder open. */
function processes(): number[] {
  return readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      if (!/vm-process|vm-launcher|isola-vm/.test(command)) return [];
      const files = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      return files.some((file) => file.startsWith(`${state}/`)) ? [pid] : [];
    } catch {
      return [];
    }
  });
}

/** What the servers said that holds. */
const created = new Set<string>();
const removed = new Set<string>();
const inRemoval = new Set<string>();

/** The VM that writes its disk: its id, what it said is durable, and how much of that was said before its last kill. */
const writer = { id: "", durable: new Set<number>(), before: 0, checks: 0 };

async function makeWriter(): Promise<void> {
  const fleet = await openFleet({ stateFolder: state });
  writer.id = (await fleet.create(await writerSpec(folder))).id;
  created.add(writer.id);
  makeFileSystem(diskPath(join(state, "disks", writer.id), "data"));
  await fleet.close();
}

/** Reads what it said; where it does not run, looks whether its disk holds that. */
async function checkWriter(fleet: Fleet): Promise<void> {
  for (const number of durable(new TextDecoder().decode(await fleet.log(WRITER)))) writer.durable.add(number);
  if (isActive((await fleet.inspect(WRITER)).state)) return;
  if (writer.durable.size > writer.before) writer.checks++;
  writer.before = writer.durable.size;
  checkDisk(diskPath(join(state, "disks", writer.id), "data"), writer.durable);
}

/** It is not killed while it only boots: it would never get to write. */
function writes(pid: number): boolean {
  const log = readFileSync(join(state, "vms", writer.id, "console.log"));
  if (!readlinkSync(`/proc/${pid}/fd/6`).includes(writer.id)) return true;
  return (durable(log.toString("latin1")).at(-1) ?? 0) > Math.max(0, ...writer.durable);
}

async function startServer(): Promise<ChildProcess> {
  const child = spawn(process.execPath, [SERVER, state, kernel, String(random(2 ** 31))], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const opened = Promise.withResolvers<void>();
  child.once("exit", (status, signal) => {
    if (signal !== "SIGKILL") opened.reject(new Error(`the server ended by itself: status ${status}`));
    if (signal !== "SIGKILL") process.exitCode = 1;
  });
  createInterface({ input: child.stdout }).on("line", (text) => {
    const line = JSON.parse(text) as { open?: boolean; created?: string; removing?: string; removed?: string };
    if (line.open === true) opened.resolve();
    if (line.created !== undefined) created.add(line.created);
    if (line.removing !== undefined) inRemoval.add(line.removing);
    if (line.removed !== undefined) removed.add(line.removed);
  });
  // Some are killed while they open the folder.
  if (random(8) === 0) return child;
  await opened.promise;
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) throw new Error("the server ended by itself");
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  child.kill("SIGKILL");
  await closed;
}

/**
 * What each thread of a process does: its state, the seconds for which it ran and waited for a processor, and where in
 * the kernel it sleeps. Tells a host that has no time from a wake-up that was lost. [proc(5)]
 */
function doing(pid: number): string {
  const read = (path: string): string => readFileSync(`/proc/${pid}/${path}`, "latin1").trim();
  try {
    const threads = readdirSync(`/proc/${pid}/task`).map((tid) => {
      const [ran = 0, waited = 0] = read(`task/${tid}/schedstat`).split(" ").map(Number);
      const state = /^State:\s*(\S)/m.exec(read(`task/${tid}/status`))?.[1];
      const seconds = (nanoseconds: number): string => (nanoseconds / 1e9).toFixed(1);
      return `${read(`task/${tid}/comm`)} ${state} ${seconds(ran)}+${seconds(waited)} s ${read(`task/${tid}/wchan`)}`;
    });
    return `${pid} ${read("cmdline").split("\0").slice(0, 2).join(" ")} [${threads.join(", ")}]`;
  } catch {
    return `${pid} is gone`;
  }
}

/** The end of what a VM's process wrote when it failed. */
function lastWords(id: string): string {
  return readFileSync(join(state, "vms", id, VM_FILES.errors), "utf8").slice(-500);
}

/** Another server comes: what it says must be what is. */
async function verify(round: number): Promise<void> {
  const fleet = await openFleet({ stateFolder: state });
  try {
    const deadline = performance.now() + SETTLE_MS;
    let vms: VmStatus[];
    let found: string;
    do {
      await sleep(100);
      vms = await fleet.list();
      const known = vms.flatMap(({ pid }) => (pid === null ? [] : [pid])).sort((a, b) => a - b);
      const real = processes().sort((a, b) => a - b);
      const settled = vms.every(({ state: now, responsive }) => {
        return now !== "starting" && now !== "stopping" && now !== "restarting" && (!isActive(now) || responsive);
      });
      found = settled && known.join() === real.join() ? "" : `known ${known.join()}, real ${real.join()}`;
    } while (found !== "" && performance.now() < deadline);
    const shown = vms.map(({ name, state: now, pid, exit }) => `${name} ${now} ${pid} ${exit?.kind ?? ""}`).join("; ");
    if (found !== "") {
      const load = readFileSync("/proc/loadavg", "latin1").trim();
      const pids = new Set([...processes(), ...vms.flatMap(({ pid }) => (pid === null ? [] : [pid]))]);
      const why = [`load ${load}`, ...[...pids].map(doing), ...vms.map(({ id, name }) => `${name}: ${lastWords(id)}`)];
      assert.fail(`round ${round}, ${found}: ${shown}\n${why.join("\n")}`);
    }
    const ids = new Set(vms.map(({ id }) => id));
    for (const id of created) {
      if (!inRemoval.has(id)) assert.ok(ids.has(id), `round ${round}: ${id} was created and is gone`);
    }
    for (const id of removed) assert.ok(!ids.has(id), `round ${round}: ${id} was removed and is there`);
    for (const kind of ["vms", "disks"]) {
      const folders = readdirSync(join(state, kind)).sort();
      assert.deepEqual(folders, [...ids].sort(), `round ${round}: folders of ${kind}`);
    }
    for (const { id, spec } of vms) {
      for (const { name } of spec.disks) assert.ok(readdirSync(join(state, "disks", id)).includes(`${name}.raw`));
    }
    await checkWriter(fleet);
  } finally {
    await fleet.close();
  }
}

const kinds = { server: 0, vm: 0, both: 0 };
try {
  await makeWriter();
  for (let round = 1; round <= count; round++) {
    const server = await startServer();
    await sleep(random(LONGEST_LIFE_MS));
    const victims = processes();
    const kind = (["server", "vm", "both"] as const)[random(3)] ?? "both";
    kinds[kind]++;
    if (kind !== "server") {
      for (const pid of victims) {
        try {
          if (random(2) === 0 && writes(pid)) process.kill(pid, "SIGKILL");
        } catch {
          // It went by itself.
        }
      }
    }
    // A server that lost VMs goes on for a moment before it is killed too: the next one must find all well.
    if (kind === "vm") await sleep(random(1000));
    await end(server);
    await verify(round);
    if (round % 10 === 0) {
      const told = `${writer.durable.size} files durable, ${writer.checks} times killed while it wrote`;
      console.log(`${round} of ${count}: ${created.size} created, ${removed.size} removed; ${told}`);
    }
  }
  console.log(`${count} kills (${JSON.stringify(kinds)}): the record agreed with reality each time`);
} finally {
  for (const pid of processes()) process.kill(pid, "SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
process.exit(process.exitCode ?? 0);
