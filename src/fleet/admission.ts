/**
 * Whether the host, the pool and the project have room for what a VM asks; a refusal says what was asked, what is free
 * and who holds the rest. RAM and processor reservations are held by VMs that are on, disks by all that exist.
 */

import { decodedBytes } from "../cpu/wasm/layout.ts";
import type { CpuPool, Quota, Shortage } from "./contract.ts";
import { FleetError } from "./fleet-error.ts";
import { describeShortage } from "./shortage.ts";
import { PERCENT_PER_PROCESSOR, type VmSpec } from "./vm-spec.ts";

export interface Capacity {
  readonly hostname: string;
  /** RAM that guests and their processes may have in reservations, bytes. */
  readonly memoryBytes: number;
  /** How much more than that the guests' RAM may come to, if all is used at once: 1 is no more. */
  readonly overcommit: number;
  /** What all disks together may come to hold, bytes. */
  readonly diskBytes: number;
}

/** A VM as admission sees it. */
export interface Tenant {
  readonly id: string;
  readonly spec: VmSpec;
  /** Holds RAM and processor time. */
  readonly on: boolean;
}

/** RAM that a VM's process needs beside the guest's: its program, the engine's tables and code. */
const PROGRAM_BYTES = 59 * 2 ** 20;
/** As measured with `npm run bench -- --only density`; decoded instructions take more of a larger guest. */
export const processBytes = ({ memoryBytes }: VmSpec): number => PROGRAM_BYTES + decodedBytes(memoryBytes);

export const reservedBytes = (spec: VmSpec): number =>
  (spec.memoryReservationBytes ?? spec.memoryBytes) + processBytes(spec);
export const limitBytes = (spec: VmSpec): number => spec.memoryBytes + processBytes(spec);
export const diskBytes = ({ disks }: VmSpec): number => disks.reduce((total, { sizeBytes }) => total + sizeBytes, 0);

interface Question {
  readonly resource: Shortage["resource"];
  readonly where: string;
  readonly total: number;
  readonly others: readonly Tenant[];
  readonly amount: (spec: VmSpec) => number;
  readonly code: "no-resources" | "quota-exceeded";
  readonly wayOut: string;
}

function demand(action: string, spec: VmSpec, question: Question): void {
  const { resource, where, total, others, amount, code, wayOut } = question;
  const asked = amount(spec);
  const holders = others
    .map((tenant) => ({ name: tenant.spec.name, amount: amount(tenant.spec) }))
    .filter((holder) => holder.amount > 0)
    .sort((a, b) => b.amount - a.amount);
  const free = Math.max(0, total - holders.reduce((sum, holder) => sum + holder.amount, 0));
  if (asked <= free) return;
  const details: Shortage = { resource, where, asked, free, total, holders };
  throw new FleetError({
    code,
    message: `cannot ${action} ${spec.name}: it ${describeShortage(details)}; ${wayOut}`,
    details,
  });
}

/** Room for `spec`, which may be one of `tenants` in its old form: that one does not count. */
export interface Request {
  readonly action: string;
  readonly id: string | undefined;
  readonly spec: VmSpec;
  readonly tenants: readonly Tenant[];
}

/** For a VM that is to exist. @throws FleetError `no-resources`, `quota-exceeded` */
export function admitExistence(request: Request, capacity: Capacity, quota: Quota | undefined): void {
  const { action, id, spec } = request;
  const others = request.tenants.filter((tenant) => tenant.id !== id);
  const project = `project ${spec.project}`;
  const mates = others.filter((tenant) => tenant.spec.project === spec.project);
  const ask = (question: Question): void => demand(action, spec, question);
  const limited = { code: "quota-exceeded", wayOut: "raise the project's quota, or remove what it holds" } as const;
  if (quota?.vms !== null && quota?.vms !== undefined) {
    ask({
      resource: "vms",
      where: project,
      total: quota.vms,
      others: mates,
      amount: () => 1,
      ...limited,
    });
  }
  const disk = { resource: "disk", amount: diskBytes } as const;
  if (quota?.diskBytes !== null && quota?.diskBytes !== undefined) {
    ask({ ...disk, where: project, total: quota.diskBytes, others: mates, ...limited });
  }
  ask({
    ...disk,
    where: capacity.hostname,
    total: capacity.diskBytes,
    others,
    code: "no-resources",
    wayOut: "make it smaller, or remove a disk",
  });
}

/** For a VM that is to run. @throws FleetError `no-resources`, `quota-exceeded`, `not-found` (its pool) */
export function admitRun(
  request: Request,
  capacity: Capacity,
  pool: CpuPool | undefined,
  quota: Quota | undefined,
): void {
  const { action, id, spec } = request;
  if (pool === undefined) {
    throw new FleetError({
      code: "not-found",
      message: `cannot ${action} ${spec.name}: there is no CPU pool ${spec.cpu.pool}; make it, or choose another`,
    });
  }
  const others = request.tenants.filter((tenant) => tenant.id !== id && tenant.on);
  const mates = others.filter((tenant) => tenant.spec.project === spec.project);
  const project = `project ${spec.project}`;
  const ask = (question: Question): void => demand(action, spec, question);
  const limited = { code: "quota-exceeded", wayOut: "raise the project's quota, or stop one of its VMs" } as const;
  const stop = { code: "no-resources", wayOut: "stop one of them, or ask for less" } as const;
  const cpu = {
    resource: "cpu-reservation",
    amount: (one: VmSpec) => one.cpu.reservationPercent,
  } as const;
  if (quota?.memoryBytes !== null && quota?.memoryBytes !== undefined) {
    const amount = (one: VmSpec): number => one.memoryBytes;
    const total = quota.memoryBytes;
    ask({ resource: "memory", where: project, total, others: mates, amount, ...limited });
  }
  if (quota?.cpuReservationPercent !== null && quota?.cpuReservationPercent !== undefined) {
    ask({ ...cpu, where: project, total: quota.cpuReservationPercent, others: mates, ...limited });
  }
  const { hostname, memoryBytes, overcommit } = capacity;
  ask({
    resource: "memory-reservation",
    where: hostname,
    total: memoryBytes,
    others,
    amount: reservedBytes,
    ...stop,
  });
  ask({
    resource: "memory",
    where: overcommit === 1 ? hostname : `${hostname} (overcommitted ${overcommit} times)`,
    total: memoryBytes * overcommit,
    others,
    amount: limitBytes,
    ...stop,
  });
  ask({
    ...cpu,
    where: `pool ${pool.name}`,
    total: pool.cores * PERCENT_PER_PROCESSOR,
    others: others.filter((tenant) => tenant.spec.cpu.pool === pool.name),
    ...stop,
  });
}
