/** A virtio driver in TypeScript for tests: RAM, a device's registers, and rings that a test may build as badly as it likes. */

import type { AccessSize } from "../../cpu/vcpu.ts";
import { GuestMemory } from "../../memory/guest-memory.ts";
import { SharedLock } from "../lock.ts";
import type { StateSpec } from "../state.ts";
import { CountingLine, ManualClock, newArena } from "../test-rig.ts";
import type { VirtioDefinition, VirtioDevice } from "./define-virtio.ts";
import { Doorbells } from "./doorbells.ts";
import { STATUS } from "./features.ts";
import type { VirtioQueues } from "./service.ts";
import { VIRTIO_BAR } from "./transport.ts";

export const RAM_BYTES = 2 * 1024 * 1024;
/** Where `TestDriver` puts its first queue. */
export const RING = { descriptors: 0x10000, available: 0x11000, used: 0x12000 } as const;

export interface Descriptor {
  readonly address: number;
  readonly length: number;
  /** 1 next, 2 write, 4 indirect. */
  readonly flags?: number;
  readonly next?: number;
}

/** Offsets of the common configuration. [virtio 1.2 §4.1.4.3] */
export const COMMON = {
  deviceFeatureSelect: [0x00, 4],
  deviceFeature: [0x04, 4],
  driverFeatureSelect: [0x08, 4],
  driverFeature: [0x0c, 4],
  configVector: [0x10, 2],
  numQueues: [0x12, 2],
  status: [0x14, 1],
  configGeneration: [0x15, 1],
  queueSelect: [0x16, 2],
  queueSize: [0x18, 2],
  queueVector: [0x1a, 2],
  queueEnable: [0x1c, 2],
  queueNotifyOff: [0x1e, 2],
  descriptors: [0x20, 4],
  available: [0x28, 4],
  used: [0x30, 4],
} as const satisfies Record<string, readonly [number, AccessSize]>;

/** For one device's state, which takes 500; a fuzzer makes a million of them. */
const ARENA_BYTES = 2 ** 12;
const PAGE = 0x1000;
/** Places in the BAR, as the capabilities give them. */
export const BAR = {
  isr: PAGE,
  device: 2 * PAGE,
  notify: 3 * PAGE,
  msixTable: 4 * PAGE,
  msixPending: 5 * PAGE,
} as const;

/** Nothing of the service is left to run but what waits for something outside. */
export const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

export class TestDriver<Info, Port> {
  readonly memory: GuestMemory;
  readonly device: VirtioDevice<Port>;
  readonly queues: VirtioQueues;
  readonly irq = new CountingLine();
  readonly messages: { address: number; data: number }[] = [];
  readonly troubles: string[] = [];
  /** Of the promises that the engine would give: set to hold completions back. */
  dma: (buffers: readonly Uint8Array[]) => Promise<void> | undefined = () => undefined;
  /** Next entry of the available ring, and the number of used entries seen. */
  #made = 0;
  #seen = 0;

  constructor(
    definition: VirtioDefinition<StateSpec, Info, Port, string>,
    info: Info,
    port: Port,
    memory = GuestMemory.create(RAM_BYTES),
  ) {
    this.memory = memory;
    const arena = newArena(ARENA_BYTES);
    const lock = new SharedLock(arena.buffer, arena.take(4));
    const bells = new Doorbells(arena, 1);
    this.device = definition.instantiate({
      arena,
      clock: new ManualClock(),
      irq: this.irq,
      info,
      name: `${definition.name}0`,
      port: {
        barAddress: 0xc0000000,
        work: bells.device(0),
        sendMsi: (address, data) => this.messages.push({ address, data }),
      },
    });
    this.device.device.reset();
    this.queues = this.device.serve({
      port,
      memory,
      lock,
      dma: { wrote: (buffers) => this.dma(buffers) },
      onTrouble: (message) => this.troubles.push(message),
    });
  }

  readBar(offset: number, size: AccessSize): number {
    return this.device.device.read(VIRTIO_BAR.offset + offset, size);
  }
  writeBar(offset: number, size: AccessSize, value: number): void {
    this.device.device.write(VIRTIO_BAR.offset + offset, size, value);
  }
  get(field: keyof typeof COMMON): number {
    const [offset, size] = COMMON[field];
    return this.readBar(offset, size);
  }
  set(field: keyof typeof COMMON, value: number): void {
    const [offset, size] = COMMON[field];
    this.writeBar(offset, size, value);
  }

  /** Memory and bus master, as a driver's first step. */
  enablePci(): void {
    this.device.device.write(4, 2, 0x0006);
  }

  /** Up to FEATURES_OK; `low` is the driver's choice of word 0, the offer by default. */
  negotiate(low?: number): void {
    this.enablePci();
    this.set("status", 0);
    this.set("status", STATUS.acknowledge);
    this.set("status", STATUS.acknowledge | STATUS.driver);
    this.set("deviceFeatureSelect", 0);
    this.set("driverFeatureSelect", 0);
    this.set("driverFeature", low ?? this.get("deviceFeature"));
    this.set("driverFeatureSelect", 1);
    this.set("driverFeature", 1);
    this.set("status", STATUS.acknowledge | STATUS.driver | STATUS.featuresOk);
  }

  /** A whole initialization with one queue of `size` at RING. */
  start(size = 16, low?: number): void {
    this.negotiate(low);
    this.#made = 0;
    this.#seen = 0;
    this.memory.slice(RING.descriptors, 0x4000)?.fill(0);
    this.set("queueSelect", 0);
    this.set("queueSize", size);
    this.set("descriptors", RING.descriptors);
    this.set("available", RING.available);
    this.set("used", RING.used);
    this.set("queueEnable", 1);
    this.set("status", this.get("status") | STATUS.driverOk);
  }

  /** A view of RAM's words; `address` as the guest counts. */
  get ram(): DataView {
    const offset = this.memory.offsetOf(0, 1);
    return new DataView(this.memory.memory.buffer, offset, this.memory.ramBytes);
  }

  describe(
    index: number,
    { address, length, flags = 0, next = 0 }: Descriptor,
    table: number = RING.descriptors,
  ): void {
    const at = table + 16 * index;
    const { ram } = this;
    ram.setBigUint64(at, BigInt(address), true);
    ram.setUint32(at + 8, length, true);
    ram.setUint16(at + 12, flags, true);
    ram.setUint16(at + 14, next, true);
  }

  /** Makes the chain at `head` available in a queue of `size`, without a notification. */
  offer(head: number, size = 16): void {
    const { ram } = this;
    ram.setUint16(RING.available + 4 + 2 * (this.#made % size), head, true);
    this.#made = (this.#made + 1) & 0xffff;
    ram.setUint16(RING.available + 2, this.#made, true);
  }

  notify(queue = 0): void {
    this.writeBar(BAR.notify + 4 * queue, 2, queue);
    this.queues.look();
  }

  get usedIndex(): number {
    return this.ram.getUint16(RING.used + 2, true);
  }

  /** Used entries since the last call. */
  used(size = 16): { id: number; length: number }[] {
    const entries = [];
    for (; this.#seen !== this.usedIndex; this.#seen = (this.#seen + 1) & 0xffff) {
      const at = RING.used + 4 + 8 * (this.#seen % size);
      entries.push({ id: this.ram.getUint32(at, true), length: this.ram.getUint32(at + 4, true) });
    }
    return entries;
  }

  get needsReset(): boolean {
    return (this.get("status") & STATUS.needsReset) !== 0;
  }
}
