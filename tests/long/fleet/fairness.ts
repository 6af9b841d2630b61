/**
 * VMs that share one processor get what their weights and caps say: measured as the processor time of each VM's process
 * over a while, as a part of what all of them got, beside the intended part; and as the work that the guest got done,
 * beside what it does alone. Then: a VM that boots under a cap pays for V8's compile threads too, and one that computes
 * at its cap leaves its neighbour's console as quick as it was.
 *
 * Where this host is a guest itself and its own host took processor time from it meanwhile (steal time), what was
 * measured tells of that host: it is measured again, a bounded number of times, and judged as it is after the last.
 *
 *   node tests/long/fleet/fairness.ts [--seconds 30] [--rounds 1] [--only NAME]
 */

import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Fleet } from "../../../src/fleet/contract.ts";
import type { VmConsole } from "../../fleet/fleet-fixture.ts";
import { ask, bootDebian, PROMPT, processorTime, withFleet } from "./guests.ts";

/** Largest difference from the intended part, and from the intended work, relative. */
const TOLERANCE = 0.03;
const WORK_TOLERANCE = 0.1;
const SETTLE_MS = 2500;
/** V8 optimises the engine's code meanwhile. */
const WARM_MS = 20_000;
const PATIENCE_SECONDS = 60;
/** Part of the time wanted that this host's own host may take before something is measured again, and how often it is. */
const STOLEN = 0.04;
const ATTEMPTS = 8;
/** A case is cut into so many parts, and how fast each guest is alone is measured before each, for this part of its time. */
const PARTS = 3;
const SOLO_PART = 0.4;

/**
 * A checksum for ever; what it has read so far tells how far it is. A loop that fits the caches: how fast others are
 * changes threefold with what this host's own host does beside it.
 */
const WORK = "md5sum </dev/zero & work=$!";
const PROGRESS = "sed -n s/rchar:.//p /proc/$work/io";
/** While others are measured a neighbour is asked so often, every so many ms. */
const ASKED = 40;
const ASK_MS = 250;
/** What a neighbour at its cap may add to an answer's median time: the host's scheduler lets one wait a slice or two. */
const ADDED_MS = 10;

interface Case {
  readonly name: string;
  readonly vms: readonly { readonly shares?: number; readonly capPercent?: number }[];
  /** Intended parts: of the time that all got, or of a processor where they are caps. */
  readonly of: "sum" | "processor";
  readonly intended: readonly number[];
}

const CASES: readonly Case[] = [
  { name: "1:1", vms: [{}, {}], of: "sum", intended: [1 / 2, 1 / 2] },
  { name: "1:2", vms: [{ shares: 1024 }, { shares: 2048 }], of: "sum", intended: [1 / 3, 2 / 3] },
  { name: "1:8", vms: [{ shares: 1024 }, { shares: 8192 }], of: "sum", intended: [1 / 9, 8 / 9] },
  { name: "cap-10", vms: [{ capPercent: 10 }], of: "processor", intended: [0.1] },
  { name: "cap-25", vms: [{ capPercent: 25 }], of: "processor", intended: [0.25] },
  { name: "cap-50", vms: [{ capPercent: 50 }], of: "processor", intended: [0.5] },
];

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "30" },
    rounds: { type: "string", default: "1" },
    only: { type: "string" },
  },
});
const seconds = Number(values.seconds);
let failed = 0;

/** Jiffies that this host's processors ran, and jiffies that they would have run and its own host took. [proc(5)] */
function hostTimes(): { ran: number; stolen: number } {
  const [user, nice, system, , , irq, softirq, stolen] = (
    /^cpu +(.*)$/m.exec(readFileSync("/proc/stat", "utf8"))?.[1] ?? ""
  )
    .split(" ")
    .map(Number);
  const ran = [user, nice, system, irq, softirq].reduce<number>((sum, value) => sum + (value ?? 0), 0);
  return { ran, stolen: stolen ?? 0 };
}

/** Measures until the host was left its time, or often enough. */
async function undisturbed<T>(measureOnce: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const before = hostTimes();
    const measured = await measureOnce();
    const after = hostTimes();
    const [ran, stolen] = [after.ran - before.ran, after.stolen - before.stolen];
    const part = stolen / Math.max(ran + stolen, 1);
    if (part <= STOLEN) return measured;
    console.log(
      `  the host's own host took ${percent(part)} of its time, wanted at most ${percent(STOLEN)}: attempt ${attempt}`,
    );
    if (attempt === ATTEMPTS) return measured;
  }
}

/** Prints how one case went. */
function judge(name: string, good: boolean, text: string): void {
  if (!good) failed++;
  console.log(`${name}: ${text}: ${good ? "pass" : "FAIL"}`);
}

const percent = (value: number): string => `${(value * 100).toFixed(2)} %`;
const chosen = (name: string): boolean => values.only === undefined || values.only === name;

interface Guest {
  readonly name: string;
  readonly console: VmConsole;
}

/** What guests did in a while: processor time in ns, and counts of their work. */
interface Measured {
  readonly elapsedNs: number;
  readonly times: readonly number[];
  readonly work: readonly number[];
}

async function measure(fleet: Fleet, guests: readonly Guest[], forSeconds: number): Promise<Measured> {
  const pids = await Promise.all(guests.map(async ({ name }) => (await fleet.inspect(name)).pid ?? 0));
  // Of each guest: its count, and the processor time at which it told it.
  const look = (): Promise<{ count: number; time: number }[]> =>
    Promise.all(
      guests.map(async ({ console }, i) => {
        await console.type(`echo n=$(${PROGRESS})=\n`);
        const count = Number((await console.expect(/\nn=(\d+)=\r\n/, PATIENCE_SECONDS))[1]);
        return { count, time: processorTime(pids[i] ?? 0) };
      }),
    );
  const first = await look();
  const [begun, before] = [performance.now(), pids.map(processorTime)];
  await sleep(forSeconds * 1000);
  const times = pids.map((pid, i) => processorTime(pid) - (before[i] ?? 0));
  const elapsedNs = (performance.now() - begun) * 1e6;
  const last = await look();
  const work = times.map((time, i) => {
    const [from, to] = [first[i] ?? { count: 0, time: 0 }, last[i] ?? { count: 0, time: 0 }];
    return (time * (to.count - from.count)) / (to.time - from.time);
  });
  return { elapsedNs, times, work };
}

/** Lets those with settings run with them, and pauses the others. */
async function arrange(
  fleet: Fleet,
  guests: readonly Guest[],
  vms: readonly (Case["vms"][number] | undefined)[],
): Promise<void> {
  for (const [i, { name }] of guests.entries()) {
    const { state } = await fleet.inspect(name);
    const settings = vms[i];
    if (settings === undefined) {
      if (state === "running") await fleet.pause(name);
      continue;
    }
    if (state === "paused") await fleet.resume(name);
    await fleet.update(name, { cpu: { shares: settings.shares ?? 1024, capPercent: settings.capPercent ?? null } });
  }
  await sleep(SETTLE_MS);
}

/** What guests did, and work for a nanosecond of processor time of each when it is alone. */
interface Compared extends Measured {
  readonly solo: readonly number[];
}

/**
 * The guests together with these settings, and by turns each alone: how fast they are alone changes with what this host's
 * own host does meanwhile.
 */
async function besideSolo(fleet: Fleet, guests: readonly Guest[], vms: Case["vms"]): Promise<Compared> {
  const zeros = vms.map(() => 0);
  const solo = { times: [...zeros], work: [...zeros] };
  const together = { times: [...zeros], work: [...zeros] };
  let elapsedNs = 0;
  for (let part = 0; part < PARTS; part++) {
    const measured = await undisturbed(async () => await partBesideSolo(fleet, guests, vms));
    elapsedNs += measured.together.elapsedNs;
    add(together, 0, measured.together);
    for (const [i, one] of measured.solo.entries()) add(solo, i, one);
  }
  return { ...together, elapsedNs, solo: solo.work.map((work, i) => work / (solo.times[i] ?? 1)) };
}

async function partBesideSolo(
  fleet: Fleet,
  guests: readonly Guest[],
  vms: Case["vms"],
): Promise<{ solo: Measured[]; together: Measured }> {
  const solo: Measured[] = [];
  for (const guest of guests.slice(0, vms.length)) {
    await arrange(
      fleet,
      guests,
      guests.map((other) => (other === guest ? {} : undefined)),
    );
    solo.push(await measure(fleet, [guest], (seconds * SOLO_PART) / PARTS));
  }
  await arrange(fleet, guests, vms);
  return { solo, together: await measure(fleet, guests.slice(0, vms.length), seconds / PARTS) };
}

function add(sums: { times: number[]; work: number[] }, from: number, { times, work }: Measured): void {
  for (const [i, time] of times.entries()) sums.times[from + i] = (sums.times[from + i] ?? 0) + time;
  for (const [i, count] of work.entries()) sums.work[from + i] = (sums.work[from + i] ?? 0) + count;
}

async function runCase(fleet: Fleet, guests: readonly Guest[], { name, vms, of, intended }: Case) {
  const { elapsedNs, times, work, solo } = await besideSolo(fleet, guests, vms);
  const sum = times.reduce((total, time) => total + time, 0);
  const whole = of === "sum" ? sum : elapsedNs;
  const parts = times.map((time) => time / whole);
  const errors = parts.map((part, i) => part / (intended[i] ?? 1) - 1);
  const workErrors = work.map((count, i) => count / ((solo[i] ?? 1) * (intended[i] ?? 1) * whole) - 1);
  const good =
    errors.every((error) => Math.abs(error) <= TOLERANCE) &&
    workErrors.every((error) => Math.abs(error) <= WORK_TOLERANCE);
  const show = (list: readonly number[]): string => list.map(percent).join(" : ");
  judge(
    name,
    good,
    `${show(parts)}, intended ${show(intended)}, off by ${show(errors)}; work off by ${show(workErrors)}; ` +
      `together ${percent(sum / elapsedNs)} of a processor over ${seconds} s`,
  );
}

/** Nanoseconds that a process's busiest thread, a vCPU's, has run. */
function busiestThread(pid: number): number {
  const times = readdirSync(`/proc/${pid}/task`).map((thread) => {
    return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
  });
  return Math.max(...times);
}

/** What a VM used, as a part of a processor, and what part of that others than its vCPU's thread did. */
interface BootUse {
  readonly part: number;
  readonly others: number;
}

/** A boot under a cap: V8's threads compile the engine all the while, and the VM pays for them. */
async function bootUnderCap(fleet: Fleet, capPercent: number): Promise<void> {
  const { part, others } = await undisturbed(async () => await bootOnce(fleet, capPercent));
  const error = part / (capPercent / 100) - 1;
  judge(
    `boot-at-${capPercent}`,
    error <= TOLERANCE,
    `${percent(part)} of a processor over ${seconds} s, ${percent(others)} of it by others than the vCPU's thread`,
  );
}

async function bootOnce(fleet: Fleet, capPercent: number): Promise<BootUse> {
  const name = "booting";
  await fleet.create({ name, image: "debian", memoryBytes: "96M", append: "quiet", cpu: { pool: "one", capPercent } });
  await fleet.start(name);
  const pid = (await fleet.inspect(name)).pid ?? 0;
  const [begun, before, thread] = [performance.now(), processorTime(pid), busiestThread(pid)];
  await sleep(seconds * 1000);
  const used = processorTime(pid) - before;
  const others = used - (busiestThread(pid) - thread);
  const part = used / ((performance.now() - begun) * 1e6);
  await fleet.kill(name);
  await fleet.remove(name);
  return { part, others: others / used };
}

/** Median time, in ms, of a guest's answers. */
async function latency({ console }: Guest): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < ASKED; i++) {
    times.push(await ask(console, i, PATIENCE_SECONDS));
    await sleep(ASK_MS);
  }
  return times.sort((a, b) => a - b)[ASKED >> 1] ?? Infinity;
}

/** A guest that idles is asked with a neighbour that is paused, and with one that computes at its cap. */
async function latencies(fleet: Fleet, busy: Guest, capPercent: number): Promise<void> {
  const idle: Guest = { name: "idle", console: await bootDebian(fleet, "idle", { cpu: { pool: "one" } }) };
  const guests = [busy, idle];
  // By turns, so that what else the host does meets both.
  const alone: number[] = [];
  const beside: number[] = [];
  for (let turn = 0; turn < 2; turn++) {
    await fleet.pause(busy.name);
    alone.push(await latency(idle));
    await arrange(fleet, guests, [{ capPercent }, {}]);
    beside.push(await latency(idle));
  }
  await fleet.kill(idle.name);
  await fleet.remove(idle.name);
  const [before, after] = [Math.min(...alone), Math.min(...beside)];
  const text = `a neighbour's median answer takes ${before.toFixed(1)} ms alone, ${after.toFixed(1)} ms beside it`;
  judge(`latency-at-${capPercent}`, after <= before + ADDED_MS, text);
}

await withFleet({ overcommit: 1 }, async (fleet) => {
  await fleet.putPool({ name: "one", processors: [(await fleet.pools())[0]?.processors.at(-1) ?? 0], cores: 1 });
  const guests: Guest[] = [];
  for (const name of ["left", "right"]) {
    const console = await bootDebian(fleet, name, { cpu: { pool: "one" } });
    await console.type(`${WORK}\n`);
    await console.expect(PROMPT, PATIENCE_SECONDS);
    guests.push({ name, console });
  }
  const [left, right] = guests;
  if (left === undefined || right === undefined) return;
  await sleep(WARM_MS);
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const one of CASES) if (chosen(one.name)) await runCase(fleet, guests, one);
    // The other one would hold the processor.
    if (chosen("latency")) await latencies(fleet, left, 50);
    await fleet.pause(left.name);
    if (chosen("boot")) await bootUnderCap(fleet, 25);
  }
});
process.exit(failed === 0 ? 0 : 1);
