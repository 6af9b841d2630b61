/** The fleet on this host: the contract's operations over supervisor, catalog, record and host. */

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { ImageStore } from "../images/store.ts";
import type { ProgressListener } from "../images/progress.ts";
import { keyCodes, namedKey } from "../machine/key-codes.ts";
import { admitExistence, admitRun, type Capacity } from "./admission.ts";
import { Catalog, notFound, parseInput } from "./catalog.ts";
import { type Delegation, takeDelegation } from "./cgroup-delegation.ts";
import { planWalls, type Walls } from "./confinement.ts";
import { readConsoleLog } from "./console-log.ts";
import type {
  Action,
  ConsoleAttachment,
  ConsoleListener,
  CpuPool,
  Fleet,
  FleetEvent,
  HostInventory,
  HostSample,
  KeyPresses,
  Operation,
  Project,
  Quota,
  Template,
  VmSample,
  VmStatus,
} from "./contract.ts";
import { MAX_KEY_CODES, type Screen } from "./control-protocol.ts";
import { CpuScheduler, SCHEDULE_MS } from "./cpu-scheduler.ts";
import { HostEngines } from "./host-engines.ts";
import { FleetError } from "./fleet-error.ts";
import { diskUse, hostInventory, isActive, usedPercent, vmStatus } from "./fleet-status.ts";
import { bindProcess, busyMs, fileSystem, hostMemory, processors, residentBytes } from "./host-facts.ts";
import { admits, type VmOperation } from "./lifecycle.ts";
import { OperationLog } from "./operation-log.ts";
import { FleetRecord } from "./record.ts";
import { SAMPLE_MS, Samples } from "./samples.ts";
import { defaultStateFolder, StateFolder } from "./state-folder.ts";
import { type Entry, Supervisor } from "./supervisor.ts";
import { makeVmProgram } from "./vm-program.ts";
import { VmGroups } from "./vm-group.ts";
import type { VmRun } from "./vm-run.ts";
import { VM_FILES } from "./vm-spawn.ts";
import {
  LIVE_FIELDS,
  nameSchema,
  PERCENT_PER_PROCESSOR,
  type VmSpec,
  vmSpecSchema,
  vmUpdateSchema,
} from "./vm-spec.ts";

const MIB = 2 ** 20;
const DEFAULT_GRACE_SECONDS = 10;
/** Left to the host: so much, or this part of its memory, whichever is more. */
const HOST_RESERVE_BYTES = 512 * MIB;
const HOST_RESERVE_PART = 0.05;
const DISK_RESERVE_PART = 0.05;
const DEFAULT_REPLAY_BYTES = 64 * 1024;
const MAX_LOG_BYTES = MIB;

export interface FleetOptions {
  /** Default: `/var/lib/isola` for root, else `$XDG_STATE_HOME/isola`. */
  readonly stateFolder?: string;
  readonly images?: Pick<ImageStore, "locate">;
  /** RAM that may be given out, in bytes; default: the host's less a reserve. */
  readonly memoryBytes?: number;
  /** How often RAM may be given out, if reservations allow it; default 1: what is given is there. */
  readonly overcommit?: number;
  /** What all disks may come to hold, in bytes; default: the file system's free space and what they hold, less 5 %. */
  readonly diskBytes?: number;
  /**
   * Folder of a control group that is the server's, in which each VM gets one of its own; `none`: none are made.
   * Default: `$ISOLA_CGROUP`, else the server's own group where that is delegated to it.
   */
  readonly cgroup?: string;
}

/** Opens the state folder, finds the VMs that run, starts those that are to. @throws FleetError `in-use`, `host-failed` */
export async function openFleet(options: FleetOptions = {}): Promise<Fleet> {
  const folder = await StateFolder.open(options.stateFolder ?? defaultStateFolder());
  try {
    const delegation = delegated(options.cgroup ?? process.env["ISOLA_CGROUP"]);
    const record = new FleetRecord(folder.record);
    const fleet = new FleetServer(folder, record, await makeVmProgram(folder.programs), delegation, options);
    await fleet.open();
    return fleet;
  } catch (error) {
    await folder.close();
    throw error;
  }
}

/** @throws FleetError `host-failed` where a group was named that is none of the server's */
function delegated(named: string | undefined): Delegation {
  const folder = named === "" ? undefined : named;
  const delegation = takeDelegation(folder);
  if (folder === undefined || folder === "none" || "folder" in delegation) return delegation;
  throw new FleetError({
    code: "host-failed",
    message: `using the control group ${folder}: ${delegation.reason}; wanted: a folder of cgroup2 that this user may write; name another by --cgroup, or none`,
  });
}

class FleetServer implements Fleet {
  readonly #folder: StateFolder;
  readonly #record: FleetRecord;
  readonly #walls: Walls;
  readonly #engines = new HostEngines();
  readonly #catalog: Catalog;
  readonly #supervisor: Supervisor;
  readonly #operations: OperationLog;
  readonly #processors = processors();
  readonly #started = new Date().toISOString();
  readonly #listeners = new Set<(event: FleetEvent) => void>();
  readonly #scheduler = new CpuScheduler();
  readonly #hostSamples = new Samples<HostSample>();
  readonly #capacity: Capacity;
  readonly #hostReserveBytes: number;
  readonly #timers: ReturnType<typeof setInterval>[] = [];
  /** Ids of VMs whose folders and disks are being made. */
  readonly #making = new Set<string>();
  #busy = { ms: busyMs(), at: performance.now() };
  #busyPercent = 0;

  constructor(
    folder: StateFolder,
    record: FleetRecord,
    program: string,
    delegation: Delegation,
    options: FleetOptions,
  ) {
    this.#folder = folder;
    this.#record = record;
    this.#walls = planWalls(folder.programs, delegation);
    const { totalBytes } = hostMemory();
    const memoryBytes =
      options.memoryBytes ?? totalBytes - Math.max(HOST_RESERVE_BYTES, totalBytes * HOST_RESERVE_PART);
    this.#hostReserveBytes = Math.max(0, totalBytes - memoryBytes);
    const vms = record.vms();
    const held = vms.reduce((sum, { id, spec }) => sum + diskUse(folder.disksOf(id), spec), 0);
    const room = (fileSystem(folder.disks).freeBytes + held) * (1 - DISK_RESERVE_PART);
    this.#capacity = {
      hostname: hostname(),
      memoryBytes,
      overcommit: options.overcommit ?? 1,
      diskBytes: options.diskBytes ?? Math.floor(room),
    };
    this.#operations = new OperationLog((operation) => this.#operationChanged(operation));
    this.#supervisor = new Supervisor({
      record,
      folder,
      program,
      images: options.images ?? new ImageStore(),
      walls: this.#walls,
      engines: this.#engines,
      capacity: this.#capacity,
      catalog: () => this.#catalog,
      groups: "folder" in delegation ? new VmGroups(delegation, folder.path) : undefined,
      processors: this.#processors.length,
      emit: (event, entry, actor) => this.#emitVm(event, entry, actor),
    });
    this.#catalog = new Catalog({
      record,
      processors: this.#processors,
      capacity: this.#capacity,
      tenants: () => this.#supervisor.members(),
      emit: ({ kind, name, message }, action) =>
        this.#emit({ kind, id: name, name, project: null, message, data: null }, action),
      poolChanged: (pool) => this.#rebind(pool),
    });
  }

  get stateFolder(): string {
    return this.#folder.path;
  }

  async open(): Promise<void> {
    await this.#supervisor.reconcile();
    this.#emit({
      kind: "server.started",
      id: "",
      name: hostname(),
      project: null,
      message: "the server started",
      data: null,
    });
    // The one that keeps a process with an open fleet alive.
    this.#timers.push(setInterval(() => this.#schedule(), SCHEDULE_MS));
    this.#timers.push(setInterval(() => this.#sample(), SAMPLE_MS).unref());
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#emit({
      kind: "server.stopping",
      id: "",
      name: hostname(),
      project: null,
      message: "the server ends; VMs go on",
      data: null,
    });
    this.#supervisor.close();
    this.#listeners.clear();
    this.#record.close();
    await this.#folder.close();
  }

  // -- events ---------------------------------------------------------------------------------------------------------

  #emit(event: Omit<FleetEvent, "sequence" | "time" | "actor">, action?: Action): void {
    const added = this.#record.addEvent({ ...event, time: new Date().toISOString(), actor: action?.actor ?? null });
    this.#publish(added);
  }

  #publish(event: FleetEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #emitVm(
    event: { kind: FleetEvent["kind"]; message: string; data?: FleetEvent["data"] },
    { record }: Entry,
    actor?: string,
  ): void {
    const { id, name, spec } = record;
    this.#emit(
      { ...event, id, name, project: spec.project, data: event.data ?? null },
      actor === undefined ? {} : { actor },
    );
  }

  #operationChanged(operation: Operation): void {
    const { kind, vm, project, state, actor, error } = operation;
    const message = `${kind} ${vm.name}: ${state === "failed" ? (error?.message ?? state) : state}`;
    const data = operation as unknown as FleetEvent["data"];
    this.#emit({ kind: "operation", ...vm, project, message, data }, actor === null ? {} : { actor });
  }

  async events(after = 0, limit = 1000): Promise<FleetEvent[]> {
    return await Promise.resolve([...this.#record.events(after, Math.min(Math.max(limit, 0), 10_000))]);
  }

  subscribe(listener: (event: FleetEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async operations(): Promise<Operation[]> {
    return await Promise.resolve(this.#operations.list());
  }

  async operation(id: string): Promise<Operation> {
    const operation = this.#operations.find(id);
    if (operation === undefined) throw notFound("operation", id, "those that ended are kept for an hour");
    return await Promise.resolve(operation);
  }

  // -- what there is --------------------------------------------------------------------------------------------------

  #entry(vm: string): Entry {
    const entry = this.#supervisor.find(vm);
    if (entry === undefined) throw notFound("VM", vm, "see the list of VMs");
    return entry;
  }

  #status({ record, run }: Entry): VmStatus {
    const pool = this.#catalog.pool(record.spec.cpu.pool);
    // Asked only where it is shown.
    const saved = !isActive(record.state) && this.#folder.isSaved(record.id);
    return vmStatus({ record, run, pool, diskFolder: this.#folder.disksOf(record.id), saved });
  }

  async list(): Promise<VmStatus[]> {
    return await Promise.resolve(this.#supervisor.entries.map((entry) => this.#status(entry)));
  }

  async inspect(vm: string): Promise<VmStatus> {
    return await Promise.resolve(this.#status(this.#entry(vm)));
  }

  async host(): Promise<HostInventory> {
    const inventory = hostInventory({
      stateFolder: this.stateFolder,
      started: this.#started,
      capacity: this.#capacity,
      hostReserveBytes: this.#hostReserveBytes,
      walls: this.#walls,
      engines: this.#engines.facts(),
      pools: this.#catalog.pools(),
      vms: this.#supervisor.entries,
      processors: this.#processors,
      busyPercent: this.#busyPercent,
      diskFolder: this.#folder.disks,
      diskFolderOf: (id) => this.#folder.disksOf(id),
    });
    return await Promise.resolve(inventory);
  }

  // -- making, changing, removing ---------------------------------------------------------------------------------------

  #parse(input: unknown, template: string | undefined): VmSpec {
    const base = template === undefined ? {} : this.#catalog.template(template).spec;
    const name = typeof input === "object" && input !== null && "name" in input ? String(input.name).slice(0, 80) : "";
    const merged = typeof input === "object" && input !== null ? { ...base, ...input } : input;
    const spec = parseInput(vmSpecSchema, merged, `VM ${JSON.stringify(name)}`);
    this.#nameIsFree(spec.name, undefined);
    this.#refersTo(spec);
    admitExistence(
      { action: "create", id: undefined, spec, tenants: this.#supervisor.members() },
      this.#capacity,
      this.#catalog.quota(spec.project),
    );
    return spec;
  }

  #nameIsFree(name: string, except: Entry | undefined): void {
    const holder = this.#supervisor.find(name);
    if (holder === undefined || holder === except) return;
    throw new FleetError({
      code: "name-taken",
      message: `the name ${name} is taken by a VM that is ${holder.record.state}; choose another, or remove that one`,
    });
  }

  #refersTo(spec: VmSpec): void {
    if (!this.#catalog.hasProject(spec.project)) throw notFound("project", spec.project, "make it first");
    if (this.#catalog.pool(spec.cpu.pool) === undefined) throw notFound("CPU pool", spec.cpu.pool, "make it first");
  }

  async check(input: unknown, options: { template?: string } = {}): Promise<VmSpec> {
    return await Promise.resolve(this.#parse(input, options.template));
  }

  async create(input: unknown, action: Action & { template?: string } = {}): Promise<VmStatus> {
    const spec = this.#parse(input, action.template);
    const id = randomBytes(8).toString("hex");
    const draft = this.#record.draftVm(id, spec, new Date().toISOString());
    // Its name and what it holds count from now on.
    const entry = this.#supervisor.add(draft);
    this.#making.add(id);
    return await this.#operations.run(
      "create",
      { id, name: spec.name, project: spec.project },
      action,
      async (progress) => {
        try {
          if (spec.disks.length > 0) progress({ step: "making its disks" });
          await this.#folder.make(id, spec.disks);
          this.#record.madeVm(id);
        } catch (cause) {
          this.#supervisor.forget(entry);
          this.#record.removeVm(id);
          await this.#folder.remove(id).catch(() => undefined);
          throw hostFailure(`cannot create ${spec.name}`, cause);
        } finally {
          this.#making.delete(id);
        }
        this.#emitVm({ kind: "vm.created", message: `${spec.name} was created` }, entry, action.actor);
        return this.#status(entry);
      },
    );
  }

  async #do(
    kind: VmOperation,
    vm: string,
    action: Action | undefined,
    work: (entry: Entry, progress: ProgressListener) => Promise<void>,
  ): Promise<VmStatus> {
    const entry = this.#entry(vm);
    const { id, name, spec } = entry.record;
    if (this.#making.has(id)) {
      throw new FleetError({
        code: "illegal-transition",
        message: `cannot ${kind} ${name}: it is being created; try again once it is`,
      });
    }
    return await this.#operations.run(kind, { id, name, project: spec.project }, action, async (progress) => {
      await work(entry, progress);
      return this.#status(entry);
    });
  }

  async start(vm: string, action: Action & { cold?: boolean } = {}): Promise<VmStatus> {
    return await this.#do("start", vm, action, (entry, progress) =>
      this.#supervisor.start(entry, progress, action.cold === true),
    );
  }
  async save(vm: string, action?: Action): Promise<VmStatus> {
    return await this.#do("save", vm, action, (entry) => this.#supervisor.save(entry));
  }
  async pause(vm: string, action?: Action): Promise<VmStatus> {
    return await this.#do("pause", vm, action, (entry) => this.#supervisor.ask(entry, "pause"));
  }
  async resume(vm: string, action?: Action): Promise<VmStatus> {
    return await this.#do("resume", vm, action, (entry) => this.#supervisor.ask(entry, "resume"));
  }
  async reset(vm: string, action?: Action): Promise<VmStatus> {
    return await this.#do("reset", vm, action, (entry) => this.#supervisor.ask(entry, "reset"));
  }
  async stop(vm: string, action: Action & { graceSeconds?: number } = {}): Promise<VmStatus> {
    const graceMs = Math.max(0, action.graceSeconds ?? DEFAULT_GRACE_SECONDS) * 1000;
    return await this.#do("stop", vm, action, (entry) => this.#supervisor.stop(entry, graceMs));
  }
  async kill(vm: string, action?: Action): Promise<VmStatus> {
    return await this.#do("kill", vm, action, (entry) => this.#supervisor.kill(entry));
  }

  async remove(vm: string, action: Action & { force?: boolean } = {}): Promise<void> {
    await this.#do("remove", vm, action, async (entry) => {
      if (action.force === true) await this.#supervisor.kill(entry);
      if (!admits("remove", entry.record.state, entry.record.name)) return;
      await this.#supervisor.remove(entry);
      this.#emitVm({ kind: "vm.removed", message: `${entry.record.name} was removed` }, entry, action.actor);
    });
  }

  async rename(vm: string, name: string, action?: Action): Promise<VmStatus> {
    return await this.#do("rename", vm, action, async (entry) => {
      const former = entry.record.name;
      admits("rename", entry.record.state, former);
      parseInput(nameSchema, name, `name ${JSON.stringify(name.slice(0, 80))}`);
      if (name === former) return;
      this.#nameIsFree(name, entry);
      this.#supervisor.change(entry, { spec: { ...entry.record.spec, name } });
      const message = `${former} is now called ${name}`;
      this.#emitVm({ kind: "vm.renamed", message, data: { from: former } }, entry, action?.actor);
      await Promise.resolve();
    });
  }

  async update(vm: string, input: unknown, action?: Action): Promise<VmStatus> {
    return await this.#do("update", vm, action, async (entry) => {
      const { name, spec: former, state, id } = entry.record;
      const change = parseInput(vmUpdateSchema, input, `change of ${name}`);
      admits("update", state, name);
      const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
      const merged = { ...former, ...given, cpu: { ...former.cpu, ...change.cpu } };
      const spec = parseInput(vmSpecSchema, merged, `change of ${name}`);
      const on = isActive(state);
      const live: readonly string[] = LIVE_FIELDS;
      const offline = Object.keys(given).filter((field) => !live.includes(field));
      if (on && (offline.length > 0 || spec.cpu.model !== former.cpu.model)) {
        const fields = offline.length > 0 ? offline.join(", ") : "cpu.model";
        throw new FleetError({
          code: "illegal-transition",
          message: `cannot change ${fields} of ${name}: it is ${state}, wanted: stopped; stop it first`,
          details: { operation: "update", state, wanted: ["stopped", "failed"] },
        });
      }
      this.#refersTo(spec);
      shrinksNoDisk(former, spec);
      const tenants = this.#supervisor.members();
      const quota = this.#catalog.quota(spec.project);
      admitExistence({ action: "change", id, spec, tenants }, this.#capacity, quota);
      const pool = this.#catalog.pool(spec.cpu.pool);
      if (on) admitRun({ action: "change", id, spec, tenants }, this.#capacity, pool, quota);
      this.#supervisor.change(entry, { spec });
      if (!on)
        await this.#folder.shape(id, spec.disks).catch((cause: unknown) => {
          throw hostFailure(`cannot change the disks of ${name}`, cause);
        });
      if (entry.run !== undefined) {
        if (spec.cpu.pool !== former.cpu.pool && pool !== undefined) bindProcess(entry.run.pid, pool.processors);
        await entry.run.request({ do: "settings", rebootOnReset: spec.rebootOnReset });
        this.#supervisor.share(entry);
        this.#schedule();
      }
      this.#emitVm(
        { kind: "vm.updated", message: `${name} was changed: ${Object.keys(given).join(", ")}` },
        entry,
        action?.actor,
      );
    });
  }

  // -- console, screen, measurements ------------------------------------------------------------------------------------

  #running(vm: string, what: string): VmRun {
    const { record, run } = this.#entry(vm);
    if (run !== undefined) return run;
    throw new FleetError({
      code: "illegal-transition",
      message: `${record.name} has no ${what}: it is ${record.state}, wanted: running; start it, or see its log`,
    });
  }

  async console(
    vm: string,
    listener: ConsoleListener,
    options: { replayBytes?: number } = {},
  ): Promise<ConsoleAttachment> {
    const control = await this.#running(vm, "console").openConsole();
    return await control.console(listener, Math.max(0, options.replayBytes ?? DEFAULT_REPLAY_BYTES));
  }

  async log(vm: string, options: { tailBytes?: number } = {}): Promise<Uint8Array> {
    const path = `${this.#folder.vm(this.#entry(vm).record.id)}/${VM_FILES.log}`;
    return await Promise.resolve(readConsoleLog(path, Math.min(options.tailBytes ?? MAX_LOG_BYTES, MAX_LOG_BYTES)));
  }

  async screen(vm: string): Promise<Screen | null> {
    const { run } = this.#entry(vm);
    return run === undefined ? null : await run.screen();
  }

  async pressKeys(vm: string, keys: KeyPresses): Promise<void> {
    const run = this.#running(vm, "keyboard");
    const codes =
      "text" in keys
        ? [...keyCodes(new TextEncoder().encode(keys.text))]
        : keys.keys.flatMap((name) => [...(namedKey(name) ?? [])]);
    for (let at = 0; at < codes.length; at += MAX_KEY_CODES) {
      await run.request({ do: "keys", codes: codes.slice(at, at + MAX_KEY_CODES) });
    }
  }

  async samples(vm: string, since?: string): Promise<VmSample[]> {
    return await Promise.resolve(this.#entry(vm).samples.after(since));
  }

  async hostSamples(since?: string): Promise<HostSample[]> {
    return await Promise.resolve(this.#hostSamples.after(since));
  }

  #sample(): void {
    const time = new Date().toISOString();
    let [memoryUsedBytes, diskUsedBytes] = [0, 0];
    for (const { record, run, samples } of this.#supervisor.entries) {
      const diskBytes = diskUse(this.#folder.disksOf(record.id), record.spec);
      diskUsedBytes += diskBytes;
      if (run === undefined) continue;
      const memoryBytes = residentBytes(run.pid);
      memoryUsedBytes += memoryBytes;
      const capacity = (this.#catalog.pool(record.spec.cpu.pool)?.cores ?? 0) * PERCENT_PER_PROCESSOR;
      samples.add({
        time,
        cpuPercent: usedPercent(run),
        budgetPercent: run.budgetPercent ?? Math.min(record.spec.cpu.capPercent ?? Infinity, capacity),
        throttledPercent: run.use?.throttledPercent ?? 0,
        memoryBytes,
        diskBytes,
        instructionsPerSecond: run.use?.instructionsPerSecond ?? 0,
      });
    }
    const [ms, at] = [busyMs(), performance.now()];
    this.#busyPercent = Math.max(0, ((ms - this.#busy.ms) / (at - this.#busy.at)) * 100);
    this.#busy = { ms, at };
    this.#hostSamples.add({ time, cpuPercent: this.#busyPercent, memoryUsedBytes, diskUsedBytes });
  }

  // -- processor time ---------------------------------------------------------------------------------------------------

  #schedule(): void {
    const pools = new Map(this.#catalog.pools().map((pool) => [pool.name, pool]));
    const byPool = Map.groupBy(
      this.#supervisor.entries.flatMap(({ run, record }) => (run === undefined ? [] : [{ run, cpu: record.spec.cpu }])),
      ({ cpu }) => cpu.pool,
    );
    for (const [name, vms] of byPool) {
      const pool = pools.get(name);
      if (pool !== undefined) this.#scheduler.schedule(pool, vms);
    }
  }

  #rebind(pool: CpuPool): void {
    for (const entry of this.#supervisor.entries) {
      const { record, run } = entry;
      if (run === undefined || record.spec.cpu.pool !== pool.name) continue;
      bindProcess(run.pid, pool.processors);
      this.#supervisor.share(entry);
    }
    this.#schedule();
  }

  // -- catalog ----------------------------------------------------------------------------------------------------------

  async projects(): Promise<Project[]> {
    return await Promise.resolve(this.#catalog.projects());
  }
  async putProject(name: string, quota: Partial<Quota>, action?: Action): Promise<Project> {
    return await Promise.resolve(this.#catalog.putProject(name, quota, action));
  }
  async removeProject(name: string, action?: Action): Promise<void> {
    await Promise.resolve(this.#catalog.removeProject(name, action));
  }
  async templates(): Promise<Template[]> {
    return await Promise.resolve(this.#record.templates());
  }
  async putTemplate(template: unknown, action?: Action): Promise<Template> {
    return await Promise.resolve(this.#catalog.putTemplate(template, action));
  }
  async removeTemplate(name: string, action?: Action): Promise<void> {
    await Promise.resolve(this.#catalog.removeTemplate(name, action));
  }
  async pools(): Promise<CpuPool[]> {
    return await Promise.resolve(this.#catalog.pools());
  }
  async putPool(pool: CpuPool, action?: Action): Promise<CpuPool> {
    return await Promise.resolve(this.#catalog.putPool(pool, action));
  }
  async removePool(name: string, action?: Action): Promise<void> {
    await Promise.resolve(this.#catalog.removePool(name, action));
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EACCES: "permission denied",
  EROFS: "the file system is read-only",
};

function hostFailure(what: string, cause: unknown): FleetError {
  if (cause instanceof FleetError) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  const reason = code === undefined ? message : (REASONS[code] ?? code);
  return new FleetError({
    code: "host-failed",
    message: `${what}: ${reason}; free space, or mend the state folder`,
    cause,
  });
}

function shrinksNoDisk(former: VmSpec, next: VmSpec): void {
  for (const { name, sizeBytes } of next.disks) {
    const before = former.disks.find((disk) => disk.name === name);
    if (before === undefined || sizeBytes >= before.sizeBytes) continue;
    throw new FleetError({
      code: "invalid-spec",
      message: `disk ${name} of ${next.name}: ${sizeBytes} bytes, it has ${before.sizeBytes}; wanted: no less, since that would cut its data off`,
    });
  }
}
