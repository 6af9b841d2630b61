/**
 * Drives each VM through its life (lifecycle.ts): makes its process, follows it, decides what its end means, and finds
 * all of that again from the record. Every step is recorded before it is taken.
 */

import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { ProgressListener } from "../images/progress.ts";
import type { ImageStore } from "../images/store.ts";
import { admitRun, type Capacity } from "./admission.ts";
import { bootFiles } from "./boot-files.ts";
import type { Catalog, Member } from "./catalog.ts";
import { type Walls, wallsFor } from "./confinement.ts";
import type { FleetEvent, VmExit, VmSample } from "./contract.ts";
import { FleetError } from "./fleet-error.ts";
import { isActive } from "./fleet-status.ts";
import type { HostEngines } from "./host-engines.ts";
import { bootId, isAlive } from "./host-facts.ts";
import { admits, type VmState } from "./lifecycle.ts";
import type { FleetRecord, RunRecord, VmRecord } from "./record.ts";
import { GOOD_RUN_MS, isFailure, restartDelay } from "./restart-policy.ts";
import { Samples } from "./samples.ts";
import type { StateFolder } from "./state-folder.ts";
import { savedProcessor } from "./saved-file.ts";
import { groupCpu, type VmGroup, type VmGroups } from "./vm-group.ts";
import { groupOf, readExit, VmRun } from "./vm-run.ts";
import { spawnVm, VM_FILES } from "./vm-spawn.ts";
import { PERCENT_PER_PROCESSOR } from "./vm-spec.ts";

/** Beyond the guest's grace time, for its process to say how it ended, in ms. */
const END_MS = 5000;
const KILL_MS = 2000;
/** Grace, in ms, for a VM whose stop the last server had recorded and may not have passed on. */
const STOP_AGAIN_MS = 10_000;

/** A VM as the server holds it. */
export interface Entry {
  record: VmRecord;
  run: VmRun | undefined;
  /** Under way; a second start waits for the same. */
  starting: Promise<void> | undefined;
  /** Set where the start is to be given up: why. */
  cancelled: string | undefined;
  restartTimer: ReturnType<typeof setTimeout> | undefined;
  readonly samples: Samples<VmSample>;
}

export interface SupervisorPlace {
  readonly record: FleetRecord;
  readonly folder: StateFolder;
  /** Folder of VMs' program. */
  readonly program: string;
  readonly images: Pick<ImageStore, "locate">;
  readonly walls: Walls;
  readonly engines: HostEngines;
  readonly capacity: Capacity;
  readonly catalog: () => Catalog;
  /** Undefined where the host has no control groups for VMs. */
  readonly groups: VmGroups | undefined;
  /** How many processors the host has for VMs. */
  readonly processors: number;
  emit(event: Pick<FleetEvent, "kind" | "message"> & { data?: FleetEvent["data"] }, entry: Entry, actor?: string): void;
}

export class Supervisor {
  readonly #place: SupervisorPlace;
  readonly #entries = new Map<string, Entry>();
  #closed = false;

  constructor(place: SupervisorPlace) {
    this.#place = place;
  }

  get entries(): Entry[] {
    return [...this.#entries.values()];
  }

  find(nameOrId: string): Entry | undefined {
    return this.#entries.get(nameOrId) ?? this.entries.find(({ record }) => record.name === nameOrId);
  }

  members(): Member[] {
    return this.entries.map(({ record: { id, name, spec, state } }) => ({ id, name, spec, on: isActive(state) }));
  }

  add(record: VmRecord): Entry {
    const entry: Entry = {
      record,
      run: undefined,
      starting: undefined,
      cancelled: undefined,
      restartTimer: undefined,
      samples: new Samples(),
    };
    this.#entries.set(record.id, entry);
    return entry;
  }

  forget(entry: Entry): void {
    this.#entries.delete(entry.record.id);
  }

  /** Writes a change through to the record. */
  change(entry: Entry, change: Partial<Omit<VmRecord, "id" | "number" | "created" | "name">>): void {
    this.#place.record.changeVm(entry.record.id, change);
    entry.record = { ...entry.record, ...change, name: change.spec?.name ?? entry.record.name };
  }

  /** Enters a state, with what else changes by it, and tells of it. */
  enter(
    entry: Entry,
    state: VmState,
    more: Partial<Pick<VmRecord, "exit" | "run" | "wanted" | "restarts">> = {},
  ): void {
    const from = entry.record.state;
    this.change(entry, { state, since: new Date().toISOString(), ...more });
    if (from === state) return;
    const { name } = entry.record;
    const exit = more.exit ?? null;
    const message = exit === null ? `${name} is ${state}` : `${name} is ${state}: ${exit.message}`;
    this.#place.emit({ kind: "vm.state", message, data: { from, to: state, exit } }, entry);
  }

  // -- start ----------------------------------------------------------------------------------------------------------

  /** Resolves once the guest runs. @throws FleetError */
  async start(entry: Entry, progress: ProgressListener, cold = false): Promise<void> {
    const { record } = entry;
    if (!admits("start", record.state, record.name)) {
      await entry.starting;
      return;
    }
    clearTimeout(entry.restartTimer);
    if (cold) this.#place.folder.dropSaved(record.id);
    await this.#begin(entry, progress, 0);
  }

  async #begin(entry: Entry, progress: ProgressListener, restarts: number): Promise<void> {
    const { capacity, catalog, engines } = this.#place;
    const { id, spec } = entry.record;
    const { pool: poolName } = spec.cpu;
    const request = { action: "start", id, spec, tenants: this.members() };
    admitRun(request, capacity, catalog().pool(poolName), catalog().quota(spec.project));
    const run: RunRecord = {
      secret: randomBytes(32).toString("hex"),
      pid: null,
      pidStart: "",
      bootId: bootId(),
      engine: engines.choose(spec),
      started: new Date().toISOString(),
      confinement: [],
    };
    entry.cancelled = undefined;
    this.enter(entry, "starting", { wanted: true, run, restarts, exit: null });
    entry.starting = this.#launch(entry, run, progress).finally(() => {
      entry.starting = undefined;
    });
    await entry.starting;
  }

  async #launch(entry: Entry, planned: RunRecord, progress: ProgressListener): Promise<void> {
    const { folder, images, catalog, groups } = this.#place;
    const { id, number, spec } = entry.record;
    let group: VmGroup | undefined;
    try {
      const boot = await bootFiles(spec, images, progress);
      const engine = await this.#engineOf(entry, planned.engine);
      const writesDisks = spec.disks.some((disk) => !disk.readonly);
      progress({ step: "starting the VM's process" });
      this.#checkCancelled(entry);
      group = groups?.make(id, spec);
      const walls = wallsFor(this.#place.walls, { writesDisks, callsNatively: engine === "kvm" }, group?.path);
      const home = folder.vm(id);
      rmSync(join(home, VM_FILES.socket), { force: true });
      const pool = catalog().pool(spec.cpu.pool);
      const { capPercent } = spec.cpu;
      const spawned = await spawnVm({
        id,
        number,
        spec,
        folder: home,
        disks: folder.disksOf(id),
        secret: planned.secret,
        boot,
        engine,
        walls,
        processors: pool?.processors ?? [],
        budget: capPercent === null ? null : capPercent / PERCENT_PER_PROCESSOR,
        restore: folder.isSaved(id),
        program: this.#place.program,
        group,
      });
      if (this.#closed) spawned.child.kill("SIGKILL");
      this.#checkCancelled(entry);
      const { pid, pidStart } = spawned;
      const held = group === undefined ? {} : { group: group.path };
      const run: RunRecord = { ...planned, engine, confinement: walls.barriers, pid, pidStart, ...held };
      // Recorded first: from the word on, the process lives without this server.
      this.change(entry, { run });
      spawned.go();
      this.#follow(entry, run, spawned.child);
    } catch (cause) {
      // What was recorded tells the next server of a start that came to nothing.
      if (this.#closed) throw cause;
      void group?.remove();
      const message = cause instanceof Error ? cause.message : String(cause);
      const time = new Date().toISOString();
      if (entry.cancelled === undefined) {
        this.enter(entry, "failed", { run: null, wanted: false, exit: { kind: "start-failed", message, time } });
      } else {
        this.enter(entry, "stopped", { run: null, exit: { kind: "killed", message: entry.cancelled, time } });
      }
      throw cause;
    }
    progress({ step: "loading the kernel" });
    await entry.run?.ready();
    this.share(entry);
    // It has gone on with it, and its disks with it.
    folder.dropSaved(id);
  }

  /** `planned`, unless a saved state has to go on elsewhere. */
  async #engineOf({ record }: Entry, planned: RunRecord["engine"]): Promise<RunRecord["engine"]> {
    const { folder, engines } = this.#place;
    if (planned === "wasm" || !folder.isSaved(record.id)) return planned;
    const saved = await savedProcessor(join(folder.vm(record.id), VM_FILES.saved));
    return saved === undefined ? planned : engines.chooseFor(record.spec, saved);
  }

  #checkCancelled({ cancelled, record }: Entry): void {
    if (cancelled === undefined && !this.#closed) return;
    throw new FleetError({
      code: "start-failed",
      message: `cannot start ${record.name}: ${cancelled ?? "the server ends"}`,
    });
  }

  #follow(entry: Entry, record: RunRecord, child?: ConstructorParameters<typeof VmRun>[0]["child"]): VmRun {
    const { folder } = this.#place;
    const { id, name } = entry.record;
    const run = new VmRun({
      name,
      folder: folder.vm(id),
      run: record,
      changed: () => this.#observe(entry),
      ...(child === undefined ? {} : { child }),
    });
    entry.run = run;
    void run.ended.then((exit) => {
      if (entry.run === run) this.#ended(entry, exit);
    });
    return run;
  }

  /** Takes the VM's own word for where it is. */
  #observe(entry: Entry): void {
    if (this.#closed) return;
    const { record, run } = entry;
    const state = run?.report?.state;
    if (state === undefined || !isActive(record.state) || state === record.state) return;
    // A guest's reset shows as starting for a moment, which is no news.
    if (state === "starting") return;
    // The stop was asked for here, and the VM has yet to hear of it.
    if (record.state === "stopping" && state !== "stopping") return;
    this.enter(entry, state);
  }

  // -- end ------------------------------------------------------------------------------------------------------------

  #ended(entry: Entry, told: VmExit): void {
    entry.run = undefined;
    if (this.#closed || entry.record.state === "removing") return;
    const exit = this.#kept(entry, told);
    const { record } = entry;
    const { spec, wanted, run } = record;
    // Its process is gone; what that had started, if anything, goes too.
    if (run !== null) void groupOf(run)?.remove();
    const ranMs = run === null ? 0 : Date.now() - new Date(run.started).getTime();
    const restarts = ranMs >= GOOD_RUN_MS ? 0 : record.restarts;
    const delay = restartDelay(spec, exit, wanted, restarts);
    if (delay === undefined) {
      const failed = isFailure(exit) && record.state !== "stopping";
      this.enter(entry, failed ? "failed" : "stopped", { run: null, exit, wanted: false, restarts });
      return;
    }
    this.enter(entry, "restarting", { run: null, exit, restarts });
    entry.restartTimer = setTimeout(() => {
      if (this.#closed || entry.record.state !== "restarting") return;
      this.#begin(entry, () => undefined, restarts + 1).catch((error: unknown) => this.#restartFailed(entry, error));
    }, delay);
  }

  /** Makes a state that was just saved the VM's; the end's cause, where that fails. */
  #kept({ record }: Entry, exit: VmExit): VmExit {
    if (exit.kind !== "saved") return exit;
    try {
      this.#place.folder.keepSaved(record.id);
      return exit;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return { ...exit, kind: "internal-error", message: `its state was saved and cannot be kept: ${why}` };
    }
  }

  /** A restart that was refused: no room at present. One that failed later has its state already. */
  #restartFailed(entry: Entry, error: unknown): void {
    if (this.#closed || entry.record.state !== "restarting") return;
    const message = error instanceof Error ? error.message : String(error);
    const exit: VmExit = { kind: "start-failed", message, time: new Date().toISOString() };
    this.enter(entry, "failed", { exit, wanted: false });
  }

  /** @throws FleetError `illegal-transition`, `vm-unreachable` */
  async stop(entry: Entry, graceMs: number): Promise<void> {
    const { record, run } = entry;
    if (!admits("stop", record.state, record.name)) {
      await run?.ended;
      return;
    }
    if (await this.#abandon(entry, "stopped while it was starting")) return;
    const running = entry.run;
    if (running === undefined) return;
    this.enter(entry, "stopping", { wanted: false });
    await this.#finishStop(running, graceMs);
  }

  async #finishStop(run: VmRun, graceMs: number): Promise<void> {
    const late = AbortSignal.timeout(graceMs + END_MS);
    // A process that does not even take the request is ended all the same, once the time is over.
    await run.request({ do: "stop", graceMs }).catch(() => undefined);
    await Promise.race([run.ended, aborted(late)]);
    if (!this.#closed) await this.#destroy(run);
  }

  /** @throws FleetError `illegal-transition` */
  async kill(entry: Entry): Promise<void> {
    const { record } = entry;
    if (!admits("kill", record.state, record.name)) return;
    if (await this.#abandon(entry, "killed while it was starting")) return;
    const running = entry.run;
    if (running === undefined) return;
    this.change(entry, { wanted: false });
    await Promise.race([running.request({ do: "kill" }).catch(() => undefined), aborted(AbortSignal.timeout(KILL_MS))]);
    await Promise.race([running.ended, aborted(AbortSignal.timeout(KILL_MS))]);
    await this.#destroy(running);
  }

  /** Gives up a start or a restart that has no process yet; false where there is a process to be ended. */
  async #abandon(entry: Entry, why: string): Promise<boolean> {
    if (entry.record.state === "restarting") {
      clearTimeout(entry.restartTimer);
      this.enter(entry, "stopped", { wanted: false });
      return true;
    }
    if (entry.run !== undefined || entry.starting === undefined) return false;
    entry.cancelled = why;
    this.change(entry, { wanted: false });
    await entry.starting.catch(() => undefined);
    return !isActive(entry.record.state);
  }

  async #destroy(run: VmRun): Promise<void> {
    run.destroy();
    await run.ended;
    // `#ended` runs on the same promise, before this.
    await Promise.resolve();
  }

  // -- in between -----------------------------------------------------------------------------------------------------

  async ask(entry: Entry, command: "pause" | "resume" | "reset"): Promise<void> {
    const { record } = entry;
    if (!admits(command, record.state, record.name)) return;
    if (entry.run === undefined) {
      throw new FleetError({ code: "vm-unreachable", message: `cannot ${command} ${record.name}: it has just ended` });
    }
    await entry.run.request({ do: command });
    if (command === "reset") this.#place.emit({ kind: "vm.reset", message: `${record.name} was reset` }, entry);
  }

  /** Brings what the VM's control group grants to what its spec says now. */
  share({ record, run }: Entry): void {
    const { catalog, processors } = this.#place;
    run?.group?.share(groupCpu(record.spec, catalog().pool(record.spec.cpu.pool), processors));
  }

  /** Saves a VM's state and ends it; where that fails the VM goes on. @throws FleetError */
  async save(entry: Entry): Promise<void> {
    const { record, run } = entry;
    admits("save", record.state, record.name);
    if (run === undefined) {
      throw new FleetError({ code: "vm-unreachable", message: `cannot save ${record.name}: it has just ended` });
    }
    const { wanted } = record;
    // Its end is asked for, so that no restart policy takes it for a crash.
    this.change(entry, { wanted: false });
    try {
      await run.request({ do: "save" });
    } catch (error) {
      this.change(entry, { wanted });
      throw error;
    }
    await run.ended;
    // `#ended` runs on the same promise, before this.
    await Promise.resolve();
  }

  // -- the server's start and end ---------------------------------------------------------------------------------------

  /** Brings record and reality together after whatever ended the last server, and starts what is to be started. */
  async reconcile(): Promise<void> {
    const { record, folder, groups } = this.#place;
    for (const { id } of record.vms(true)) {
      await folder.remove(id);
      record.removeVm(id);
    }
    const vms = record.vms();
    await folder.sweep(new Set(vms.map(({ id }) => id)));
    await groups?.sweep(new Set(vms.flatMap(({ run }) => run?.group ?? [])));
    for (const vm of vms) {
      const entry = this.add(vm);
      if (vm.state === "removing") await this.remove(entry);
      else if (isActive(vm.state)) this.#recover(entry);
      else if (vm.state === "restarting") this.#later(entry);
      else if (vm.spec.autostart || vm.spec.restart.policy === "always") this.#later(entry);
    }
  }

  /** A VM that was on: its process lives, or its end is to be made up for. */
  #recover(entry: Entry): void {
    const { run } = entry.record;
    const home = this.#place.folder.vm(entry.record.id);
    if (run !== null && run.pid !== null && run.bootId === bootId() && isAlive(run.pid, run.pidStart)) {
      const found = this.#follow(entry, run);
      const stopping = entry.record.state === "stopping";
      // A kill that the last server had not come to is forgotten: nobody was told that it was done.
      this.change(entry, { wanted: !stopping });
      // One that does not answer stays, shown as such, until it does or is killed.
      entry.starting = found.ready().finally(() => {
        entry.starting = undefined;
      });
      if (!stopping)
        void found.ready().then(
          () => this.#foundRunning(entry),
          () => undefined,
        );
      const followed = stopping ? entry.starting.then(() => this.#finishStop(found, STOP_AGAIN_MS)) : entry.starting;
      followed.catch(() => undefined);
      return;
    }
    const time = new Date().toISOString();
    const exit: VmExit =
      run === null || run.pid === null
        ? { kind: "start-failed", message: "the server ended while it started the VM", time }
        : readExit(home, run);
    this.#ended(entry, exit);
  }

  /** The last server may have gone before it did this. */
  #foundRunning(entry: Entry): void {
    this.#place.folder.dropSaved(entry.record.id);
    this.share(entry);
  }

  /** Starts soon, beside others; a failure is in the VM's state. */
  #later(entry: Entry): void {
    setTimeout(() => {
      if (this.#closed || isActive(entry.record.state)) return;
      this.#begin(entry, () => undefined, entry.record.restarts).catch((error: unknown) => {
        if (this.#closed) return;
        if (entry.record.state !== "failed") this.enter(entry, "restarting");
        this.#restartFailed(entry, error);
      });
    });
  }

  /** Removes files, then the record: interrupted, it is taken up again. */
  async remove(entry: Entry): Promise<void> {
    this.enter(entry, "removing", { wanted: false });
    await this.#place.folder.remove(entry.record.id);
    this.#place.record.removeVm(entry.record.id);
    this.forget(entry);
  }

  /** Lets go of every VM; they live on. */
  close(): void {
    this.#closed = true;
    for (const { run, restartTimer } of this.#entries.values()) {
      clearTimeout(restartTimer);
      run?.release();
    }
  }
}

/** Resolves when the signal is aborted. */
async function aborted(signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
