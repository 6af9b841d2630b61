/**
 * A resource of the server as a bar: what is kept for the host, what each VM holds and how much of that it uses, what a
 * VM that is being drafted would hold, and what is free.
 */

import type { HostInventory, VmStatus } from "../../src/fleet/contract.ts";

export interface Slice {
  readonly key: string;
  readonly label: string;
  readonly kind: "host" | "vm" | "draft" | "free" | "excess";
  /** Index of the VM's colour; -1 for the others. */
  readonly hue: number;
  /** Taken from the total. */
  readonly held: number;
  /** Of `held`, at most all of it. */
  readonly used: number;
}

export interface Allocation {
  readonly total: number;
  /** In the order in which they are drawn; they add up to `total`, or to more where `excess` is there. */
  readonly slices: readonly Slice[];
  readonly free: number;
}

/** What a VM that does not exist yet would take. */
export interface Draft {
  readonly name: string;
  readonly memoryBytes: number;
  /** Percent of one processor. */
  readonly cpuReservationPercent: number;
  readonly diskBytes: number;
}

/** How many colours there are to tell VMs apart. */
export const HUES = 8;

/** States in which a VM holds memory and processor time. */
const HOLDING: ReadonlySet<string> = new Set(["starting", "running", "paused", "stopping", "restarting"]);

interface Part {
  readonly held: number;
  readonly used: number;
}

/** VMs keep their colour while they live: it follows from the order in which they were made. */
export function hueOf(vms: readonly VmStatus[], id: string): number {
  const order = vms.toSorted((a, b) => a.created.localeCompare(b.created) || a.id.localeCompare(b.id));
  return order.findIndex((vm) => vm.id === id) % HUES;
}

function allocate(
  total: number,
  host: Part | undefined,
  vms: readonly VmStatus[],
  partOf: (vm: VmStatus) => Part,
  draft: { name: string; held: number } | undefined,
): Allocation {
  const slices: Slice[] = [];
  if (host !== undefined && host.held > 0) {
    slices.push({ key: "host", label: "host", kind: "host", hue: -1, ...host });
  }
  for (const vm of vms) {
    const { held, used } = partOf(vm);
    if (held <= 0) continue;
    slices.push({ key: vm.id, label: vm.name, kind: "vm", hue: hueOf(vms, vm.id), held, used: Math.min(used, held) });
  }
  const free = total - slices.reduce((sum, { held }) => sum + held, 0);
  if (draft !== undefined && draft.held > 0) {
    const fits = Math.max(0, Math.min(draft.held, free));
    const label = draft.name === "" ? "the new VM" : draft.name;
    if (fits > 0) slices.push({ key: "draft", label, kind: "draft", hue: -1, held: fits, used: 0 });
    if (draft.held > fits) {
      slices.push({
        key: "excess",
        label: `${label}: too much`,
        kind: "excess",
        hue: -1,
        held: draft.held - fits,
        used: 0,
      });
    }
  }
  const left = free - (draft?.held ?? 0);
  if (left > 0) slices.push({ key: "free", label: "free", kind: "free", hue: -1, held: left, used: 0 });
  return { total, slices, free: Math.max(0, free) };
}

/** RAM: a VM holds what the host keeps free for it, from its start on. Bytes. */
export function memoryAllocation(host: HostInventory, vms: readonly VmStatus[], draft?: Draft): Allocation {
  const { allocatableBytes, hostReserveBytes } = host.memory;
  return allocate(
    allocatableBytes + hostReserveBytes,
    { held: hostReserveBytes, used: 0 },
    vms,
    ({ state, memory }) => ({
      held: HOLDING.has(state) ? Math.max(memory.granted, memory.used) : 0,
      used: memory.used,
    }),
    draft && { name: draft.name, held: draft.memoryBytes },
  );
}

/** Processor time: a VM holds its reservation, or what it uses where that is more. Percent of one processor. */
export function cpuAllocation(host: HostInventory, vms: readonly VmStatus[], draft?: Draft): Allocation {
  return allocate(
    host.processors.count * 100,
    undefined,
    vms,
    ({ state, spec, cpu }) => ({
      held: HOLDING.has(state) ? Math.max(spec.cpu.reservationPercent, cpu.used) : 0,
      used: cpu.used,
    }),
    draft && { name: draft.name, held: draft.cpuReservationPercent },
  );
}

/** Disk space: a VM holds the sizes of its disks, whether it runs or not. Bytes. */
export function diskAllocation(host: HostInventory, vms: readonly VmStatus[], draft?: Draft): Allocation {
  return allocate(
    host.disk.quotaBytes,
    undefined,
    vms,
    ({ disk }) => ({ held: disk.granted, used: disk.used }),
    draft && { name: draft.name, held: draft.diskBytes },
  );
}
