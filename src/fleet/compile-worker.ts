/**
 * A compiler beside the guest as a Node worker. It is started when much is to be compiled, as in a boot, and ends when
 * there was nothing for a while: an idle VM has none, and compiles a region now and then by itself.
 */

import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads";
import type { CompiledBatch, CompileJob, CompileService } from "../cpu/wasm/compiler/compile-job.ts";

/** What the worker is started with. */
export interface CompileWorkerStart {
  readonly memory: WebAssembly.Memory;
  readonly ramBytes: number;
  /** The CPU model by its canonical name. */
  readonly model: string;
  readonly port: MessagePort;
}

/** What comes back: batches, and that the worker ends, which may have missed jobs, or why it cannot go on. */
export type CompileWorkerMessage = CompiledBatch | "ended" | { readonly failure: unknown };

/** Heap of the worker at the most: it is no part of what an idle VM holds. */
const YOUNG_GENERATION_MB = 8;

/** So many regions in so many ms are much. */
const MANY = 8;
const LOOK_MS = 1000;

export class CompileWorker implements CompileService {
  readonly #start: Omit<CompileWorkerStart, "port">;
  /** Undefined while no worker runs. */
  #port: MessagePort | undefined;
  readonly #open = new Map<number, CompileJob>();
  /** When regions were last wanted while no worker ran, in ms; the oldest first. */
  readonly #asked: number[] = [];

  constructor(start: Omit<CompileWorkerStart, "port">) {
    this.#start = start;
  }

  wanted(): boolean {
    // With no job open nobody has looked whether the worker ended.
    if (this.#open.size === 0) this.#received();
    if (this.#port !== undefined) return true;
    const now = performance.now();
    this.#asked.push(now);
    if (this.#asked.length < MANY) return false;
    return now - (this.#asked.shift() ?? 0) <= LOOK_MS;
  }

  post(job: CompileJob): void {
    this.#open.set(job.id, job);
    if (this.#port === undefined) this.#begin();
    else this.#port.postMessage(job);
  }

  take(): CompiledBatch | undefined {
    const batch = this.#received();
    for (const { id } of batch?.jobs ?? []) this.#open.delete(id);
    // Posted while the worker ended.
    if (this.#port === undefined && this.#open.size > 0) this.#begin();
    return batch;
  }

  /** The vCPU's thread never returns to its event loop: it looks. */
  #received(): CompiledBatch | undefined {
    if (this.#port === undefined) return undefined;
    const received: { message: CompileWorkerMessage } | undefined = receiveMessageOnPort(this.#port);
    if (received === undefined) return undefined;
    const { message } = received;
    if (message === "ended") {
      this.#port.close();
      this.#port = undefined;
      return undefined;
    }
    // A mistake of the compiler's ends the VM with its cause, as it does where the guest waits for it.
    if ("failure" in message) throw new Error("compiling beside the guest failed", { cause: message.failure });
    return message;
  }

  #begin(): void {
    this.#asked.length = 0;
    const { port1, port2 } = new MessageChannel();
    const workerData: CompileWorkerStart = { ...this.#start, port: port2 };
    const worker = new Worker(new URL("./node-compile-worker.ts", import.meta.url), {
      workerData,
      transferList: [port2],
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    });
    worker.unref();
    // Where the host has no room for it, what was posted stays interpreted.
    worker.on("error", () => undefined);
    this.#port = port1;
    for (const job of this.#open.values()) port1.postMessage(job);
  }
}
