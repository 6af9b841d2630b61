/** What `inspect` and `host` show, put together from the record, the runs and the host. */

import { statSync } from "node:fs";
import { hostname } from "node:os";
import packageJson from "../../package.json" with { type: "json" };
import { type Capacity, diskBytes, limitBytes, processBytes, reservedBytes } from "./admission.ts";
import type { Walls } from "./confinement.ts";
import type { CpuPool, HostInventory, VmStatus } from "./contract.ts";
import { type EngineFact, fileSystem, hostMemory, hostNames, Measured, residentBytes } from "./host-facts.ts";
import { ACTIVE_STATES, type VmState } from "./lifecycle.ts";
import type { VmRecord } from "./record.ts";
import { PERCENT_PER_PROCESSOR, type VmSpec } from "./vm-spec.ts";
import type { VmRun } from "./vm-run.ts";
import { diskPath } from "./vm-spawn.ts";

export const isActive = (state: VmState): boolean => (ACTIVE_STATES as readonly VmState[]).includes(state);

const BLOCK_BYTES = 512;
/** A use is shown for so long after it was measured, in ms: an idle VM tells of itself every five seconds. */
const FRESH_MS = 6000;

const held = new Measured((path: string) => (statSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * BLOCK_BYTES);

/** Bytes that the pool holds of a VM's disks. */
export function diskUse(folder: string, spec: VmSpec): number {
  return spec.disks.reduce((sum, { name }) => sum + held.of(diskPath(folder, name)), 0);
}

export function usedPercent(run: VmRun | undefined): number {
  const use = run?.use;
  return use !== undefined && performance.now() - use.at < FRESH_MS ? use.cpuPercent : 0;
}

export interface StatusParts {
  readonly record: VmRecord;
  readonly run: VmRun | undefined;
  readonly pool: CpuPool | undefined;
  readonly diskFolder: string;
  /** Whether there is a saved state; false where the VM is on. */
  readonly saved: boolean;
}

export function vmStatus({ record, run, pool, diskFolder, saved }: StatusParts): VmStatus {
  const { spec } = record;
  const on = isActive(record.state);
  const report = run?.report;
  const started = record.run?.started ?? null;
  const capacity = (pool?.cores ?? 0) * PERCENT_PER_PROCESSOR;
  const budget = run?.budgetPercent ?? Math.min(spec.cpu.capPercent ?? Infinity, capacity);
  return {
    id: record.id,
    name: record.name,
    project: spec.project,
    state: record.state,
    since: record.since,
    created: record.created,
    spec,
    pid: run === undefined || run.pid === 0 ? null : run.pid,
    engine: record.run?.engine ?? null,
    responsive: run?.responsive ?? !on,
    started: on ? started : null,
    uptimeSeconds: on && started !== null ? Math.max(0, (Date.now() - new Date(started).getTime()) / 1000) : 0,
    exit: on ? null : record.exit,
    saved,
    restarts: record.restarts,
    memory: {
      asked: spec.memoryBytes,
      granted: on ? reservedBytes(spec) - processBytes(spec) : 0,
      used: run === undefined ? 0 : residentBytes(run.pid),
    },
    cpu: {
      asked: spec.cpu.reservationPercent,
      granted: on ? budget : 0,
      used: usedPercent(run),
      seconds: (report?.cpuMicros ?? 0) / 1e6,
    },
    disk: { asked: diskBytes(spec), granted: diskBytes(spec), used: diskUse(diskFolder, spec) },
    guest: { instructions: report?.instructions ?? 0, resets: report?.resets ?? 0 },
    confinement: [...(record.run?.confinement ?? [])],
  };
}

export interface InventoryParts {
  readonly stateFolder: string;
  readonly started: string;
  readonly capacity: Capacity;
  readonly hostReserveBytes: number;
  readonly walls: Walls;
  readonly engines: readonly EngineFact[];
  readonly pools: readonly CpuPool[];
  readonly vms: readonly { readonly record: VmRecord; readonly run: VmRun | undefined }[];
  readonly processors: readonly number[];
  /** Of all processors. */
  readonly busyPercent: number;
  readonly diskFolder: string;
  readonly diskFolderOf: (id: string) => string;
}

export function hostInventory(parts: InventoryParts): HostInventory {
  const { capacity, pools, vms, walls } = parts;
  const on = vms.filter(({ record }) => isActive(record.state));
  const total = (amount: (spec: VmSpec) => number, among = on): number =>
    among.reduce((sum, { record }) => sum + amount(record.spec), 0);
  const { model, kernel } = hostNames();
  const memory = hostMemory();
  const disk = fileSystem(parts.diskFolder);
  return {
    hostname: hostname(),
    version: packageJson.version,
    node: process.version,
    kernel,
    stateFolder: parts.stateFolder,
    started: parts.started,
    processors: { count: parts.processors.length, model, usedPercent: parts.busyPercent },
    memory: {
      ...memory,
      hostReserveBytes: parts.hostReserveBytes,
      allocatableBytes: Math.floor(capacity.memoryBytes * capacity.overcommit),
      overcommit: capacity.overcommit,
      limitBytes: total(limitBytes),
      reservedBytes: total(reservedBytes),
      usedBytes: on.reduce((sum, { run }) => sum + (run === undefined ? 0 : residentBytes(run.pid)), 0),
    },
    pools: pools.map((pool) => {
      const members = on.filter(({ record }) => record.spec.cpu.pool === pool.name);
      return {
        ...pool,
        capacityPercent: pool.cores * PERCENT_PER_PROCESSOR,
        reservedPercent: total((spec) => spec.cpu.reservationPercent, members),
        usedPercent: members.reduce((sum, { run }) => sum + usedPercent(run), 0),
        vms: members.map(({ record }) => record.name),
      };
    }),
    disk: {
      path: parts.diskFolder,
      ...disk,
      quotaBytes: capacity.diskBytes,
      grantedBytes: total(diskBytes, [...vms]),
      usedBytes: vms.reduce((sum, { record }) => sum + diskUse(parts.diskFolderOf(record.id), record.spec), 0),
    },
    engines: [...parts.engines],
    confinement: [...walls.barriers],
    vms: { total: vms.length, active: on.length },
  };
}
