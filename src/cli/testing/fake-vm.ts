/**
 * A stand-in for a virtual machine in tests of the command line. Its "kernel" is a text of words that say what to do:
 *
 *   echo        send back what comes in, a few bytes at a time, until the byte EOT (4) comes; then go on
 *   print:TEXT  send TEXT
 *   flood:N     send N bytes, each the low byte of its index
 *   forever     do nothing until stopped
 *   stuck       do nothing, even when stopped
 *   count       send "start K", K counting the VMs of this process
 *   trace:TEXT  a trace line
 *   throw       fail as a bug would
 *   debug-exit:N  end as if N were written to isa-debug-exit
 *   reset, reset-once, triple-fault, internal-error: end so; at the end of the text the guest powers off
 */

import { IsolaError } from "../../base/errors.ts";
import type { RestoreOptions, TextScreen, Vm, VmOptions, VmResult, VmStats } from "../../machine/vm-contract.ts";

/** What the receiver takes before it must be read, as little as a real UART. */
const RECEIVER_BYTES = 16;
const EOT = 4;

let made = 0;

export class FakeVm implements Vm {
  readonly done: Promise<VmResult>;
  readonly #words: string[];
  readonly #end: (result: VmResult) => void;
  #received: number[] = [];
  #refused = false;
  #stopped = false;
  #output: (bytes: Uint8Array) => void | Promise<void> = () => undefined;
  #trace: (line: string) => void = () => undefined;
  #typed: number[] = [];
  #space: () => void = () => undefined;
  #wake: () => void = () => undefined;

  constructor(options: VmOptions) {
    made += 1;
    this.#words = new TextDecoder().decode(options.kernel).split(/\s+/);
    const { promise, resolve } = Promise.withResolvers<VmResult>();
    this.done = promise;
    this.#end = resolve;
  }

  async start(): Promise<void> {
    if (this.#words[0] === "refuse") {
      throw new IsolaError({
        code: "kernel-invalid",
        message: "cannot load the kernel: not a kernel; wanted: a bzImage",
      });
    }
    void this.#run();
    await Promise.resolve();
  }

  write(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, RECEIVER_BYTES - this.#received.length);
    this.#received.push(...bytes.subarray(0, taken));
    this.#refused ||= taken < bytes.length;
    this.#wake();
    return taken;
  }

  onInputSpace(listener: () => void): void {
    this.#space = listener;
  }

  /** Takes all. The screen shows the codes. */
  readonly keyboard = {
    write: (codes: Uint8Array): number => {
      this.#typed.push(...codes);
      return codes.length;
    },
    onInputSpace: (): void => undefined,
  };

  screen(): TextScreen {
    const text = `keys ${this.#typed.map((code) => code.toString(16)).join(" ")}`.slice(0, 80);
    const characters = new Uint8Array(80 * 25).fill(0x20);
    characters.set(new TextEncoder().encode(text));
    const attributes = new Uint8Array(80 * 25).fill(0x07);
    return { columns: 80, rows: 25, characters, attributes, blink: true, palette: new Uint8Array(48) };
  }

  onOutput(listener: (bytes: Uint8Array) => void | Promise<void>): void {
    this.#output = listener;
  }

  onTrace(listener: (line: string) => void): void {
    this.#trace = listener;
  }

  stop(): void {
    if (this.#words.includes("stuck")) return;
    this.#stopped = true;
    this.#wake();
    this.#end({ kind: "stopped" });
  }

  /** The command line neither pauses nor limits. */
  async pause(): Promise<void> {
    await Promise.resolve();
  }
  resume(): void {}
  pressPowerButton(): void {}
  setCpuBudget(): void {}

  /** Writes the text of its program. */
  async save(sink: { write(bytes: Uint8Array): Promise<void> }): Promise<void> {
    await sink.write(new TextEncoder().encode(this.#words.join(" ")));
  }

  stats(): VmStats {
    return { instructions: 0, exits: 0, guestNanoseconds: 0, throttledMs: 0, unimplemented: {} };
  }

  async #run(): Promise<void> {
    for (const word of this.#words) {
      const [verb = "", argument = ""] = word.split(":");
      const result = await this.#execute(verb, argument);
      if (result !== undefined) {
        this.#end(result);
        return;
      }
    }
    this.#end({ kind: "power-off" });
  }

  async #execute(verb: string, argument: string): Promise<VmResult | undefined> {
    switch (verb) {
      case "echo":
        return this.#echo();
      case "print":
        await this.#send(argument);
        return undefined;
      case "count":
        await this.#send(`start ${made}\n`);
        return undefined;
      case "trace":
        this.#trace(argument);
        return undefined;
      case "flood":
        await this.#flood(Number(argument));
        return undefined;
      case "forever":
      case "stuck":
        return new Promise(() => undefined);
      case "throw":
        throw new Error("a bug\nin two lines");
      case "debug-exit":
        return { kind: "debug-exit", value: Number(argument) };
      case "reset":
        return { kind: "reset" };
      case "reset-once":
        return made === 1 ? { kind: "reset" } : undefined;
      case "triple-fault":
        return { kind: "triple-fault", message: "at RIP 0x1000" };
      case "internal-error":
        return { kind: "internal-error", message: "no handler" };
      default:
        return undefined;
    }
  }

  async #send(text: string): Promise<void> {
    await this.#output(new TextEncoder().encode(text));
  }

  async #flood(count: number): Promise<void> {
    const step = 4096;
    for (let at = 0; at < count; at += step) {
      await this.#output(Uint8Array.from({ length: Math.min(step, count - at) }, (_, index) => (at + index) & 0xff));
    }
  }

  async #echo(): Promise<undefined> {
    while (!this.#stopped) {
      const bytes = Uint8Array.from(this.#received);
      this.#received = [];
      if (this.#refused) {
        this.#refused = false;
        this.#space();
      }
      const last = bytes.indexOf(EOT);
      if (bytes.length > 0) await this.#output(last < 0 ? bytes : bytes.subarray(0, last));
      if (last >= 0) return undefined;
      if (this.#received.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
    return undefined;
  }
}

/** A fake machine that only tells how much memory the saved one has. */
export const restoreFakeVm = ({ saved }: RestoreOptions): Vm => {
  const kernel = new TextEncoder().encode(`print:restored-${saved.machine.config.ramBytes}`);
  return new FakeVm({ memoryBytes: saved.machine.config.ramBytes, kernel, commandLine: "", engine: "wasm" });
};
