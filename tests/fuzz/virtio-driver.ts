/**
 * Hostile virtio drivers: rings full of loops, of buffers outside RAM, overlapping, huge and empty; rings moved while
 * they run, resets in mid-flight, features half negotiated. Whatever a driver does, the device touches nothing but the
 * guest's RAM, the host fails nowhere, and after a reset a well-behaved driver is served as ever.
 */

import assert from "node:assert/strict";
import { COMMON, RAM_BYTES, RING, TestDriver } from "../../src/devices/virtio/test-driver.ts";
import { type BlockBackend, type DiskInfo, SECTOR_BYTES, virtioBlk } from "../../src/devices/virtio/virtio-blk.ts";
import { type EntropySource, virtioRng } from "../../src/devices/virtio/virtio-rng.ts";
import { ENGINE_BYTES, GuestMemory, VGA_WINDOW } from "../../src/memory/guest-memory.ts";
import { Random } from "./random.ts";

const SECTORS = 64;
const STEPS = 60;
/** Turns of the event loop after which a reset must have ended. */
const PATIENCE = 1000;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What the device did wrong. It is kept, not thrown: the device takes what a backend throws for a medium that failed. */
type Harm = string[];

/** Notes where a view reaches beyond RAM. */
function inRam(memory: GuestMemory, buffers: readonly Uint8Array[], harm: Harm): void {
  for (const { buffer, byteOffset, byteLength } of buffers) {
    const start = byteOffset - ENGINE_BYTES;
    const end = start + byteLength;
    const outside = buffer !== memory.memory.buffer || start < 0 || end > RAM_BYTES || byteLength === 0;
    const hole = start < VGA_WINDOW.end && end > VGA_WINDOW.start;
    if (outside || hole) harm.push(`the device was given ${byteLength} bytes at 0x${start.toString(16)}`);
  }
}

/** A disk in memory whose requests end late, out of order, or badly. Its sector n is filled with n. */
class UnreliableDisk implements BlockBackend {
  readonly info: DiskInfo;
  readonly #memory: GuestMemory;
  readonly #random: () => number;
  readonly #waiting: (() => void)[] = [];
  readonly #harm: Harm;
  reliable = false;

  constructor(memory: GuestMemory, random: () => number, harm: Harm) {
    this.#memory = memory;
    this.#random = random;
    this.#harm = harm;
    this.info = { sectors: SECTORS, readOnly: random() % 4 === 0, serial: "fuzz" };
  }

  read(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    this.#check(position, buffers);
    return this.#end(() => {
      let at = position;
      for (const buffer of buffers) {
        for (let i = 0; i < buffer.length; i++, at++) buffer[i] = at / SECTOR_BYTES;
      }
    });
  }
  write(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    if (this.info.readOnly) this.#harm.push("a write to a read-only disk");
    this.#check(position, buffers);
    return this.#end(() => undefined);
  }
  flush(): Promise<void> {
    return this.#end(() => undefined);
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Ends some of what waits. */
  step(all = false): void {
    for (let i = 0; i < this.#waiting.length; ) {
      if (all || this.#random() % 2 === 0) this.#waiting.splice(i, 1)[0]?.();
      else i++;
    }
  }

  #check(position: number, buffers: readonly Uint8Array[]): void {
    inRam(this.#memory, buffers, this.#harm);
    const bytes = buffers.reduce((sum, { length }) => sum + length, 0);
    if (!(position >= 0 && position + bytes <= SECTORS * SECTOR_BYTES)) {
      this.#harm.push(`${bytes} bytes at ${position} of the disk`);
    }
  }

  #end(work: () => void): Promise<void> {
    const kind = this.reliable ? 0 : this.#random() % 4;
    if (kind === 1) return Promise.reject(new Error("the medium failed"));
    if (kind === 0) {
      work();
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#waiting.push(() => {
        work();
        resolve();
      });
    });
  }
}

/** What the drivers met, by kind: shows that they reach the checks. */
export type Met = Record<string, number>;

/** One hostile driver at work. */
class HostileDriver {
  readonly #driver: TestDriver<never, never>;
  readonly #disk: UnreliableDisk;
  readonly #random: () => number;
  readonly #forgetting: (() => void)[] = [];
  readonly #met: Met;
  readonly #harm: Harm = [];
  #size = 16;

  constructor(memory: GuestMemory, random: () => number, met: Met) {
    this.#random = random;
    this.#met = met;
    this.#disk = new UnreliableDisk(memory, random, this.#harm);
    const driver =
      random() % 4 === 0
        ? new TestDriver<null, EntropySource>(virtioRng, null, { fill: (bytes) => void bytes.fill(7) }, memory)
        : new TestDriver<DiskInfo, BlockBackend>(virtioBlk, this.#disk.info, this.#disk, memory);
    driver.dma = (buffers) => {
      inRam(memory, buffers, this.#harm);
      // Nobody waits for an entry of the used ring and its index.
      const ring = buffers.length === 2 && buffers[0]?.length === 8 && buffers[1]?.length === 2;
      if (ring || random() % 8 !== 0) return undefined;
      return new Promise((resolve) => this.#forgetting.push(resolve));
    };
    this.#driver = driver;
  }

  #pick<T>(...choices: readonly [T, ...T[]]): T {
    return choices[this.#random() % choices.length] ?? choices[0];
  }

  #address(): number {
    const near = this.#random() % 64;
    return this.#pick(
      this.#random() % RAM_BYTES,
      RING.descriptors + near,
      RING.available + near,
      RING.used + near,
      RAM_BYTES - near,
      VGA_WINDOW.start - near,
      VGA_WINDOW.end - near,
      0,
      0x20000,
      0xffffffff - near,
    );
  }

  #length(): number {
    return this.#pick(1, 16, SECTOR_BYTES, 4 * SECTOR_BYTES, 0, 0x10000, this.#random(), 0xffffffff, 15, 16 * 8);
  }

  /** One descriptor, mostly of a kind that a device takes. */
  #descriptor(index: number, table?: number): void {
    const random = this.#random;
    const sane = random() % 8 !== 0;
    this.#driver.describe(
      index,
      {
        address: sane ? 0x20000 + (random() % 0x1000) * 16 : this.#address() + this.#pick(0, 2 ** 32, 2 ** 52),
        length: sane ? this.#pick(16, 1, SECTOR_BYTES, 2 * SECTOR_BYTES) : this.#length(),
        flags: sane ? this.#pick(0, 1, 3, 2, 3, 1, 4) : random() & 0xffff,
        next: sane ? (index + this.#pick(1, 1, 1, 0, -1)) & 0xffff : random() & 0xffff,
      },
      table,
    );
  }

  /** A request of header, data and answer, as the block device wants it, at descriptor `head`. */
  #request(head: number): void {
    const header = 0x20000 + head * 0x40;
    const { ram } = this.#driver;
    ram.setUint32(header, this.#pick(0, 1, 4, 8, 0, this.#random()), true);
    ram.setUint32(header + 8, this.#pick(0, 1, SECTORS - 1, SECTORS, this.#random()), true);
    ram.setUint32(header + 12, this.#pick(0, 0, 0, this.#random()), true);
    const data = this.#pick(1, 2) === 1 ? 1 : 3;
    this.#driver.describe(head, { address: header, length: 16, flags: 1, next: head + 1 });
    this.#driver.describe(head + 1, {
      address: 0x30000 + head * 0x800,
      length: SECTOR_BYTES * 2,
      flags: data,
      next: head + 2,
    });
    this.#driver.describe(head + 2, { address: 0x40000 + head, length: 1, flags: 2 });
  }

  #meet(what: string): void {
    this.#met[what] = (this.#met[what] ?? 0) + 1;
  }

  async step(): Promise<void> {
    await this.#act();
    const { work } = this.#driver.device;
    if (this.#driver.get("status") === 0 && this.#disk.waiting + this.#forgetting.length > 0) {
      this.#harm.push("the device is reset, with requests in flight that may write RAM");
    }
    assert.deepEqual(this.#harm, []);
    if (work.resetting) this.#meet("reset in flight");
    if (work.busy > 1) this.#meet("several in flight");
  }

  async #act(): Promise<void> {
    const random = this.#random;
    const driver = this.#driver;
    // A device that is not running meets little.
    const started = driver.get("status") === 0x0f;
    switch (!started && random() % 2 === 0 ? 0 : random() % 20) {
      case 0:
        this.#size = this.#pick(16, 1, 2, 128);
        driver.start(this.#size, this.#pick(undefined, undefined, 0, random()));
        break;
      case 1:
      case 2:
      case 16:
      case 17:
      case 18:
      case 19: {
        const head = random() % Math.max(this.#size - 2, 1);
        this.#request(head);
        driver.offer(head, this.#size);
        break;
      }
      case 4: {
        // A good request with one word spoilt.
        const head = random() % Math.max(this.#size - 2, 1);
        this.#request(head);
        const at = RING.descriptors + (head + (random() % 3)) * 16;
        if (random() % 2 === 0)
          driver.ram.setUint32(at + this.#pick(0, 0, 8, 8, 4), this.#pick(this.#address(), this.#length()), true);
        else
          driver.ram.setUint16(
            at + this.#pick(12, 14),
            this.#pick(random() & 7, random() % 16, random() & 0xffff),
            true,
          );
        driver.offer(head, this.#size);
        break;
      }
      case 3: {
        const head = random() % this.#size;
        for (let i = 0; i < 4; i++) this.#descriptor((head + i) % this.#size);
        driver.offer(this.#pick(head, head, head, head, random() & 0xffff), this.#size);
        break;
      }
      case 5:
        for (let i = 0; i < 8; i++) this.#descriptor(i, 0x20000 + (random() % 64) * 16);
        break;
      case 6:
        driver.ram.setUint32(
          this.#pick(RING.descriptors, RING.available, RING.used) + (random() % 64) * 4,
          random(),
          true,
        );
        break;
      case 7:
        driver.ram.setUint16(RING.available + this.#pick(0, 2), random(), true);
        break;
      case 8: {
        // Rings moved, resized, enabled; features and status written out of order.
        const fields = Object.keys(COMMON) as (keyof typeof COMMON)[];
        const field = fields[random() % fields.length] ?? "status";
        driver.set(field, this.#pick(random(), this.#address() & ~15, 0, 1, 0xffff, 15) >>> 0);
        break;
      }
      case 9:
        driver.set("status", this.#pick(0, 1, 3, 11, 15, 7, random() & 0xff));
        break;
      case 10:
        driver.device.device.write(random() % 0x9000, this.#pick(1, 2, 4), random());
        break;
      case 11:
        driver.device.device.write(4, 2, this.#pick(0x0006, 0x0006, 0, 2, 0x0406));
        break;
      case 12:
        driver.queues.hold();
        if (random() % 2 === 0) driver.queues.resume();
        break;
      default:
        driver.notify(this.#pick(0, 0, 1, random() % 1024));
        if (random() % 2 === 0) await turn();
        if (random() % 2 === 0) this.#go(random() % 4 === 0);
    }
  }

  /** Lets some of what waits for the host go on. */
  #go(all: boolean): void {
    this.#disk.step(all);
    while (this.#forgetting.length > 0) this.#forgetting.pop()?.();
  }

  /** A reset, and a driver that keeps every rule. */
  async finish(): Promise<void> {
    const driver = this.#driver;
    driver.queues.resume();
    driver.dma = () => undefined;
    this.#disk.reliable = true;
    driver.enablePci();
    driver.device.device.write(0x42, 2, 0);
    driver.set("status", 0);
    for (let i = 0; driver.get("status") !== 0; i++) {
      assert.ok(i < PATIENCE, "a reset did not end");
      this.#go(true);
      await turn();
    }
    const host = driver.troubles.filter((trouble) => trouble.includes("the host failed"));
    assert.deepEqual(host, []);
    for (const trouble of driver.troubles) {
      const [what = ""] = trouble.replace(/^.*damaged: /, "").split(" [");
      this.#meet(what.replaceAll(/0x[0-9a-f]+/g, "N").replaceAll(/[0-9]+/g, "N"));
    }
    driver.start(16);
    driver.readBar(0x1000, 1);
    const edges = driver.irq.edges;
    const blk = driver.get("numQueues") === 1 && driver.device.device.read(2, 2) === 0x1042;
    driver.ram.setUint32(0x20000, 0, true);
    driver.ram.setUint32(0x20004, 0, true);
    driver.ram.setUint32(0x20008, 9, true);
    driver.ram.setUint32(0x2000c, 0, true);
    if (blk) driver.describe(0, { address: 0x20000, length: 16, flags: 1, next: 1 });
    driver.describe(1, { address: 0x21000, length: SECTOR_BYTES, flags: blk ? 3 : 2, next: 2 });
    driver.describe(2, { address: 0x22000, length: 1, flags: 2 });
    driver.offer(blk ? 0 : 1);
    driver.notify();
    for (let i = 0; driver.usedIndex === 0; i++) {
      assert.ok(i < PATIENCE, "a request of a good driver was not served");
      await turn();
    }
    assert.deepEqual(driver.used(), [blk ? { id: 0, length: SECTOR_BYTES + 1 } : { id: 1, length: SECTOR_BYTES }]);
    const wanted = new Uint8Array(SECTOR_BYTES).fill(blk ? 9 : 7);
    assert.deepEqual(driver.memory.slice(0x21000, SECTOR_BYTES)?.slice(), wanted);
    assert.deepEqual(this.#harm, []);
    assert.equal(driver.irq.edges, edges + 1);
    assert.equal(driver.needsReset, false);
  }
}

/** Runs drivers `from` to `from + count` of a seed, over one memory. Throws where one of them does harm. */
export async function runHostileDrivers(seed: number, from: number, count: number): Promise<Met> {
  const met: Met = {};
  const memory = GuestMemory.create(RAM_BYTES);
  for (let index = from; index < from + count; index++) {
    const random = new Random().seed(seed, index);
    const driver = new HostileDriver(memory, () => random.u32(), met);
    try {
      for (let step = 0; step < STEPS; step++) await driver.step();
      await driver.finish();
    } catch (error) {
      throw new Error(`driver ${index} of seed ${seed}: ${String(error)}`, { cause: error });
    }
  }
  const engine = new Float64Array(memory.memory.buffer, 0, ENGINE_BYTES / 8);
  assert.ok(
    engine.every((word) => word === 0),
    "the engine's own memory was written",
  );
  return met;
}
