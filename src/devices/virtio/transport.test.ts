import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { STATUS } from "./features.ts";
import { BAR, RING, settled, TestDriver } from "./test-driver.ts";
import { type BlockBackend, type DiskInfo, SECTOR_BYTES, virtioBlk } from "./virtio-blk.ts";

/** A disk whose requests end when the test says so. */
class HeldDisk implements BlockBackend {
  readonly info: DiskInfo = { sectors: 64, readOnly: false, serial: "held" };
  readonly waiting: PromiseWithResolvers<void>[] = [];

  #wait(): Promise<void> {
    const ended = Promise.withResolvers<void>();
    this.waiting.push(ended);
    return ended.promise;
  }
  async read(_position: number, buffers: readonly Uint8Array[]): Promise<void> {
    await this.#wait();
    for (const buffer of buffers) buffer.fill(0xaa);
  }
  write(): Promise<void> {
    return this.#wait();
  }
  flush(): Promise<void> {
    return this.#wait();
  }
}

let disk: HeldDisk;
let driver: TestDriver<DiskInfo, BlockBackend>;
beforeEach(() => {
  disk = new HeldDisk();
  driver = new TestDriver(virtioBlk, disk.info, disk);
});

const HEADER = 0x20000;
const DATA = 0x21000;
const STATUS_BYTE = 0x22000;

/** A read of one sector as chain 0, 1, 2, available but not notified. */
const offerRead = (): void => {
  driver.memory.slice(HEADER, 16)?.fill(0);
  driver.describe(0, { address: HEADER, length: 16, flags: 1, next: 1 });
  driver.describe(1, { address: DATA, length: SECTOR_BYTES, flags: 3, next: 2 });
  driver.describe(2, { address: STATUS_BYTE, length: 1, flags: 2 });
  driver.offer(0);
};
const endAll = async (): Promise<void> => {
  for (const { resolve } of disk.waiting.splice(0)) resolve();
  await settled();
};
const config = (offset: number, size: 1 | 2 | 4): number => driver.device.device.read(offset, size);
const INTX_PENDING = 0x08;

test("4.1.2, 4.1.4: ids, and the capabilities that name the parts of the BAR", () => {
  assert.deepEqual([config(0, 2), config(2, 2), config(8, 1)], [0x1af4, 0x1042, 1]);
  const found: Record<number, number> = {};
  for (let at = config(0x34, 1); at !== 0; at = config(at + 1, 1)) {
    if (config(at, 1) === 0x09) found[config(at + 3, 1)] = config(at + 8, 4);
    else assert.deepEqual([config(at, 1), config(at + 2, 2), config(at + 4, 4)], [0x11, 1, BAR.msixTable]);
  }
  assert.deepEqual(found, { 1: 0, 2: BAR.notify, 3: BAR.isr, 4: BAR.device, 5: 0 });
});

test("PCI 6.2.5.1: the BAR has a place, and tells its size", () => {
  assert.equal(config(0x10, 4), 0xc0000000);
  driver.device.device.write(0x10, 4, 0xffffffff);
  assert.equal(config(0x10, 4), 0xffff8000);
});

test("2.2, 3.1.1: features must be a subset of the offer, with VERSION_1, and are fixed by FEATURES_OK", () => {
  driver.set("deviceFeatureSelect", 1);
  assert.equal(driver.get("deviceFeature"), 1);
  driver.set("deviceFeatureSelect", 2);
  assert.equal(driver.get("deviceFeature"), 0);
  driver.negotiate(0xffffffff);
  assert.equal(driver.get("status") & STATUS.featuresOk, 0);
  driver.negotiate();
  assert.notEqual(driver.get("status") & STATUS.featuresOk, 0);
  driver.set("driverFeature", 0);
  assert.equal(driver.get("driverFeature"), 1);
  driver.set("status", 0);
  driver.set("driverFeatureSelect", 0);
  driver.set("driverFeature", 0);
  driver.set("status", STATUS.acknowledge | STATUS.driver | STATUS.featuresOk);
  assert.equal(driver.get("status") & STATUS.featuresOk, 0, "without VERSION_1");
});

test("3.1.1: queues are not touched before DRIVER_OK, nor without FEATURES_OK or bus mastering", async () => {
  driver.start();
  driver.set("status", 0);
  offerRead();
  driver.set("status", STATUS.acknowledge | STATUS.driver | STATUS.driverOk);
  driver.notify();
  await settled();
  assert.equal(disk.waiting.length, 0);
  driver.start();
  offerRead();
  driver.device.device.write(4, 2, 0x0002);
  driver.notify();
  await settled();
  assert.equal(disk.waiting.length, 0);
  driver.enablePci();
  driver.queues.look();
  assert.equal(disk.waiting.length, 1);
  await endAll();
  assert.deepEqual(driver.used(), [{ id: 0, length: SECTOR_BYTES + 1 }]);
});

test("4.1.4.3: a ring that is enabled stays where and as it is", async () => {
  driver.start();
  driver.set("descriptors", 0x50000);
  driver.set("used", 0x50000);
  driver.set("queueSize", 4);
  assert.deepEqual(
    [driver.get("descriptors"), driver.get("used"), driver.get("queueSize")],
    [RING.descriptors, RING.used, 16],
  );
  offerRead();
  driver.notify();
  await endAll();
  assert.equal(driver.used().length, 1);
});

test("4.1.4.3.2: sizes that are none are not taken; a ring that is not aligned asks for a reset", () => {
  driver.negotiate();
  for (const size of [0, 3, 256, 0xffff]) {
    driver.set("queueSize", size);
    assert.equal(driver.get("queueSize"), 128);
  }
  driver.set("descriptors", RING.descriptors + 8);
  driver.set("queueEnable", 1);
  assert.equal(driver.get("queueEnable"), 0);
  assert.ok(driver.needsReset);
  driver.set("queueSelect", 1);
  assert.deepEqual([driver.get("queueSize"), driver.get("queueVector")], [0, 0xffff]);
});

test("2.4, 4.1.4.3.1: a reset waits for work in flight, which then touches nothing", async () => {
  driver.start();
  offerRead();
  driver.notify();
  assert.equal(disk.waiting.length, 1);
  driver.set("status", 0);
  assert.notEqual(driver.get("status"), 0, "not reset while a request is in flight");
  driver.set("queueSelect", 3);
  assert.equal(driver.get("queueSelect"), 0, "nothing is set up meanwhile");
  await endAll();
  assert.equal(driver.get("status"), 0);
  assert.equal(driver.usedIndex, 0);
  assert.equal(driver.irq.edges, 0);
  driver.start();
  offerRead();
  driver.notify();
  await endAll();
  assert.equal(driver.used().length, 1);
});

test("2.1.2: a damaged ring asks for a reset by a configuration interrupt, in one line for the host", async () => {
  driver.start();
  driver.offer(99);
  driver.notify();
  await settled();
  assert.ok(driver.needsReset);
  assert.equal(driver.readBar(BAR.isr, 1), 2);
  assert.deepEqual(driver.troubles.length, 1);
  assert.match(
    driver.troubles[0] ?? "",
    /^virtio-blk0: the guest's queue is damaged: chain begins at descriptor 99 of 16/,
  );
  for (let i = 0; i < 10; i++) {
    driver.start();
    driver.offer(99);
    driver.notify();
    await settled();
  }
  assert.equal(driver.troubles.length, 3, "a guest cannot flood the host's log");
});

test("4.1.4.5: INTx follows the interrupt status, which reading clears; the command register holds it down", async () => {
  driver.start();
  offerRead();
  driver.notify();
  await endAll();
  assert.equal(driver.irq.level, true);
  assert.equal(config(6, 1) & INTX_PENDING, INTX_PENDING);
  assert.equal(driver.readBar(BAR.isr, 1), 1);
  assert.equal(driver.irq.level, false);
  assert.equal(config(6, 1) & INTX_PENDING, 0);
  driver.device.device.write(4, 2, 0x0406);
  offerRead();
  driver.notify();
  await endAll();
  assert.equal(driver.irq.level, false);
  driver.enablePci();
  assert.equal(driver.irq.level, true);
});

test("PCI 6.8.2: MSI-X messages; a masked one stays pending and goes out when it is unmasked", async () => {
  const entry = (vector: number, address: number, data: number, control: number): void => {
    driver.writeBar(BAR.msixTable + 16 * vector, 4, address);
    driver.writeBar(BAR.msixTable + 16 * vector + 4, 4, 0);
    driver.writeBar(BAR.msixTable + 16 * vector + 8, 4, data);
    driver.writeBar(BAR.msixTable + 16 * vector + 12, 4, control);
  };
  driver.start();
  driver.device.device.write(0x42, 2, 0x8000);
  entry(1, 0xfee01000, 0x4041, 0);
  driver.set("queueVector", 1);
  assert.equal(driver.get("queueVector"), 1);
  driver.set("configVector", 2);
  assert.equal(driver.get("configVector"), 0xffff, "there is no such vector");
  const once = async (): Promise<void> => {
    offerRead();
    driver.notify();
    await endAll();
  };
  await once();
  assert.deepEqual(driver.messages, [{ address: 0xfee01000, data: 0x4041 }]);
  assert.equal(driver.irq.level, false);
  entry(1, 0xfee01000, 0x4041, 1);
  await once();
  assert.equal(driver.messages.length, 1);
  assert.equal(driver.readBar(BAR.msixPending, 4), 2);
  entry(1, 0xfee02000, 0x4042, 0);
  assert.deepEqual(driver.messages[1], { address: 0xfee02000, data: 0x4042 });
  assert.equal(driver.readBar(BAR.msixPending, 4), 0);
  driver.device.device.write(0x42, 2, 0xc000);
  await once();
  assert.equal(driver.messages.length, 2);
  driver.device.device.write(0x42, 2, 0x8000);
  assert.equal(driver.messages.length, 3);
});

test("4.1.4.9: the BAR through configuration space", () => {
  driver.device.device.write(0x98 + 8, 4, 0x12);
  driver.device.device.write(0x98 + 12, 4, 2);
  assert.equal(config(0x98 + 16, 2), 1);
  driver.device.device.write(0x98 + 8, 4, 0x14);
  driver.device.device.write(0x98 + 12, 4, 1);
  driver.device.device.write(0x98 + 16, 1, 3);
  assert.equal(driver.get("status"), 3);
  driver.device.device.write(0x98 + 12, 4, 3);
  assert.equal(config(0x98 + 16, 4), 0);
});

test("2.7.7.2: a driver that asks for silence gets it, and is looked at again for what it may not have seen", async () => {
  driver.start();
  const flags = (value: number): void => driver.ram.setUint16(RING.available, value, true);
  flags(1);
  offerRead();
  driver.notify();
  await endAll();
  assert.equal(driver.irq.edges, 0);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(driver.irq.edges, 0);
  offerRead();
  driver.notify();
  await endAll();
  // As if the store had been on its way all the time.
  flags(0);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(driver.irq.edges, 1);
});

test("code that the device overwrote is forgotten before the driver is told", async () => {
  const forgotten = Promise.withResolvers<void>();
  const written: number[] = [];
  driver.dma = (buffers) => {
    written.push(...buffers.map(({ byteOffset }) => byteOffset - driver.memory.offsetOf(0, 1)));
    return written.length === 2 ? forgotten.promise : undefined;
  };
  driver.start();
  offerRead();
  driver.notify();
  await endAll();
  assert.deepEqual(written, [DATA, STATUS_BYTE]);
  assert.deepEqual([driver.usedIndex, driver.irq.edges], [0, 0]);
  forgotten.resolve();
  await settled();
  assert.deepEqual([driver.usedIndex, driver.irq.edges], [1, 1]);
  assert.deepEqual(written.slice(2), [RING.used + 4, RING.used + 2]);
});

test("held, a device takes nothing more, and its state is whole once what was in flight has ended", async () => {
  driver.start();
  offerRead();
  driver.notify();
  driver.queues.hold();
  const drained = driver.queues.drained();
  offerRead();
  driver.notify();
  assert.equal(disk.waiting.length, 1);
  await endAll();
  await drained;
  const saved = driver.device.device.save();
  const twin = new TestDriver<DiskInfo, BlockBackend>(virtioBlk, disk.info, disk, driver.memory);
  twin.device.device.load(saved);
  assert.deepEqual(twin.device.device.save(), saved);
  twin.queues.resume();
  twin.queues.look();
  assert.equal(disk.waiting.length, 1, "the second request is the loaded device's to serve");
  await endAll();
  assert.deepEqual(twin.used(), [
    { id: 0, length: SECTOR_BYTES + 1 },
    { id: 0, length: SECTOR_BYTES + 1 },
  ]);
});
