/**
 * The I/O thread's side of a virtio device: takes chains out of the queues, hands them to the device, puts what is done
 * into the used rings, and interrupts. [virtio 1.2 §2.7.13, §2.7.14]
 *
 * The vCPU's stores are plain ones, so a driver's flag and an index of ours may pass each other unseen. Hence the
 * driver is always asked to ring for each chain (no notification is ever suppressed), and where it asks for no
 * interrupt it is looked at again a millisecond later, when every store has been seen.
 */

import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { SharedLock } from "../lock.ts";
import type { Work } from "./doorbells.ts";
import { INDIRECT_DESC } from "./features.ts";
import { type ChainBuffers, type RingRegisters, SplitQueue } from "./queue.ts";
import type { Transport } from "./transport.ts";

/** Tells the engine what the device wrote into RAM. */
export interface Dma {
  /**
   * Bytes of RAM were written. A promise where the engine holds code decoded from there: the guest must not be told of
   * the bytes before it resolves.
   */
  wrote(buffers: readonly Uint8Array[]): Promise<void> | undefined;
}

/** Chains taken under one hold of the lock: it bounds how long a vCPU that enters a device may wait. */
const BATCH = 16;
const LOOK_AGAIN_MS = 1;
/** A guest that breaks its rings for ever is reported so often. */
const REPORTS = 3;

/** A request of the driver's. It has to be completed, once, whatever happens. */
export interface Chain {
  /** What the device reads, and then what it writes: views of guest RAM, in order. */
  readonly readable: readonly Uint8Array[];
  readonly writable: readonly Uint8Array[];
  /** Gives the chain back; `writtenBytes` counts from the first writable byte. */
  complete(writtenBytes: number): void;
  /** The chain cannot be served, nor refused in its own terms: the device asks its driver for a reset. */
  reject(why: string): void;
}

export interface QueuesOptions {
  readonly name: string;
  readonly memory: GuestMemory;
  readonly lock: SharedLock;
  readonly dma: Dma;
  readonly transport: Transport;
  readonly work: Work;
  readonly state: RingRegisters & { readonly queueEnabled: Uint8Array };
  readonly queueNames: readonly string[];
  notified(queues: Readonly<Record<string, { take(): Iterable<Chain> }>>): void | Promise<void>;
  onTrouble(message: string): void;
}

/** The queues of one device, served. Only on the I/O thread. */
export class VirtioQueues {
  readonly #options: QueuesOptions;
  readonly #rings: readonly SplitQueue[];
  readonly #handles: Record<string, { take(): Iterable<Chain> }>;
  #running = false;
  #again = false;
  #paused = false;
  /** Queues whose driver asked for silence when something was put there. */
  #unannounced = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #reports = 0;
  /** Chains of this thread that are in flight, and who waits for their end. */
  #idle: PromiseWithResolvers<void> | undefined;

  constructor(options: QueuesOptions) {
    this.#options = options;
    this.#rings = options.queueNames.map((_, index) => new SplitQueue(options.memory, options.state, index));
    this.#handles = Object.fromEntries(
      options.queueNames.map((name, index) => [name, { take: () => this.#take(index) }]),
    );
  }

  /** Serves what has been rung for; called whenever a doorbell rang. */
  look(): void {
    if (this.#options.work.takeKicks() === 0) return;
    this.#again = true;
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#again && !this.#paused) {
      this.#again = false;
      try {
        await this.#options.notified(this.#handles);
      } catch (error) {
        this.#break(`the host failed: ${String(error).replaceAll(/\s*\n\s*/g, " ")}`);
      }
    }
    this.#running = false;
  }

  /** Stops taking chains. */
  hold(): void {
    this.#paused = true;
  }

  /** After `hold`, with the guest standing still: resolves when all chains are complete, and the state is all there is. */
  async drained(): Promise<void> {
    if (this.#options.work.busy > 0) {
      this.#idle ??= Promise.withResolvers();
      await this.#idle.promise;
    }
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#options.lock.enter(() => this.#lookAgain());
  }

  resume(): void {
    this.#paused = false;
    this.#options.work.kickAll();
  }

  *#take(index: number): Generator<Chain, void> {
    for (;;) {
      const batch = this.#options.lock.enter(() => this.#takeBatch(index));
      const full = batch.length === BATCH;
      try {
        for (let chain = batch.shift(); chain !== undefined; chain = batch.shift()) yield chain;
      } finally {
        // Whoever stopped in the middle has not seen these.
        for (const chain of batch) chain.reject("the device stopped in the middle of its queue");
      }
      if (!full) return;
    }
  }

  /** With the lock held: what is taken counts as in flight before a reset could slip in. */
  #takeBatch(index: number): Chain[] {
    const { transport, work, state } = this.#options;
    const chains: Chain[] = [];
    const ring = this.#rings[index];
    while (ring !== undefined && chains.length < BATCH) {
      if (this.#paused || !transport.live || state.queueEnabled[index] === 0) break;
      const next = ring.next(transport.negotiated(INDIRECT_DESC));
      if (next === undefined) break;
      if ("fault" in next) {
        this.#break(`the guest's queue is damaged: ${next.fault}`);
        break;
      }
      work.busy++;
      chains.push(this.#chain(index, next));
    }
    return chains;
  }

  #chain(index: number, { head, readable, writable }: ChainBuffers): Chain {
    let ended = false;
    const end = (finish: () => void): void => {
      if (ended) return;
      ended = true;
      // Old code must be forgotten before the driver may jump into what was written over it.
      const forgotten = writable.length === 0 ? undefined : this.#options.dma.wrote(writable);
      if (forgotten === undefined) finish();
      else void forgotten.then(finish);
    };
    return {
      readable,
      writable,
      complete: (writtenBytes) => end(() => this.#finish(index, head, writtenBytes)),
      reject: (why) =>
        end(() => {
          this.#break(why);
          this.#options.lock.enter(() => this.#ended());
        }),
    };
  }

  #finish(index: number, head: number, writtenBytes: number): void {
    const { lock, transport, dma } = this.#options;
    lock.enter(() => {
      const ring = this.#rings[index];
      // After a reset or a fault the ring is no longer ours to write.
      if (ring !== undefined && transport.live && this.#options.state.queueEnabled[index] !== 0) {
        const entry = ring.put(head, writtenBytes);
        const counter = ring.publish();
        if (entry !== undefined && counter !== undefined) void dma.wrote([entry, counter]);
        this.#announce(index, ring);
      }
      this.#ended();
    });
  }

  #announce(index: number, ring: SplitQueue): void {
    if (!ring.quiet) {
      this.#options.transport.queueInterrupt(index);
      return;
    }
    this.#unannounced |= 1 << index;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#options.lock.enter(() => this.#lookAgain());
    }, LOOK_AGAIN_MS);
  }

  /** Whoever still wants no interrupt by now looks at the ring by itself. */
  #lookAgain(): void {
    const { transport } = this.#options;
    const queues = this.#unannounced;
    this.#unannounced = 0;
    if (!transport.live) return;
    for (const [index, ring] of this.#rings.entries()) {
      if ((queues & (1 << index)) !== 0 && !ring.quiet) transport.queueInterrupt(index);
    }
  }

  /** One chain less in flight; with the lock held. */
  #ended(): void {
    const { work, transport } = this.#options;
    work.busy--;
    if (work.busy > 0) return;
    if (work.resetting) transport.finishReset();
    this.#idle?.resolve();
    this.#idle = undefined;
  }

  #break(why: string): void {
    const { lock, transport, name } = this.#options;
    lock.enter(() => transport.needsReset());
    if (this.#reports++ >= REPORTS) return;
    this.#options.onTrouble(`${name}: ${why}; it serves no more requests until the guest resets it`);
  }
}
