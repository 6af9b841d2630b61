/**
 * What has to be done to bring a server to what a file says: a list of steps, made from the file and the server's
 * present state alone, so that it can be shown before anything is done.
 */

import type { FleetFile } from "../../api/contract/fleet-file.ts";
import type { CpuPool, Project, Template, VmSpec, VmStatus } from "../../api/contract/api.ts";
import { IsolaError } from "../../base/errors.ts";
import { quotaSchema } from "../../fleet/contract.ts";
import { joinTemplate, LIVE_FIELDS, vmSpecSchema } from "../../fleet/vm-spec.ts";

export type Step =
  | {
      readonly kind: "project" | "pool" | "template";
      readonly name: string;
      readonly value: Readonly<Record<string, unknown>>;
      readonly what: string;
    }
  | {
      readonly kind: "create";
      readonly name: string;
      readonly spec: Readonly<Record<string, unknown>>;
      readonly what: string;
    }
  | {
      readonly kind: "update";
      readonly name: string;
      readonly change: Readonly<Record<string, unknown>>;
      readonly what: string;
    }
  | { readonly kind: "start" | "stop" | "remove"; readonly name: string; readonly what: string };

export interface ServerState {
  readonly vms: readonly VmStatus[];
  readonly projects: readonly Project[];
  readonly pools: readonly CpuPool[];
  readonly templates: readonly Template[];
}

export interface PlanOptions {
  /** Remove VMs that the file does not name, in the projects that it does name. */
  readonly prune: boolean;
}

const ON = new Set<VmStatus["state"]>(["starting", "running", "paused", "restarting"]);

/** Equality of plain data; the order of members does not count. */
export function equal(a: unknown, b: unknown): boolean {
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return a === b;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].every((key) => equal((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]));
}

/** The fields of `wanted` that `present` has otherwise. */
function difference(present: object, wanted: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(wanted).filter(([key, value]) => !equal((present as Record<string, unknown>)[key], value)),
  );
}

/** What `isola apply` may leave to a VM's own identity: another count of processors cannot be set later. */
function updateOf(present: VmSpec, wanted: VmSpec): Record<string, unknown> {
  const { name: _, ...change } = difference(present, wanted);
  if (change["cpu"] === undefined) return change;
  const { count: __, ...cpu } = difference(present.cpu, wanted.cpu);
  const { cpu: ___, ...rest } = change;
  return Object.keys(cpu).length === 0 ? rest : { ...rest, cpu };
}

/** Whether a change has to wait until the VM is off. */
function needsOff(change: Readonly<Record<string, unknown>>): boolean {
  const live: readonly string[] = LIVE_FIELDS;
  const { model } = (change["cpu"] ?? {}) as { model?: unknown };
  return model !== undefined || Object.keys(change).some((key) => !live.includes(key));
}

function vmSteps(file: FleetFile, state: ServerState): Step[] {
  const steps: Step[] = [];
  const templates = new Map(state.templates.map(({ name, spec }) => [name, spec as Record<string, unknown>]));
  for (const [name, { spec }] of Object.entries(file.templates ?? {})) templates.set(name, spec);
  for (const { template, state: wantedState = "running", ...own } of file.vms ?? []) {
    const begun = template === undefined ? {} : templates.get(template);
    if (begun === undefined) {
      throw new IsolaError({
        code: "file-invalid",
        message: `cannot apply ${own.name}: there is no template ${template}`,
      });
    }
    const result = vmSpecSchema.safeParse(joinTemplate(begun, own));
    if (!result.success) {
      const [issue] = result.error.issues;
      throw new IsolaError({
        code: "file-invalid",
        message: `cannot apply ${own.name}: ${issue?.path.join("/") ?? ""}: ${issue?.message ?? "not a spec"}`,
      });
    }
    const wanted = result.data;
    const { name } = wanted;
    const present = state.vms.find((vm) => vm.name === name);
    if (present === undefined) {
      steps.push({ kind: "create", name, spec: { ...wanted }, what: `create ${name}` });
      if (wantedState === "running") steps.push({ kind: "start", name, what: `start ${name}` });
      continue;
    }
    const on = ON.has(present.state);
    const change = updateOf(present.spec, wanted);
    const changed = Object.keys(change).join(", ");
    if (changed === "") {
      if (on !== (wantedState === "running")) {
        steps.push(on ? { kind: "stop", name, what: `stop ${name}` } : { kind: "start", name, what: `start ${name}` });
      }
      continue;
    }
    const restart = on && needsOff(change);
    if (restart || (on && wantedState === "stopped")) {
      steps.push({
        kind: "stop",
        name,
        what: wantedState === "stopped" ? `stop ${name}` : `stop ${name}, to change ${changed}`,
      });
    }
    steps.push({ kind: "update", name, change, what: `change ${name}: ${changed}` });
    if (wantedState === "running" && (restart || !on)) steps.push({ kind: "start", name, what: `start ${name}` });
  }
  return steps;
}

/** VMs of the file's projects that the file does not name. */
function removals(file: FleetFile, state: ServerState): Step[] {
  const named = new Set((file.vms ?? []).map(({ name }) => name));
  const projects = new Set([
    ...Object.keys(file.projects ?? {}),
    ...(file.vms ?? []).map(({ project = "default" }) => project),
  ]);
  return state.vms
    .filter(({ name, project }) => projects.has(project) && !named.has(name))
    .map(({ name }) => ({ kind: "remove", name, what: `remove ${name} and its disks` }) as const);
}

/** A quota's limits as the server keeps them: sizes in bytes, and only those that the file names. */
function quotaValues(quota: object): object {
  const whole: Record<string, unknown> = quotaSchema.parse(quota);
  return Object.fromEntries(Object.keys(quota).map((key) => [key, whole[key]]));
}

function mapValues<T, V>(record: Readonly<Record<string, T>>, of: (value: T) => V): Record<string, V> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, of(value)]));
}

/** The steps in their order: what VMs refer to first. Throws `file-invalid`. */
export function planFleet(file: FleetFile, state: ServerState, { prune }: PlanOptions): Step[] {
  const steps: Step[] = [];
  const arrange = (
    kind: "project" | "pool" | "template",
    wanted: Readonly<Record<string, object>>,
    present: (name: string) => object | undefined,
  ): void => {
    for (const [name, value] of Object.entries(wanted)) {
      const now = present(name);
      if (now !== undefined && Object.keys(difference(now, value)).length === 0) continue;
      steps.push({
        kind,
        name,
        value: { ...value },
        what: `${now === undefined ? "make" : "change"} the ${kind} ${name}`,
      });
    }
  };
  arrange(
    "project",
    mapValues(file.projects ?? {}, quotaValues),
    (name) => state.projects.find((project) => project.name === name)?.quota,
  );
  arrange("pool", file.pools ?? {}, (name) => state.pools.find((pool) => pool.name === name));
  arrange("template", file.templates ?? {}, (name) => state.templates.find((template) => template.name === name));
  return [...steps, ...(prune ? removals(file, state) : []), ...vmSteps(file, state)];
}

const BYTE_FIELDS = new Set(["memoryBytes", "memoryReservationBytes", "diskBytes", "sizeBytes", "bytesPerSecond"]);

/** The same data as a person would write it: without what is the default anyway, sizes as text. */
export function concise(value: unknown, defaults: unknown, format: (bytes: number) => string, key = ""): unknown {
  if (typeof value === "number" && BYTE_FIELDS.has(key)) return format(value);
  if (Array.isArray(value)) return value.map((item) => concise(item, undefined, format));
  if (typeof value !== "object" || value === null) return value;
  const under = (defaults ?? {}) as Record<string, unknown>;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, item]) => !(name in under && equal(item, under[name])))
      .map(([name, item]) => [name, concise(item, under[name], format, name)]),
  );
}

/** What the server has, as a file: applying it changes nothing. */
export function exportFleet(state: ServerState, only: readonly string[], format: (bytes: number) => string): FleetFile {
  const bare = vmSpecSchema.parse({ name: "x", image: "x" });
  const { name: _, image: __, ...defaults } = bare;
  const vms = state.vms.filter(({ id, name }) => only.length === 0 || only.includes(name) || only.includes(id));
  const byName = <T extends { readonly name: string }, V>(items: readonly T[], of: (item: T) => V): Record<string, V> =>
    Object.fromEntries(items.map((item) => [item.name, of(item)]));
  const nothing = { vms: null, memoryBytes: null, cpuReservationPercent: null, diskBytes: null };
  const whole =
    only.length > 0
      ? {}
      : {
          projects: byName(state.projects, ({ quota }) => concise(quota, nothing, format)),
          pools: byName(state.pools, ({ processors, cores }) => ({ processors, cores })),
          templates: byName(state.templates, ({ name: ___, ...template }) =>
            concise(template, { description: "" }, format),
          ),
        };
  return {
    version: 1,
    ...whole,
    vms: vms.map((vm) => {
      const { name, image, ...rest } = vm.spec;
      const spec = concise(rest, { ...defaults, kernel: null }, format) as Record<string, unknown>;
      const disks = vm.spec.disks.map((disk) =>
        concise(disk, { readonly: false, bytesPerSecond: null, requestsPerSecond: null }, format),
      );
      return {
        name,
        ...(image === null ? {} : { image }),
        state: ON.has(vm.state) ? "running" : "stopped",
        ...spec,
        ...(disks.length === 0 ? {} : { disks }),
      };
    }),
  } as FleetFile;
}
