/** A fleet in memory, for tests of the API and the command line: it keeps the contract's rules and runs no guest. */

import { randomBytes } from "node:crypto";
import { z } from "zod";
import {
  type Action,
  type ConsoleAttachment,
  type ConsoleListener,
  type CpuPool,
  cpuPoolSchema,
  type Fleet,
  type FleetEvent,
  type HostInventory,
  type HostSample,
  type Operation,
  type Project,
  type KeyPresses,
  type Quota,
  quotaSchema,
  type Template,
  templateSchema,
  type VmSample,
  type VmStatus,
} from "../../fleet/contract.ts";
import type { Screen } from "../../fleet/control-protocol.ts";
import { FleetError } from "../../fleet/fleet-error.ts";
import { ACTIVE_STATES, admits, type VmOperation, type VmState } from "../../fleet/lifecycle.ts";
import { joinTemplate, type VmSpec, vmSpecSchema, vmUpdateSchema } from "../../fleet/vm-spec.ts";

const MEMORY_BYTES = 2 ** 33;
const LOG_LIMIT_BYTES = 2 ** 20;
const EVENT_LIMIT = 10_000;

interface FakeVm {
  status: VmStatus;
  log: Uint8Array;
  /** The keys pressed last. */
  typed: string;
  readonly watchers: Set<{ listener: ConsoleListener; queue: Promise<void> }>;
}

function parse<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new FleetError({
    code: "invalid-spec",
    message: z.prettifyError(result.error).replaceAll("\n", " "),
    details: {},
  });
}

const newId = (): string => randomBytes(8).toString("hex");
const now = (): string => new Date().toISOString();

export class FakeFleet implements Fleet {
  readonly stateFolder = "/nowhere";
  readonly #vms = new Map<string, FakeVm>();
  readonly #projects = new Map<string, Quota>([["default", quotaSchema.parse({})]]);
  readonly #templates = new Map<string, Template>();
  readonly #pools = new Map<string, CpuPool>([["default", { name: "default", processors: [0, 1], cores: 2 }]]);
  readonly #operations = new Map<string, Operation>();
  readonly #events: FleetEvent[] = [];
  readonly #listeners = new Set<(event: FleetEvent) => void>();
  /** How long each operation takes, in milliseconds. */
  operationMs = 0;
  /** Thrown by the next call of `list`, as a bug would be. */
  bug: Error | undefined;

  #find(vm: string): FakeVm {
    const found = this.#vms.get(vm) ?? [...this.#vms.values()].find(({ status }) => status.name === vm);
    if (found === undefined) throw new FleetError({ code: "not-found", message: `there is no VM ${vm}` });
    return found;
  }

  /** Tells the world of something. */
  emit(
    kind: FleetEvent["kind"],
    subject: { id: string; name: string; project: string | null },
    data: unknown = null,
    actor: string | null = null,
  ): void {
    const event: FleetEvent = {
      sequence: (this.#events.at(-1)?.sequence ?? 0) + 1,
      time: now(),
      kind,
      id: subject.id,
      name: subject.name,
      project: subject.project,
      message: `${kind} ${subject.name}`,
      actor,
      data: structuredClone(data) as FleetEvent["data"],
    };
    this.#events.push(event);
    if (this.#events.length > EVENT_LIMIT) this.#events.shift();
    for (const listener of this.#listeners) listener(event);
  }

  #enter({ status }: FakeVm, state: VmState): void {
    const from = status.state;
    status.state = state;
    status.since = now();
    const active = (ACTIVE_STATES as readonly VmState[]).includes(state);
    Object.assign(
      status,
      active
        ? { pid: 4242, engine: "wasm", started: status.started ?? now() }
        : { pid: null, engine: null, started: null },
    );
    this.emit("vm.state", status, { from, to: state, exit: null });
  }

  async #operate(
    name: string,
    kind: VmOperation,
    action: Action | undefined,
    work: (vm: FakeVm) => void,
  ): Promise<VmStatus> {
    const vm = this.#find(name);
    const needed = admits(kind, vm.status.state, vm.status.name);
    const operation: Operation = {
      id: newId(),
      kind,
      vm: { id: vm.status.id, name: vm.status.name },
      project: vm.status.project,
      actor: action?.actor ?? null,
      state: "running",
      progress: { step: kind, fraction: 0, totalBytes: null },
      started: now(),
      ended: null,
      error: null,
    };
    this.#operations.set(operation.id, operation);
    action?.onOperation?.(structuredClone(operation));
    this.emit("operation", vm.status, operation);
    if (this.operationMs > 0) {
      await new Promise((resolve) => setTimeout(resolve, this.operationMs / 2));
      operation.progress.fraction = 0.5;
      this.emit("operation", vm.status, operation);
      await new Promise((resolve) => setTimeout(resolve, this.operationMs / 2));
    }
    if (needed) work(vm);
    operation.state = "done";
    operation.progress.fraction = 1;
    operation.ended = now();
    this.emit("operation", vm.status, operation);
    return structuredClone(vm.status);
  }

  async host(): Promise<HostInventory> {
    const limitBytes = this.#used();
    return {
      hostname: "fake",
      version: "0.0.0",
      node: process.version,
      kernel: "Linux",
      stateFolder: this.stateFolder,
      started: now(),
      processors: { count: 2, model: "fake", usedPercent: 12.5 },
      memory: {
        totalBytes: MEMORY_BYTES,
        availableBytes: MEMORY_BYTES,
        hostReserveBytes: 0,
        allocatableBytes: MEMORY_BYTES,
        overcommit: 1,
        limitBytes,
        reservedBytes: limitBytes,
        usedBytes: limitBytes,
      },
      pools: [...this.#pools.values()].map((pool) => ({
        ...pool,
        capacityPercent: pool.cores * 100,
        reservedPercent: 0,
        usedPercent: 0,
        vms: [...this.#vms.values()].map(({ status }) => status.name),
      })),
      disk: {
        path: "/nowhere",
        totalBytes: 2 ** 40,
        freeBytes: 2 ** 39,
        quotaBytes: 2 ** 39,
        grantedBytes: 0,
        usedBytes: 0,
      },
      engines: [
        { name: "wasm", available: true, reason: "" },
        { name: "kvm", available: false, reason: "not here" },
      ],
      confinement: [{ name: "landlock", enforced: true, detail: "ABI 3" }],
      vms: { total: this.#vms.size, active: 0 },
    };
  }

  #used(): number {
    return [...this.#vms.values()].reduce((sum, { status }) => sum + status.spec.memoryBytes, 0);
  }

  async list(): Promise<VmStatus[]> {
    if (this.bug !== undefined) throw this.bug;
    return [...this.#vms.values()].map(({ status }) => structuredClone(status));
  }

  async inspect(vm: string): Promise<VmStatus> {
    return structuredClone(this.#find(vm).status);
  }

  async check(spec: object, action: { template?: string } = {}): Promise<VmSpec> {
    const template = action.template === undefined ? {} : this.#template(action.template).spec;
    const whole = parse(vmSpecSchema, joinTemplate(template, spec as Record<string, unknown>));
    if ([...this.#vms.values()].some(({ status }) => status.name === whole.name)) {
      throw new FleetError({ code: "name-taken", message: `there is a VM ${whole.name}` });
    }
    if (!this.#projects.has(whole.project))
      throw new FleetError({ code: "not-found", message: `there is no project ${whole.project}` });
    const free = MEMORY_BYTES - this.#used();
    if (whole.memoryBytes > free) {
      throw new FleetError({
        code: "no-resources",
        message: `not enough memory: asked for ${whole.memoryBytes}, free ${free}`,
        details: {
          resource: "memory",
          where: "fake",
          asked: whole.memoryBytes,
          free,
          total: MEMORY_BYTES,
          holders: [...this.#vms.values()].map(({ status }) => ({
            name: status.name,
            amount: status.spec.memoryBytes,
          })),
        },
      });
    }
    return whole;
  }

  async create(asked: object, action: Action & { template?: string } = {}): Promise<VmStatus> {
    const spec = await this.check(asked, action);
    const none = { asked: 0, granted: 0, used: 0 };
    const status: VmStatus = {
      id: newId(),
      name: spec.name,
      project: spec.project,
      state: "stopped",
      since: now(),
      created: now(),
      spec,
      pid: null,
      engine: null,
      responsive: true,
      started: null,
      uptimeSeconds: 0,
      exit: null,
      saved: false,
      restarts: 0,
      memory: { asked: spec.memoryBytes, granted: spec.memoryBytes, used: 0 },
      cpu: { ...none, seconds: 0 },
      disk: none,
      guest: { instructions: 0, resets: 0 },
      confinement: [],
    };
    this.#vms.set(status.id, { status, log: new Uint8Array(), typed: "", watchers: new Set() });
    this.emit("vm.created", status, null, action.actor ?? null);
    return structuredClone(status);
  }

  start = (vm: string, action?: Action): Promise<VmStatus> =>
    this.#operate(vm, "start", action, (found) => {
      this.#enter(found, "running");
      found.status.saved = false;
      this.print(found.status.id, `booting ${found.status.name}\r\n`);
    });
  pause = (vm: string, action?: Action): Promise<VmStatus> =>
    this.#operate(vm, "pause", action, (found) => this.#enter(found, "paused"));
  resume = (vm: string, action?: Action): Promise<VmStatus> =>
    this.#operate(vm, "resume", action, (found) => this.#enter(found, "running"));
  reset = (vm: string, action?: Action): Promise<VmStatus> =>
    this.#operate(vm, "reset", action, (found) => this.emit("vm.reset", found.status));
  save = (vm: string, action?: Action): Promise<VmStatus> =>
    this.#operate(vm, "save", action, (found) => {
      this.#off(found);
      found.status.saved = true;
    });
  stop = (vm: string, action?: Action): Promise<VmStatus> =>
    this.#operate(vm, "stop", action, (found) => this.#off(found));
  kill = (vm: string, action?: Action): Promise<VmStatus> =>
    this.#operate(vm, "kill", action, (found) => this.#off(found));

  #off(vm: FakeVm): void {
    this.#enter(vm, "stopped");
    for (const { listener } of vm.watchers) listener.onEnd("the VM was switched off");
    vm.watchers.clear();
  }

  async remove(vm: string, action: Action & { force?: boolean } = {}): Promise<void> {
    if (action.force === true) await this.kill(vm);
    await this.#operate(vm, "remove", action, (found) => this.#vms.delete(found.status.id));
    this.emit("vm.removed", { id: vm, name: vm, project: null });
  }

  rename(vm: string, name: string, action?: Action): Promise<VmStatus> {
    return this.#operate(vm, "rename", action, (found) => {
      if ([...this.#vms.values()].some(({ status }) => status.name === name && status !== found.status)) {
        throw new FleetError({ code: "name-taken", message: `there is a VM ${name}` });
      }
      found.status.name = name;
      found.status.spec.name = name;
    });
  }

  update(vm: string, change: object, action?: Action): Promise<VmStatus> {
    const { cpu, ...rest } = parse(vmUpdateSchema, change);
    return this.#operate(vm, "update", action, (found) => {
      const { spec } = found.status;
      found.status.spec = parse(vmSpecSchema, { ...spec, ...rest, cpu: { ...spec.cpu, ...cpu } });
      found.status.project = found.status.spec.project;
    });
  }

  /** What the guest prints. */
  print(vm: string, text: string | Uint8Array): void {
    const found = this.#find(vm);
    const bytes = Buffer.from(text as string);
    found.log = Buffer.concat([found.log, bytes]).subarray(-LOG_LIMIT_BYTES);
    for (const watcher of found.watchers) {
      watcher.queue = watcher.queue.then(() => watcher.listener.onData(bytes));
    }
  }

  watchers(vm: string): number {
    return this.#find(vm).watchers.size;
  }

  async console(
    vm: string,
    listener: ConsoleListener,
    options: { replayBytes?: number } = {},
  ): Promise<ConsoleAttachment> {
    const found = this.#find(vm);
    if (!(ACTIVE_STATES as readonly VmState[]).includes(found.status.state)) {
      throw new FleetError({
        code: "illegal-transition",
        message: `${vm} is ${found.status.state}: it has no console`,
      });
    }
    const replay = found.log.subarray(Math.max(0, found.log.length - (options.replayBytes ?? LOG_LIMIT_BYTES)));
    const watcher = { listener, queue: Promise.resolve() };
    if (replay.length > 0) watcher.queue = watcher.queue.then(() => listener.onData(replay));
    found.watchers.add(watcher);
    return {
      // The guest echoes, as a shell does.
      write: async (bytes) => this.print(found.status.id, bytes),
      close: () => found.watchers.delete(watcher),
    };
  }

  async log(vm: string, options: { tailBytes?: number } = {}): Promise<Uint8Array> {
    const { log } = this.#find(vm);
    return log.slice(Math.max(0, log.length - (options.tailBytes ?? LOG_LIMIT_BYTES)));
  }

  /** Shows what was typed last. */
  async screen(vm: string): Promise<Screen | null> {
    const { status, typed } = this.#find(vm);
    const line = `typed: ${typed}`;
    const screen = { columns: 80, rows: 1, lines: [line], painted: [line.padEnd(80)], cursor: { column: 0, row: 0 } };
    return await Promise.resolve(status.pid === null ? null : screen);
  }

  async pressKeys(vm: string, keys: KeyPresses): Promise<void> {
    const found = this.#find(vm);
    if (found.status.pid === null) {
      throw new FleetError({ code: "illegal-transition", message: `${found.status.name} has no keyboard: it is off` });
    }
    found.typed = "text" in keys ? keys.text : keys.keys.join(" ");
    await Promise.resolve();
  }

  async samples(vm: string): Promise<VmSample[]> {
    this.#find(vm);
    return [
      {
        time: now(),
        cpuPercent: 1,
        budgetPercent: 100,
        throttledPercent: 0,
        memoryBytes: 1,
        diskBytes: 0,
        instructionsPerSecond: 5,
      },
    ];
  }

  async hostSamples(): Promise<HostSample[]> {
    return [{ time: now(), cpuPercent: 1, memoryUsedBytes: 1, diskUsedBytes: 0 }];
  }

  async projects(): Promise<Project[]> {
    return [...this.#projects].map(([name, quota]) => ({
      name,
      quota,
      used: { vms: 0, memoryBytes: 0, cpuReservationPercent: 0, diskBytes: 0 },
    }));
  }

  async putProject(name: string, quota: Partial<Quota>): Promise<Project> {
    const whole = parse(quotaSchema, { ...this.#projects.get(name), ...quota });
    this.#projects.set(name, whole);
    return { name, quota: whole, used: { vms: 0, memoryBytes: 0, cpuReservationPercent: 0, diskBytes: 0 } };
  }

  async removeProject(name: string): Promise<void> {
    if (!this.#projects.delete(name))
      throw new FleetError({ code: "not-found", message: `there is no project ${name}` });
  }

  #template(name: string): Template {
    const found = this.#templates.get(name);
    if (found === undefined) throw new FleetError({ code: "not-found", message: `there is no template ${name}` });
    return found;
  }

  async templates(): Promise<Template[]> {
    return [...this.#templates.values()];
  }

  async putTemplate(template: z.input<typeof templateSchema>): Promise<Template> {
    const whole = parse(templateSchema, template);
    this.#templates.set(whole.name, whole);
    return whole;
  }

  async removeTemplate(name: string): Promise<void> {
    this.#template(name);
    this.#templates.delete(name);
  }

  async pools(): Promise<CpuPool[]> {
    return [...this.#pools.values()];
  }

  async putPool(pool: CpuPool): Promise<CpuPool> {
    const whole = parse(cpuPoolSchema, pool);
    this.#pools.set(whole.name, whole);
    return whole;
  }

  async removePool(name: string): Promise<void> {
    if (name === "default") throw new FleetError({ code: "in-use", message: "the pool default stays" });
    if (!this.#pools.delete(name)) throw new FleetError({ code: "not-found", message: `there is no pool ${name}` });
  }

  async operations(): Promise<Operation[]> {
    return [...this.#operations.values()].reverse().map((operation) => structuredClone(operation));
  }

  async operation(id: string): Promise<Operation> {
    const found = this.#operations.get(id);
    if (found === undefined) throw new FleetError({ code: "not-found", message: `there is no operation ${id}` });
    return structuredClone(found);
  }

  async events(after = 0, limit = 1000): Promise<FleetEvent[]> {
    return this.#events.filter(({ sequence }) => sequence > after).slice(0, limit);
  }

  subscribe(listener: (event: FleetEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get subscribers(): number {
    return this.#listeners.size;
  }

  async close(): Promise<void> {}
}
