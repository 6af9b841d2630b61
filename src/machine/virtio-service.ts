/** The VM's I/O thread at work for its virtio devices: waits for doorbells, and has the queues that rang served. */

import type { SharedLock } from "../devices/lock.ts";
import type { Dma, VirtioQueues } from "../devices/virtio/service.ts";
import type { BlockBackend } from "../devices/virtio/virtio-blk.ts";
import type { EntropySource } from "../devices/virtio/virtio-rng.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { VirtioSlots } from "./virtio-slots.ts";

export interface VirtioServiceOptions {
  readonly slots: VirtioSlots;
  readonly memory: GuestMemory;
  readonly lock: SharedLock;
  readonly dma: Dma;
  /** One for each of the slots' disks. */
  readonly disks: readonly BlockBackend[];
  onTrouble(message: string): void;
}

const hostEntropy: EntropySource = { fill: (bytes) => void crypto.getRandomValues(bytes) };

export class VirtioService {
  readonly #slots: VirtioSlots;
  readonly #queues: readonly VirtioQueues[];
  readonly #disks: readonly BlockBackend[];
  #ended = false;

  constructor({ slots, disks, ...wiring }: VirtioServiceOptions) {
    this.#slots = slots;
    this.#disks = disks;
    const queues: VirtioQueues[] = [];
    for (const [index, slot] of slots.disks.entries()) {
      const port = disks[index];
      if (port !== undefined) queues.push(slot.serve({ ...wiring, port }));
    }
    if (slots.entropy !== undefined) queues.push(slots.entropy.serve({ ...wiring, port: hostEntropy }));
    this.#queues = queues;
    if (queues.length > 0) void this.#serve();
  }

  async #serve(): Promise<void> {
    const { doorbells } = this.#slots;
    while (!this.#ended) {
      const ticket = doorbells.ticket();
      for (const queues of this.#queues) queues.look();
      await doorbells.rung(ticket);
    }
  }

  /** No more requests are taken, and those in flight are finished as soon as may be. */
  hold(): void {
    for (const queues of this.#queues) queues.hold();
    for (const disk of this.#disks) disk.hurry?.();
  }

  /** After `hold`, with the guest standing still: resolves once nothing is in flight, and all is in the state. */
  async drained(): Promise<void> {
    await Promise.all(this.#queues.map((queues) => queues.drained()));
  }

  resume(): void {
    for (const queues of this.#queues) queues.resume();
  }

  /** Serves no more; resolves once nothing is in flight. */
  async end(): Promise<void> {
    this.hold();
    this.#ended = true;
    this.#slots.doorbells.ring();
    await this.drained();
  }
}
