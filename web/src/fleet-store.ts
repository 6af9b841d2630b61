/**
 * What the page shows, kept up to date: the host and all VMs are asked for every two seconds while the page is seen,
 * and at once when an event says that something changed.
 */

import { batch, computed, effect, signal, untracked } from "@preact/signals";
import type { ApiClient } from "../../src/api/contract/api.ts";
import type { FleetEvent, HostInventory, VmStatus } from "../../src/fleet/contract.ts";
import type { VmOperation } from "../../src/fleet/lifecycle.ts";
import { type Failure, failureOf, openClient } from "./server.ts";
import { signOut, token } from "./session.ts";

const POLL_MILLISECONDS = 2000;
const RECONNECT_MILLISECONDS = 2000;
/** Events come in bursts: one look is enough for those within this time. */
const SETTLE_MILLISECONDS = 100;
const KEPT_EVENTS = 500;
const KEPT_POINTS = 60;

export type ImageEntry = Awaited<ReturnType<ApiClient["listImages"]>>[number];
export type Caller = Awaited<ReturnType<ApiClient["getCaller"]>>;

export const host = signal<HostInventory>();
export const vms = signal<readonly VmStatus[]>([]);
export const images = signal<readonly ImageEntry[]>([]);
export const caller = signal<Caller>();
export const events = signal<readonly FleetEvent[]>([]);
/** Why the page is not up to date; undefined while it is. */
export const disconnected = signal<Failure>();
/** Why the token was not taken. */
export const refused = signal<string>();
/** Operations that the page waits for, by the VM's id. */
export const busy = signal<ReadonlyMap<string, VmOperation>>(new Map());
/** The last failure of an operation, by the VM's id. */
export const failures = signal<ReadonlyMap<string, Failure>>(new Map());
/** Processor time in percent, a value for each look, by the VM's id. */
export const cpuHistory = signal<ReadonlyMap<string, readonly number[]>>(new Map());

/** The VM whose details are shown, by id. */
export const selected = signal<string>();
export const selectedVm = computed(() => vms.value.find(({ id }) => id === selected.value));

export const client = computed(() => (token.value === undefined ? undefined : openClient(token.value)));

export function select(id: string | undefined): void {
  selected.value = id;
}

function without<V>(map: ReadonlyMap<string, V>, key: string): ReadonlyMap<string, V> {
  const copy = new Map(map);
  copy.delete(key);
  return copy;
}

function keepPoints(list: readonly VmStatus[]): ReadonlyMap<string, readonly number[]> {
  return new Map(
    list.map(({ id, cpu }) => [id, [...(cpuHistory.value.get(id) ?? []), cpu.used].slice(-KEPT_POINTS)] as const),
  );
}

function fail(error: unknown): void {
  const failure = failureOf(error);
  if (failure.code === "unauthenticated") {
    refused.value = failure.message;
    signOut();
    return;
  }
  disconnected.value = failure;
}

/** Asks for everything that changes. `measured`: this look counts as a point of the histories. */
async function look(api: ApiClient, measured: boolean): Promise<void> {
  const [inventory, list] = await Promise.all([api.getHost(), api.listVms()]);
  batch(() => {
    host.value = inventory;
    vms.value = list.toSorted((a, b) => a.created.localeCompare(b.created));
    if (measured) cpuHistory.value = keepPoints(list);
    disconnected.value = undefined;
    refused.value = undefined;
  });
}

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Looks at once, then again and again until `signal` aborts. */
async function poll(api: ApiClient, abort: AbortSignal): Promise<void> {
  while (!abort.aborted) {
    if (!document.hidden || host.value === undefined) await look(api, true).catch(fail);
    await pause(POLL_MILLISECONDS);
  }
}

/** Follows the events, the kept ones first; after a break it goes on behind the last one seen. */
async function follow(api: ApiClient, abort: AbortSignal): Promise<void> {
  let settling = false;
  const settle = (): void => {
    if (settling) return;
    settling = true;
    setTimeout(() => {
      settling = false;
      look(api, false).catch(fail);
    }, SETTLE_MILLISECONDS);
  };
  while (!abort.aborted) {
    const after = events.value.at(-1)?.sequence ?? 0;
    try {
      for await (const event of await api.followEvents({ query: { after } }, { signal: abort })) {
        events.value = [...events.value, event].slice(-KEPT_EVENTS);
        settle();
      }
    } catch {
      // The polling tells of a server that is gone.
    }
    if (!abort.aborted) await pause(RECONNECT_MILLISECONDS);
  }
}

function begin(api: ApiClient, abort: AbortSignal): void {
  batch(() => {
    host.value = undefined;
    vms.value = [];
    events.value = [];
  });
  void poll(api, abort);
  void follow(api, abort);
  api.listImages().then((list) => (images.value = list), fail);
  api.getCaller().then((who) => (caller.value = who), fail);
}

effect(() => {
  const api = client.value;
  if (api === undefined) return undefined;
  const abort = new AbortController();
  // What it reads of the signals that it fills must not start it anew.
  untracked(() => begin(api, abort.signal));
  return () => abort.abort();
});

type Operation = Extract<VmOperation, "start" | "pause" | "resume" | "stop" | "reset" | "kill" | "remove">;

async function perform(api: ApiClient, { id }: VmStatus, operation: Operation): Promise<void> {
  const target = { vm: id };
  switch (operation) {
    case "start":
      return void (await api.startVm(target));
    case "pause":
      return void (await api.pauseVm(target));
    case "resume":
      return void (await api.resumeVm(target));
    case "stop":
      return void (await api.stopVm(target));
    case "reset":
      return void (await api.resetVm(target));
    case "kill":
      return void (await api.killVm(target));
    case "remove":
      return await api.removeVm(target);
  }
}

/** Does an operation; how it went shows at the VM. */
export function act(vm: VmStatus, operation: Operation): void {
  const api = client.value;
  if (api === undefined) return;
  batch(() => {
    busy.value = new Map(busy.value).set(vm.id, operation);
    failures.value = without(failures.value, vm.id);
  });
  perform(api, vm, operation)
    .catch((error: unknown) => {
      failures.value = new Map(failures.value).set(vm.id, failureOf(error));
    })
    .then(() => {
      busy.value = without(busy.value, vm.id);
      return look(api, false);
    })
    .catch(fail);
}

/** Looks at once: after a form has changed something. */
export function refresh(): void {
  const api = client.value;
  if (api !== undefined) look(api, false).catch(fail);
}
