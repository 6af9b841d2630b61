/** A virtual machine: memory, board and kernel here, guest code on threads that its engine makes. */

import { IsolaError } from "../base/errors.ts";
import type { CpuState } from "../cpu/vcpu.ts";
import { type CpuModel, DEFAULT_CPU_MODEL } from "../isa/cpu-models.ts";
import { EFER_LME, IA32_EFER } from "../isa/msrs.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import { acpiTables, RESERVED_RANGES } from "./acpi.ts";
import { Board, type BoardConfig } from "./board.ts";
import { BudgetWatch } from "./budget-watch.ts";
import type { Decompress } from "./boot/bzimage.ts";
import { loadKernel } from "./boot/load-kernel.ts";
import { clockOrigin, HostClock, stoppedClock } from "./clock.ts";
import { EngineDma } from "./code-notices.ts";
import { checkDisks, loadSaved } from "./saved-state/load-saved.ts";
import { encodeManifest } from "./saved-state/manifest.ts";
import { PLAIN_CODEC, type StateSink, StateWriter } from "./saved-state/state-file.ts";
import { CONTROL, CONTROL_BYTES, type VcpuThreadMessage, type VcpuThreadStart } from "./vcpu-messages.ts";
import { mpTables } from "./mp-table.ts";
import { smbiosTables } from "./smbios.ts";
import type { OutsideMachine } from "./outside-machine.ts";
import type { TextScreen } from "../devices/pc/text-screen.ts";
import { VirtioService } from "./virtio-service.ts";
import type { EngineFigures } from "./engine-figures.ts";
import {
  COMPILE_AFTER,
  type EngineName,
  type GuestInput,
  type RestoreOptions,
  type SaveOptions,
  type Vm,
  type VmOptions,
  type VmResult,
  type VmStats,
} from "./vm-contract.ts";

/** A thread that runs vcpu-thread.ts; how one is made differs between Node and a browser. */
export interface VcpuThread {
  start(message: VcpuThreadStart): void;
  onMessage(listener: (message: VcpuThreadMessage) => void): void;
  /** The thread failed, or ended without saying how. */
  onFailure(listener: (error: Error) => void): void;
  terminate(): Promise<void>;
}

/** What runs one VM's guest code. */
export interface VmEngine {
  /** The processor that the guest gets. */
  readonly model: CpuModel;
  /** Frequency of its time-stamp counter in Hz. */
  readonly tscHz: number;
  /**
   * Its interrupt controllers and interval timer; absent: the board has its own. With them, processors may be inside
   * the engine for as long as they like, so the VM's own thread serves the board's timers.
   */
  readonly outside?: OutsideMachine;
  createThread(cpu: number): VcpuThread;
  /**
   * µs of processor time that the VM has used. With it, guests that stay in the engine for as long as they like are
   * brought out where their budget may be used up.
   */
  usedMicros?(): number;
  /** Makes every vCPU leave guest code, so that its thread looks at what is wanted of it. */
  kick(): void;
  /** Frees what the engine holds, after its threads are gone. */
  dispose(): void;
}

export interface EngineRequest {
  readonly name: EngineName;
  readonly memory: GuestMemory;
  readonly cpus: number;
  /** A model as a person writes it, of which the engine gives what the host has; or one that it must have whole. */
  readonly cpu: string | CpuModel;
  /** What the time-stamp counter's frequency must be; absent: as the engine likes. */
  readonly tscHz?: number;
}

/** What a VM needs of the place where it runs. */
export interface VmPlace {
  /** @throws IsolaError where this host lacks the engine, or the engine cannot run such a VM: `cpu-model-unfit`, … */
  createEngine(request: EngineRequest): VmEngine;
  readonly decompress: Decompress;
}

/** The parts of a VM that has been started. */
interface Machine {
  readonly config: BoardConfig;
  readonly cpu: CpuModel;
  readonly clock: HostClock;
  readonly memory: GuestMemory;
  readonly board: Board;
}

const STOP_PATIENCE_MS = 1000;
/** A budget beyond is the same as none; it keeps the control word within 31 bits. */
const MOST_PROCESSORS = 2000;

/** Refuses a kernel that is entered in 64-bit mode by a processor that has none. */
function requireLongMode({ name, features }: CpuModel, { msrs }: CpuState): void {
  const long = ((msrs.get(IA32_EFER) ?? 0n) & BigInt(EFER_LME)) !== 0n;
  if (!long || features.has("lm")) return;
  throw new IsolaError({
    code: "cpu-model-unfit",
    message: `the kernel is a 64-bit one, and the CPU model ${name} has no long mode; wanted: a 32-bit kernel, or +lm`,
  });
}

export class VirtualMachine implements Vm {
  readonly done: Promise<VmResult>;
  /** Until `start` has read them: a kernel of 50 MiB is not kept for nothing. */
  #options: VmOptions | RestoreOptions | undefined;
  readonly #place: VmPlace;
  readonly #control = new Int32Array(new SharedArrayBuffer(CONTROL_BYTES));
  #figures: EngineFigures | undefined;
  readonly #unimplemented = new Map<string, number>();
  readonly #settle: { resolve: (result: VmResult) => void; reject: (error: Error) => void };
  #machine: Machine | undefined;
  #engine: VmEngine | undefined;
  #threads: VcpuThread[] = [];
  #virtio: VirtioService | undefined;
  #dma: EngineDma | undefined;
  #ended = false;
  /** While a saved state holds what waits: resolved when it may go on. */
  #held: PromiseWithResolvers<void> | undefined;
  #reports = 0;
  #onState: (cpu: number, state: CpuState) => void = () => {};
  #throttledMicros = 0;
  /** How often it was paused; numbers the pauses. */
  #pauses = 0;
  #budgetTimer: ReturnType<typeof setTimeout> | undefined;
  #stopTimer: ReturnType<typeof setTimeout> | undefined;
  #output: (bytes: Uint8Array) => void | Promise<void> = () => {};
  #inputSpace: () => void = () => {};
  #keySpace: () => void = () => {};
  #trace: (line: string) => void = () => {};

  constructor(options: VmOptions | RestoreOptions, place: VmPlace) {
    this.#options = options;
    this.#place = place;
    const { promise, resolve, reject } = Promise.withResolvers<VmResult>();
    this.done = promise;
    this.#settle = { resolve, reject };
  }

  get #board(): Board | undefined {
    return this.#machine?.board;
  }

  async start(): Promise<void> {
    const options = this.#options;
    if (options === undefined) throw new Error("a VM is started once");
    this.#options = undefined;
    const saved = "saved" in options ? options.saved : undefined;
    const config = "saved" in options ? options.saved.machine.config : boardConfig(options);
    const { disks = [], trace, engine: name, compileAfter = COMPILE_AFTER } = options;
    checkDisks(config.disks ?? [], disks);
    const memory = GuestMemory.create(config.ramBytes);
    const engine = this.#place.createEngine({ name, memory, cpus: config.vcpus, ...processorOf(options) });
    this.#engine = engine;
    const { outside, model, tscHz } = engine;
    const origin =
      "saved" in options ? stoppedClock(options.saved.machine.clock) : clockOrigin(options.bootTime, tscHz);
    const clock = new HostClock(origin);
    const board = new Board({ ...config, clock, memory, ...(outside === undefined ? {} : { outside }) });
    this.#machine = { config, cpu: model, clock, memory, board };
    const { codeNotices: notices, lock } = board;
    this.#dma = new EngineDma({ memory, notices, lock, kick: () => this.#kick() });
    const onTrouble = (message: string): void => this.#trace(message);
    this.#virtio = new VirtioService({ slots: board.virtio, memory, lock, dma: this.#dma, disks, onTrouble });
    // Devices of a saved machine begin with its processors, not before.
    if (saved !== undefined) this.#virtio.hold();
    let states: readonly CpuState[];
    try {
      states =
        "saved" in options
          ? await loadSaved(options.saved, {
              engine: name,
              memory,
              board,
              ...(outside === undefined ? {} : { outside }),
            })
          : [await loadGuest(options, config.vcpus, memory, this.#place.decompress)];
      if (states[0] !== undefined) requireLongMode(model, states[0]);
    } catch (error) {
      engine.dispose();
      throw error;
    }
    // Stopped while the kernel was being unpacked, which may take seconds.
    if (this.#ended) {
      engine.dispose();
      return;
    }
    if (saved !== undefined) Atomics.store(this.#control, CONTROL.pause, ++this.#pauses);
    else outside?.startClock(clock.now());
    // An engine with a place of its own has been given the saved processors there.
    const first = saved === undefined || outside === undefined ? states : [];
    for (let cpu = 0; cpu < config.vcpus; cpu++) {
      this.#startThread(engine, {
        cpu,
        config,
        memory: memory.memory,
        board: board.shared,
        control: this.#control.buffer,
        clock: origin,
        state: first[cpu],
        model: model.name,
        traceUnimplemented: trace?.includes("unimplemented") === true,
        compileAfter,
      });
    }
    void this.#pump(board);
    if (outside !== undefined) void this.#serveTimers(board, clock);
    if (!("saved" in options)) return;
    // The guest's clock stands still until its threads are ready.
    await this.pause();
    if (options.paused !== true) this.resume();
  }

  #startThread(engine: VmEngine, start: VcpuThreadStart): void {
    const thread = engine.createThread(start.cpu);
    this.#threads.push(thread);
    thread.onMessage((message) => {
      if (message.kind === "undefined") this.#onUndefined(message.bytes, message.rip);
      else if (message.kind === "state") this.#onState(message.cpu, message.state);
      else {
        this.#figures ??= message.figures;
        void this.#end(message.result);
      }
    });
    thread.onFailure((error) => {
      const message = `its thread ended by an error: ${String(error).replaceAll(/\s*\n\s*/g, " ")}`;
      void this.#end({ kind: "internal-error", message, ...(error.stack === undefined ? {} : { stack: error.stack }) });
    });
    thread.start(start);
  }

  write(bytes: Uint8Array): number {
    const board = this.#board;
    if (board === undefined || this.#held !== undefined) return 0;
    const taken = board.serial.write(bytes);
    if (taken < bytes.length) void board.serial.writable().then(() => this.#inputSpace());
    return taken;
  }
  onInputSpace(listener: () => void): void {
    this.#inputSpace = listener;
  }
  readonly keyboard: GuestInput = {
    write: (codes) => {
      const keyboard = this.#held === undefined ? this.#board?.keyboard : undefined;
      const taken = keyboard?.write(codes) ?? 0;
      if (taken < codes.length) void keyboard?.writable().then(() => this.#keySpace());
      return taken;
    },
    onInputSpace: (listener) => {
      this.#keySpace = listener;
    },
  };
  screen(): TextScreen | undefined {
    return this.#board?.screen();
  }
  onOutput(listener: (bytes: Uint8Array) => void | Promise<void>): void {
    this.#output = listener;
  }
  onTrace(listener: (line: string) => void): void {
    this.#trace = listener;
  }

  stop(): void {
    if (this.#ended || this.#stopTimer !== undefined) return;
    this.#signal(CONTROL.stop, 1);
    this.#stopTimer = setTimeout(() => void this.#end({ kind: "stopped" }), STOP_PATIENCE_MS);
  }

  async pause(): Promise<void> {
    const control = this.#control;
    this.#virtio?.hold();
    if (Atomics.load(control, CONTROL.pause) === 0) this.#signal(CONTROL.pause, ++this.#pauses);
    const number = this.#pauses;
    const standing = () => !this.#ended && Atomics.load(control, CONTROL.pause) === number;
    for (let cpu = 0; cpu < this.#threads.length; cpu++) {
      const word = CONTROL.parked + cpu;
      while (standing()) {
        const parked = Atomics.load(control, word);
        if (parked === number) break;
        const changed = Atomics.waitAsync(control, word, parked);
        if (changed.async) await Promise.race([changed.value, this.done.catch(() => undefined)]);
      }
    }
    if (!standing()) return;
    const { clock } = this.#machine ?? {};
    if (clock?.stop() === true) {
      const seen = this.#engine?.outside?.stopClock();
      if (seen !== undefined) clock.advance(seen);
    }
    await this.#virtio?.drained();
  }

  resume(): void {
    if (Atomics.load(this.#control, CONTROL.pause) === 0) return;
    if (this.#machine !== undefined && !this.#ended) {
      const { clock } = this.#machine;
      this.#engine?.outside?.startClock(clock.now());
      clock.resume();
    }
    this.#signal(CONTROL.pause, 0);
    this.#virtio?.resume();
    if (this.#held === undefined) return;
    this.#held.resolve();
    this.#held = undefined;
    this.#inputSpace();
    this.#keySpace();
  }

  async save(sink: StateSink, { codec = PLAIN_CODEC, typed = new Uint8Array(0) }: SaveOptions = {}): Promise<void> {
    await this.pause();
    const machine = this.#machine;
    if (machine === undefined || this.#ended) {
      throw new IsolaError({ code: "vm-ended", message: "saving the VM: it does not run; wanted: one that does" });
    }
    this.#held ??= Promise.withResolvers();
    const { config, cpu, memory, board, clock } = machine;
    const vcpus = await this.#vcpuStates(config.vcpus);
    const { tscHz, bootTime } = clock;
    const times = { now: clock.now(), tscHz, bootTime };
    const outside = this.#engine?.outside?.save(times.now, board.fabric.levels);
    const devices = { ...board.save(), ...outside };
    const saved = encodeManifest({ config, cpu, clock: times, vcpus, devices, typed }, codec.name);
    const writer = new StateWriter(sink, codec);
    await writer.header(saved.manifest, saved.blobs);
    await writer.ram(memory);
  }

  /** Asks the vCPUs' threads, which stand still, for their processors. */
  async #vcpuStates(count: number): Promise<CpuState[]> {
    const states: CpuState[] = [];
    let told = 0;
    const all = new Promise<void>((resolve) => {
      this.#onState = (cpu, state) => {
        states[cpu] = state;
        if (++told === count) resolve();
      };
    });
    this.#signal(CONTROL.report, ++this.#reports);
    const ended = this.done.then(({ kind }) => {
      throw new IsolaError({
        code: "vm-ended",
        message: `saving the VM: it ended meanwhile (${kind}); nothing is saved`,
      });
    });
    await Promise.race([all, ended]);
    return states;
  }

  pressPowerButton(): void {
    this.#board?.pressPowerButton();
    this.#board?.wake();
  }

  setCpuBudget(processors: number): void {
    clearTimeout(this.#budgetTimer);
    const usedMicros = this.#engine?.usedMicros;
    if (usedMicros !== undefined && processors !== Infinity) {
      const meter = { now: () => performance.now(), usedMicros };
      this.#watchBudget(new BudgetWatch(processors, meter, () => this.#engine?.kick()));
    }
    const millionths = Math.round(Math.min(processors, MOST_PROCESSORS) * 1e6);
    this.#signal(CONTROL.budget, processors === Infinity ? 0 : Math.max(1, millionths));
  }

  #watchBudget(watch: BudgetWatch): void {
    if (this.#ended) return;
    this.#budgetTimer = setTimeout(() => this.#watchBudget(watch), watch.look());
    this.#budgetTimer.unref();
  }

  /** Sets a control word and brings the vCPUs' threads to look at it, wherever they are. */
  #signal(word: number, value: number): void {
    Atomics.store(this.#control, word, value);
    this.#kick();
  }

  /** Makes the vCPU's thread look about, wherever it waits. */
  #kick(): void {
    Atomics.add(this.#control, CONTROL.signal, 1);
    Atomics.notify(this.#control, CONTROL.signal);
    this.#board?.wake();
    this.#engine?.kick();
  }

  stats(): VmStats {
    const low = (this.#control[CONTROL.retiredLow] ?? 0) >>> 0;
    return {
      instructions: (this.#control[CONTROL.retiredHigh] ?? 0) * 2 ** 32 + low,
      exits: this.#control[CONTROL.exits] ?? 0,
      guestNanoseconds: this.#machine?.clock.now() ?? 0,
      throttledMs: this.#throttledMs(),
      unimplemented: Object.fromEntries(this.#unimplemented),
      ...(this.#figures === undefined ? {} : { engine: this.#figures }),
    };
  }

  /** The control word wraps after 71 minutes of being held back; it is read far more often. */
  #throttledMs(): number {
    const word = this.#control[CONTROL.throttled] ?? 0;
    this.#throttledMicros += (word - (this.#throttledMicros | 0)) >>> 0;
    return this.#throttledMicros / 1000;
  }

  /** Hands the guest's output on until the VM has ended. */
  async #pump(board: Board): Promise<void> {
    while (!this.#ended) {
      await this.#drain(board);
      await Promise.race([board.serial.readable(), this.done.catch(() => undefined)]);
    }
  }

  /** Serves the board's timers where no vCPU's thread can be relied on to come by. */
  async #serveTimers(board: Board, clock: HostClock): Promise<void> {
    while (!this.#ended) {
      const ticket = Atomics.load(this.#control, CONTROL.signal);
      if (Atomics.load(this.#control, CONTROL.pause) !== 0) {
        const changed = Atomics.waitAsync(this.#control, CONTROL.signal, ticket);
        if (changed.async) await changed.value;
        continue;
      }
      const now = clock.now();
      if (board.nextDeadline() <= now) board.runTimers(now);
      await board.untilDeadline(() => clock.now());
    }
  }

  async #drain(board: Board): Promise<void> {
    for (;;) {
      while (this.#held !== undefined && !this.#ended) {
        await Promise.race([this.#held.promise, this.done.catch(() => undefined)]);
      }
      // What a saved state holds belongs to whoever restores it.
      if (this.#held !== undefined) return;
      const bytes = board.serial.read();
      if (bytes.length === 0) return;
      await this.#output(bytes);
    }
  }

  async #end(result: VmResult): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#stopTimer);
    clearTimeout(this.#budgetTimer);
    this.#signal(CONTROL.stop, 1);
    try {
      this.#virtio?.hold();
      await Promise.all(this.#threads.map((thread) => thread.terminate()));
      this.#dma?.end();
      await this.#virtio?.end();
      this.#engine?.dispose();
      if (this.#board !== undefined) await this.#drain(this.#board);
      this.#settle.resolve(result);
    } catch (error) {
      this.#settle.reject(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #onUndefined(bytes: Uint8Array, rip: bigint): void {
    const name = Array.from(bytes.subarray(0, 8), (b) => b.toString(16).padStart(2, "0")).join(" ");
    this.#unimplemented.set(name, (this.#unimplemented.get(name) ?? 0) + 1);
    this.#trace(`unimplemented instruction ${name} ... at rip 0x${BigInt.asUintN(64, rip).toString(16)}`);
  }
}

/** What is asked of the engine's processor: a saved machine needs the very one that it had. */
function processorOf(options: VmOptions | RestoreOptions): Pick<EngineRequest, "cpu" | "tscHz"> {
  if ("saved" in options) {
    const { cpu, clock } = options.saved.machine;
    return { cpu, tscHz: clock.tscHz };
  }
  const { cpu = DEFAULT_CPU_MODEL.name, tscHz } = options;
  return { cpu, ...(tscHz === undefined ? {} : { tscHz }) };
}

function boardConfig(options: VmOptions): BoardConfig {
  const { memoryBytes, cpus = 1, disks = [], entropy = false, fwCfg, debugExit } = options;
  return {
    ramBytes: memoryBytes,
    vcpus: cpus,
    disks: disks.map(({ info }) => info),
    entropy,
    ...(fwCfg === undefined ? {} : { fwCfg }),
    ...(debugExit === undefined ? {} : { debugExit }),
  };
}

/** Puts the kernel and all that belongs to it into RAM; gives the boot processor's first state. */
function loadGuest(options: VmOptions, vcpus: number, memory: GuestMemory, decompress: Decompress): Promise<CpuState> {
  const { kernel, initrd, modules = [], commandLine, memoryBytes: ramBytes, smbios: identity = {} } = options;
  const tables = [...acpiTables({ vcpus }), ...mpTables({ vcpus }), ...smbiosTables({ vcpus, ramBytes, identity })];
  return loadKernel({
    memory,
    kernel,
    modules,
    commandLine,
    decompress,
    tables,
    rsdp: tables[0]?.address ?? 0,
    reserved: RESERVED_RANGES.map(({ start, end }) => ({ start, size: end - start })),
    ...(initrd === undefined ? {} : { initrd }),
  });
}
