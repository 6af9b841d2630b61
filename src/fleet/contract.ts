/**
 * What the fleet is to whoever steers it: the HTTP API, the command line, the dashboard. Pure data and one interface;
 * it bundles for a browser. The implementation is `openFleet` in server-fleet.ts.
 *
 * Three figures are kept apart for each resource: asked (what the spec says), granted (what the host gives now) and used
 * (what is measured).
 */

import { z } from "zod";
import { namedKey } from "../machine/key-codes.ts";
import { screenSchema } from "./control-answers.ts";
import { type Screen, TOLD_EXIT_KINDS } from "./control-protocol.ts";
import { VM_OPERATIONS, VM_STATES } from "./lifecycle.ts";
import { nameSchema, sizeSchema, vmSpecSchema, type VmSpecInput, type VmUpdate } from "./vm-spec.ts";

const bytes = z.number().nonnegative();
/** Percent of one processor's time: 250 is two and a half processors. */
const percent = z.number().nonnegative();
const time = z.iso.datetime();

/** A VM's, project's or operation's lasting identity; names can change. */
export const idSchema = z.string().regex(/^[0-9a-f]{16}$/);

const allocation = (figure: z.ZodNumber) => z.object({ asked: figure, granted: figure, used: figure });
export const allocationSchema = allocation(z.number().nonnegative());
export type Allocation = z.infer<typeof allocationSchema>;

/** How a VM ends: as its process tells, or as the server finds it. */
export const EXIT_KINDS = [
  ...TOLD_EXIT_KINDS,
  /** The VM's process ended from outside: a signal, the host's lack of memory. */
  "process-lost",
  /** The host was restarted meanwhile. */
  "host-restarted",
] as const;
export const exitSchema = z.object({
  kind: z.enum(EXIT_KINDS),
  message: z.string().meta({ description: "one line for a person" }),
  time,
});
export type VmExit = z.infer<typeof exitSchema>;

/** One wall around a VM's process, as it is on this host. */
export const barrierSchema = z.object({
  name: z.enum([
    "no-new-privileges",
    "landlock",
    "own-uid",
    "node-permissions",
    "no-native-calls",
    "cpu-affinity",
    "cgroup-v2",
  ]),
  enforced: z.boolean(),
  detail: z.string().meta({ description: "how, or why not" }),
});
export type Barrier = z.infer<typeof barrierSchema>;

export { screenSchema };

const KEY_EXAMPLES =
  "a character, enter, esc, f1, up, ..., with ctrl-, alt- or shift- before it, as in ctrl-alt-delete";
/** Characters of one request for keys. */
export const MAX_KEY_TEXT = 256;
/** What is typed on a guest's keyboard, which has the US layout. */
export const keyPressesSchema = z.union([
  z.strictObject({
    text: z
      .string()
      .min(1)
      .max(MAX_KEY_TEXT)
      .meta({ description: "as a terminal sends it: characters, control characters, escape sequences of xterm" }),
  }),
  z.strictObject({
    keys: z
      .array(
        z
          .string()
          .min(1)
          .max(32)
          .refine((name) => namedKey(name) !== undefined, `no such key; wanted: ${KEY_EXAMPLES}`),
      )
      .min(1)
      .max(64)
      .meta({ description: `keys by name: ${KEY_EXAMPLES}` }),
  }),
]);
export type KeyPresses = z.infer<typeof keyPressesSchema>;

export const vmStatusSchema = z.object({
  id: idSchema,
  name: nameSchema,
  project: nameSchema,
  state: z.enum(VM_STATES),
  /** When it came into this state. */
  since: time,
  created: time,
  spec: vmSpecSchema,
  pid: z.int().positive().nullable(),
  engine: z.enum(["wasm", "kvm"]).nullable(),
  /** False where the process lives but does not answer. */
  responsive: z.boolean(),
  started: time.nullable(),
  uptimeSeconds: z.number().nonnegative(),
  /** How it last ended; null before that, and while it runs. */
  exit: exitSchema.nullable(),
  saved: z.boolean().meta({ description: "whether the next start goes on with a saved state" }),
  /** Restarts by policy since it was last started by a person. */
  restarts: z.int().nonnegative(),
  memory: allocationSchema.meta({
    description: "bytes; granted is what the host keeps free for it, used what is resident",
  }),
  cpu: allocationSchema.extend({ seconds: z.number().nonnegative() }).meta({
    description: "percent of one processor: reservation, present budget, measured use; seconds since its start",
  }),
  disk: allocationSchema.meta({
    description: "bytes: asked and granted are sizes, used is what the pool holds of them",
  }),
  guest: z.object({ instructions: z.number().nonnegative(), resets: z.int().nonnegative() }),
  confinement: z.array(barrierSchema),
});
export type VmStatus = z.infer<typeof vmStatusSchema>;

/** Who holds how much of a resource. */
export const holderSchema = z.object({ name: z.string(), amount: z.number().nonnegative() });
/** `details` of "no-resources" and "quota-exceeded". Amounts are bytes, percent of a processor, or a count. */
export const shortageSchema = z.object({
  resource: z.enum(["memory", "memory-reservation", "cpu-reservation", "disk", "vms"]),
  /** The host's name, a pool's or a project's. */
  where: z.string(),
  asked: z.number().nonnegative(),
  free: z.number().nonnegative(),
  total: z.number().nonnegative(),
  holders: z.array(holderSchema),
});
export type Shortage = z.infer<typeof shortageSchema>;

export const cpuPoolSchema = z.object({
  name: nameSchema,
  /** Numbers of host processors. */
  processors: z.array(z.int().nonnegative()).min(1),
  /** How many of them the pool may keep busy; at most as many as there are. */
  cores: z.number().positive(),
});
export type CpuPool = z.infer<typeof cpuPoolSchema>;
export const cpuPoolStatusSchema = cpuPoolSchema.extend({
  capacityPercent: percent,
  reservedPercent: percent,
  usedPercent: percent,
  vms: z.array(nameSchema),
});

export const hostInventorySchema = z.object({
  hostname: z.string(),
  version: z.string().meta({ description: "isola's" }),
  node: z.string(),
  kernel: z.string(),
  stateFolder: z.string(),
  started: time.meta({ description: "of the server" }),
  processors: z.object({ count: z.int().positive(), model: z.string(), usedPercent: percent }),
  memory: z.object({
    totalBytes: bytes,
    availableBytes: bytes,
    /** Kept for the host itself; not given out. */
    hostReserveBytes: bytes,
    /** Sum of RAM (limits) that may be given out: (total - reserve) * overcommit. */
    allocatableBytes: bytes,
    overcommit: z.number().min(1),
    limitBytes: bytes.meta({ description: "RAM of all VMs that are on" }),
    reservedBytes: bytes,
    usedBytes: bytes,
  }),
  pools: z.array(cpuPoolStatusSchema),
  disk: z.object({
    path: z.string(),
    totalBytes: bytes,
    freeBytes: bytes,
    /** What all disks together may come to hold. */
    quotaBytes: bytes,
    grantedBytes: bytes,
    usedBytes: bytes,
  }),
  engines: z.array(z.object({ name: z.enum(["wasm", "kvm"]), available: z.boolean(), reason: z.string() })),
  confinement: z.array(barrierSchema),
  vms: z.object({ total: z.int(), active: z.int() }),
});
export type HostInventory = z.infer<typeof hostInventorySchema>;

/** null: no limit. */
export const quotaSchema = z.strictObject({
  vms: z.int().nonnegative().nullable().default(null),
  memoryBytes: sizeSchema.nullable().default(null).meta({ description: "RAM of its VMs that are on" }),
  cpuReservationPercent: percent.nullable().default(null),
  diskBytes: sizeSchema.nullable().default(null),
});
export type Quota = z.infer<typeof quotaSchema>;
export const projectSchema = z.object({
  name: nameSchema,
  quota: quotaSchema,
  used: z.object({ vms: z.int(), memoryBytes: bytes, cpuReservationPercent: percent, diskBytes: bytes }),
});
export type Project = z.infer<typeof projectSchema>;

/** A spec to begin from: the fields of VmSpec, as they may be written, without the name. Checked when it is used. */
export const templateSchema = z.object({
  name: nameSchema,
  description: z.string().max(1000).default(""),
  spec: z.record(z.string(), z.json()),
});
export type Template = z.infer<typeof templateSchema>;

export const EVENT_KINDS = [
  "vm.created",
  "vm.state",
  "vm.updated",
  "vm.renamed",
  "vm.removed",
  "vm.reset",
  "operation",
  "project.changed",
  "project.removed",
  "template.changed",
  "template.removed",
  "pool.changed",
  "pool.removed",
  "server.started",
  "server.stopping",
] as const;
export const fleetEventSchema = z.object({
  /** Counts up, also over restarts of the server; gaps are possible. */
  sequence: z.int().positive(),
  time,
  kind: z.enum(EVENT_KINDS),
  /** The subject: a VM's id and name, or another's name. */
  id: z.string(),
  name: z.string(),
  project: z.string().nullable(),
  /** One line for a person. */
  message: z.string(),
  actor: z.string().nullable(),
  /** vm.state: {from, to, exit}; operation: an Operation. */
  data: z.json(),
});
export type FleetEvent = z.infer<typeof fleetEventSchema>;

export const operationSchema = z.object({
  id: idSchema,
  kind: z.enum(["create", ...VM_OPERATIONS]),
  vm: z.object({ id: idSchema, name: nameSchema }),
  project: nameSchema,
  actor: z.string().nullable(),
  state: z.enum(["running", "done", "failed"]),
  progress: z.object({
    step: z.string(),
    /** 0 to 1; null where it cannot be known. */
    fraction: z.number().min(0).max(1).nullable(),
    totalBytes: bytes.nullable(),
  }),
  started: time,
  ended: time.nullable(),
  error: z.object({ code: z.string(), message: z.string(), details: z.json() }).nullable(),
});
export type Operation = z.infer<typeof operationSchema>;

/** One measurement of a VM; rates are over the time since the one before. */
export const vmSampleSchema = z.object({
  time,
  cpuPercent: percent,
  /** What it may use at present: its share. */
  budgetPercent: percent,
  /** Wanted to run but was held back, in percent of the time. */
  throttledPercent: percent,
  memoryBytes: bytes,
  diskBytes: bytes,
  instructionsPerSecond: z.number().nonnegative(),
});
export type VmSample = z.infer<typeof vmSampleSchema>;
export const hostSampleSchema = z.object({ time, cpuPercent: percent, memoryUsedBytes: bytes, diskUsedBytes: bytes });
export type HostSample = z.infer<typeof hostSampleSchema>;

/** Of every operation: who asks, and a way to see it while it runs. */
export interface Action {
  /** For events and the audit log. */
  readonly actor?: string;
  /** Called once, before anything happens, with the operation as it begins; `Fleet.operation` then tells of it. */
  onOperation?(operation: Operation): void;
}

/** An open view of a VM's serial console. */
export interface ConsoleAttachment {
  /** Types into the guest; resolves when the VM's process has taken the bytes. */
  write(bytes: Uint8Array): Promise<void>;
  close(): void;
}

export interface ConsoleListener {
  /**
   * Bytes in order, replay first. While a returned promise is pending no more come; a watcher that falls behind by more
   * than the VM keeps (256 KiB) loses the oldest, and `onGap` tells how much.
   */
  onData(bytes: Uint8Array): void | Promise<void>;
  onGap?(lostBytes: number): void;
  /** The console is gone: the VM ended, or the reason why it cannot be followed. Called once, after the last byte. */
  onEnd(reason: string): void;
}

/** VMs are named by name or id. Every method rejects with a FleetError (fleet-error.ts). */
export interface Fleet {
  readonly stateFolder: string;
  host(): Promise<HostInventory>;

  list(): Promise<VmStatus[]>;
  inspect(vm: string): Promise<VmStatus>;
  /** Checks and records; starts nothing. `template` gives what the spec leaves out. */
  create(
    spec: VmSpecInput | Readonly<Record<string, unknown>>,
    action?: Action & { template?: string },
  ): Promise<VmStatus>;
  /** What `create` would answer, changing nothing: the parsed spec, or the refusal. */
  check(
    spec: VmSpecInput | Readonly<Record<string, unknown>>,
    action?: { template?: string },
  ): Promise<VmStatus["spec"]>;
  /**
   * Resolves once the guest's first instruction is about to run, or the next one where its state was saved; `cold`
   * drops such a state.
   */
  start(vm: string, action?: Action & { cold?: boolean }): Promise<VmStatus>;
  /** Saves the VM's whole state and switches it off; on failure it goes on. */
  save(vm: string, action?: Action): Promise<VmStatus>;
  pause(vm: string, action?: Action): Promise<VmStatus>;
  resume(vm: string, action?: Action): Promise<VmStatus>;
  /** Presses the power button, waits up to `graceSeconds` (default 10), then forces it off. */
  stop(vm: string, action?: Action & { graceSeconds?: number }): Promise<VmStatus>;
  /** As by the reset button. */
  reset(vm: string, action?: Action): Promise<VmStatus>;
  kill(vm: string, action?: Action): Promise<VmStatus>;
  /** Removes the VM and its disks. `force` kills it first. A VM that is not there: not-found. */
  remove(vm: string, action?: Action & { force?: boolean }): Promise<void>;
  rename(vm: string, name: string, action?: Action): Promise<VmStatus>;
  update(vm: string, change: VmUpdate | Readonly<Record<string, unknown>>, action?: Action): Promise<VmStatus>;

  console(vm: string, listener: ConsoleListener, options?: { replayBytes?: number }): Promise<ConsoleAttachment>;
  /** What the guest's VGA shows in text mode, a line each; null where it is in graphics or the VM is off. */
  screen(vm: string): Promise<Screen | null>;
  /** Presses keys of the guest's keyboard, each released before the next; a guest that is slow to read finds them later. */
  pressKeys(vm: string, keys: KeyPresses): Promise<void>;
  /** The console's kept text, also of a VM that is off: its last 1 MiB at the most, over restarts. */
  log(vm: string, options?: { tailBytes?: number }): Promise<Uint8Array>;
  /** Samples after `since` (ISO time), oldest first; ten minutes are kept. */
  samples(vm: string, since?: string): Promise<VmSample[]>;
  hostSamples(since?: string): Promise<HostSample[]>;

  projects(): Promise<Project[]>;
  putProject(name: string, quota: Partial<Quota>, action?: Action): Promise<Project>;
  /** Refused while it has VMs. */
  removeProject(name: string, action?: Action): Promise<void>;
  templates(): Promise<Template[]>;
  putTemplate(template: z.input<typeof templateSchema>, action?: Action): Promise<Template>;
  removeTemplate(name: string, action?: Action): Promise<void>;
  pools(): Promise<CpuPool[]>;
  putPool(pool: CpuPool, action?: Action): Promise<CpuPool>;
  removePool(name: string, action?: Action): Promise<void>;

  /** The newest first; those that ended are kept for an hour, 1,000 at the most. */
  operations(): Promise<Operation[]>;
  operation(id: string): Promise<Operation>;
  /** Kept events after `after`, oldest first, `limit` (default 1,000) at the most. */
  events(after?: number, limit?: number): Promise<FleetEvent[]>;
  /** Calls `listener` for each event from now on; the result ends it. */
  subscribe(listener: (event: FleetEvent) => void): () => void;

  /** Lets go of everything; VMs go on running, their shares frozen. */
  close(): Promise<void>;
}
