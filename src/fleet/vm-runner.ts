/** One VM inside its own process: power-on, any number of resets, pause, and the end with its cause. */

import { fstatSync, readSync } from "node:fs";
import { IsolaError } from "../base/errors.ts";
import { adoptFileDisk, type FileDisk } from "../backends/file-disk.ts";
import { InputPump } from "../machine/input-pump.ts";
import type { TextScreen, Vm, VmOptions, VmResult } from "../machine/vm-contract.ts";
import type { ExitReport, VmProcessConfig, VmProcessState, VmReport } from "./control-protocol.ts";
import { createNodeVm, restoreNodeVm } from "./node-vm.ts";

export interface RunnerListener {
  output(bytes: Uint8Array): void;
  /** The guest reads its input more slowly than it comes: hold what types. */
  holdInput(held: boolean): void;
  changed(): void;
}

const PRESS_AGAIN_MS = 3000;

/** A whole file by its descriptor, wherever its position is: a reset reads it again. */
function readWhole(fd: number): Uint8Array {
  const bytes = new Uint8Array(fstatSync(fd).size);
  for (let at = 0; at < bytes.length; ) {
    const count = readSync(fd, bytes, at, bytes.length - at, at);
    if (count === 0) throw new IsolaError({ code: "file-unreadable", message: "a boot file shrank while it was read" });
    at += count;
  }
  return bytes;
}

/** Gives back the memory of files that the VM has loaded: the collector of an idle process would keep it for ever. */
function release({ kernel, initrd, modules = [] }: VmOptions): void {
  for (const bytes of [kernel, initrd, ...modules.map((module) => module.bytes)]) {
    if (bytes?.buffer instanceof ArrayBuffer && bytes.byteLength === bytes.buffer.byteLength) bytes.buffer.transfer(0);
  }
}

export class VmRunner {
  readonly #config: VmProcessConfig;
  readonly #listener: RunnerListener;
  readonly #pump: InputPump;
  readonly #keys = new InputPump({ hold: () => undefined });
  #vm: Vm | undefined;
  #state: VmProcessState = "starting";
  #resets = 0;
  #instructions = 0;
  #throttledMs = 0;
  #budget: number | null;
  #resetAsked = false;
  #killed: string | undefined;
  #saving = false;
  /** Its state is written whole. */
  #saved = false;
  #graceTimer: ReturnType<typeof setTimeout> | undefined;
  #graceEnds = Infinity;
  #pressTimer: ReturnType<typeof setTimeout> | undefined;
  /** Guest time minus host time: a reset does not set the clock back. */
  readonly #clockOffsetMs: number;
  /** Opened once: a reset does not touch what is under way on them. */
  readonly #disks: readonly FileDisk[];
  rebootOnReset: boolean;

  constructor(config: VmProcessConfig, listener: RunnerListener) {
    this.#config = config;
    this.#listener = listener;
    this.#budget = config.budget;
    this.#disks = config.disks.map(({ fd, name, readOnly, limits }) => adoptFileDisk(fd, name, readOnly, limits));
    for (const disk of this.#disks) disk.onTrouble = (message) => console.error(message);
    const { offsetSeconds, startAt } = config.clock;
    this.#clockOffsetMs = startAt === null ? offsetSeconds * 1000 : new Date(startAt).getTime() - Date.now();
    this.rebootOnReset = config.rebootOnReset;
    this.#pump = new InputPump({ hold: (held) => listener.holdInput(held) });
  }

  get state(): VmProcessState {
    return this.#state;
  }

  report(): VmReport {
    const { user, system } = process.cpuUsage();
    const stats = this.#vm?.stats();
    return {
      state: this.#state,
      resets: this.#resets,
      cpuMicros: user + system,
      throttledMs: this.#throttledMs + (stats?.throttledMs ?? 0),
      instructions: this.#instructions + (stats?.instructions ?? 0),
    };
  }

  /** Runs the guest to its end. Failures of the host and of the boot files are ends too. */
  async run(): Promise<ExitReport> {
    try {
      for (;;) {
        const result = await this.#powerOn();
        const again = this.#killed === undefined && result.kind !== "internal-error" && this.#comesBack(result);
        if (!again) return this.#exit(result);
        this.#resets++;
        this.#resetAsked = false;
        this.#enter("starting");
      }
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const kind = this.#state === "starting" ? "start-failed" : "internal-error";
      return { kind, message, time: new Date().toISOString() };
    } finally {
      clearTimeout(this.#graceTimer);
      clearTimeout(this.#pressTimer);
    }
  }

  #comesBack(result: VmResult): boolean {
    return this.#resetAsked || (result.kind === "reset" && this.rebootOnReset && this.#state !== "stopping");
  }

  /** The VM of this power-on: the first one goes on with a saved state where there is one. */
  async #makeVm(options: VmOptions): Promise<{ readonly vm: Vm; readonly typed?: Uint8Array }> {
    const { savedFd, memoryBytes, engine, kvmFd } = this.#config;
    // A server's VMs are many: what the thread would leave in memory counts for more than a boot's seconds.
    const place = { compileBeside: false, ...(kvmFd === null ? {} : { kvm: kvmFd }) };
    if (savedFd === null || this.#resets > 0) return { vm: createNodeVm(options, place) };
    const { openSavedDescriptor } = await import("./saved-file.ts");
    const saved = await openSavedDescriptor(savedFd);
    const { config, typed } = saved.machine;
    if (config.ramBytes !== memoryBytes) {
      throw new IsolaError({
        code: "saved-state-mismatch",
        message: `its saved state has ${config.ramBytes} bytes of memory, the VM now ${memoryBytes}; wanted: the same, or a start without the state`,
      });
    }
    return { vm: restoreNodeVm({ saved, engine, disks: this.#disks }, place), typed };
  }

  async #powerOn(): Promise<VmResult> {
    const options = this.#options();
    const { vm, typed } = await this.#makeVm(options);
    this.#vm = vm;
    vm.setCpuBudget(this.#budget ?? Infinity);
    vm.onOutput((bytes) => this.#listener.output(bytes));
    // `done` may reject while `start` is still awaited; the rejection is taken up below.
    vm.done.catch(() => undefined);
    await vm.start();
    release(options);
    if (typed !== undefined) this.#pump.push(typed);
    this.#pump.attach(vm);
    this.#keys.attach(vm.keyboard);
    if (this.#killed !== undefined || this.#resetAsked) vm.stop();
    else if (this.#state === "starting") this.#enter("running");
    const result = await vm.done;
    this.#pump.detach();
    this.#keys.detach();
    const stats = vm.stats();
    this.#instructions += stats.instructions;
    this.#throttledMs += stats.throttledMs;
    this.#vm = undefined;
    return result;
  }

  #options(): VmOptions {
    const { memoryBytes, cpus, cpu, commandLine, engine, kernelFd, initrdFd, modules, fwCfg, smbios } = this.#config;
    return {
      memoryBytes,
      cpus,
      cpu,
      commandLine,
      engine,
      disks: this.#disks,
      entropy: true,
      kernel: readWhole(kernelFd),
      ...(initrdFd === null ? {} : { initrd: readWhole(initrdFd) }),
      modules: modules.map(({ fd, commandLine: words }) => ({ bytes: readWhole(fd), commandLine: words })),
      smbios,
      fwCfg: fwCfg.map(({ name, text }) => ({ name, bytes: new TextEncoder().encode(text) })),
      bootTime: BigInt(Date.now() + this.#clockOffsetMs) * 1_000_000n,
    };
  }

  #exit(result: VmResult): ExitReport {
    const time = new Date().toISOString();
    if (this.#saved && result.kind === "stopped") {
      return { kind: "saved", message: "its state is saved; the next start goes on with it", time };
    }
    if (this.#killed !== undefined && result.kind === "stopped") return { kind: "killed", message: this.#killed, time };
    switch (result.kind) {
      case "power-off":
        return { kind: "power-off", message: "the guest switched itself off", time };
      case "reset":
        return { kind: "reset", message: "the guest reset itself, and is not to be started anew", time };
      case "debug-exit":
        return { kind: "debug-exit", message: `the guest ended itself with the value ${result.value}`, time };
      case "stopped":
        return { kind: "killed", message: "switched off", time };
      case "triple-fault":
      case "internal-error":
        // Registers and instruction bytes are many lines: they go to the log of the VM's process.
        if ("details" in result) console.error([result.message, ...(result.details ?? [])].join("\n"));
        return { kind: result.kind, message: result.message, time };
    }
  }

  #enter(state: VmProcessState): void {
    this.#state = state;
    this.#listener.changed();
  }

  #refuse(what: string): never {
    throw new IsolaError({ code: "illegal-transition", message: `cannot ${what}: the VM is ${this.#state}` });
  }

  async pause(): Promise<void> {
    if (this.#state === "paused") return;
    if (this.#state !== "running" || this.#vm === undefined) this.#refuse("pause");
    await this.#vm.pause();
    if (this.#state === "running") this.#enter("paused");
  }

  resume(): void {
    if (this.#state === "running") return;
    if (this.#state !== "paused") this.#refuse("resume");
    this.#vm?.resume();
    this.#enter("running");
  }

  /** Writes the whole state and ends the VM. On failure it goes on as it was. */
  async save(): Promise<void> {
    const vm = this.#vm;
    const was = this.#state;
    if ((was !== "running" && was !== "paused") || vm === undefined || this.#saving) this.#refuse("save");
    this.#saving = true;
    // What is typed from now on waits where it comes from.
    this.#listener.holdInput(true);
    try {
      const { saveToDescriptor } = await import("./saved-file.ts");
      await saveToDescriptor(vm, this.#config.saveFd, { typed: this.#pump.queued() });
      this.#saved = true;
      vm.stop();
    } catch (error) {
      if (this.#state === "running") vm.resume();
      this.#listener.holdInput(false);
      throw error;
    } finally {
      this.#saving = false;
    }
  }

  reset(): void {
    if (this.#state !== "running" && this.#state !== "paused") this.#refuse("reset");
    this.#resetAsked = true;
    this.#vm?.stop();
  }

  /** Presses the power button; after `graceMs` the VM is switched off. A second call can only shorten the time. */
  stop(graceMs: number): void {
    if (this.#state === "starting") {
      this.kill("stopped while it was starting");
      return;
    }
    if (this.#state === "paused") this.#vm?.resume();
    if (this.#state !== "stopping") this.#enter("stopping");
    this.#press();
    const ends = performance.now() + graceMs;
    if (ends >= this.#graceEnds) return;
    this.#graceEnds = ends;
    clearTimeout(this.#graceTimer);
    const seconds = Math.round(graceMs / 100) / 10;
    this.#graceTimer = setTimeout(
      () => this.kill(`switched off: it did not react to its power button within ${seconds} s`),
      graceMs,
    );
  }

  /** Again and again: a guest whose system is still booting has no driver yet, and forgets a press. */
  #press(): void {
    this.#vm?.pressPowerButton();
    clearTimeout(this.#pressTimer);
    this.#pressTimer = setTimeout(() => this.#press(), PRESS_AGAIN_MS);
  }

  kill(why: string): void {
    this.#killed ??= why;
    this.#vm?.stop();
  }

  setBudget(processors: number | null): void {
    this.#budget = processors;
    this.#vm?.setCpuBudget(processors ?? Infinity);
  }

  screen(): TextScreen | undefined {
    return this.#vm?.screen();
  }

  /** Bytes of scan code set 1, at the pace at which the guest reads them. */
  pressKeys(codes: Uint8Array): void {
    if (this.#keys.full) {
      throw new IsolaError({
        code: "illegal-transition",
        message: `cannot press keys: the guest has not read the last ${this.#keys.queuedBytes} bytes from its keyboard`,
      });
    }
    this.#keys.push(codes);
  }

  type(bytes: Uint8Array): void {
    this.#pump.push(bytes);
  }
}
