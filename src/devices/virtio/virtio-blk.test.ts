import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { BAR, type Descriptor, settled, TestDriver } from "./test-driver.ts";
import { type BlockBackend, type DiskInfo, SECTOR_BYTES, virtioBlk } from "./virtio-blk.ts";

const SECTORS = 64;
const FLUSH = 1 << 9;

/** A disk in memory that keeps a journal of what it was asked. */
class MemoryDisk implements BlockBackend {
  readonly info: DiskInfo;
  readonly bytes = new Uint8Array(SECTORS * SECTOR_BYTES);
  readonly journal: string[] = [];
  broken = false;

  constructor(readOnly = false) {
    this.info = { sectors: SECTORS, readOnly, serial: "serial-0123456789abcdef" };
  }

  async read(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    this.#note(`read ${position}`);
    let at = position;
    for (const buffer of buffers) {
      buffer.set(this.bytes.subarray(at, at + buffer.length));
      at += buffer.length;
    }
  }
  async write(position: number, buffers: readonly Uint8Array[]): Promise<void> {
    this.#note(`write ${position}`);
    let at = position;
    for (const buffer of buffers) {
      this.bytes.set(buffer, at);
      at += buffer.length;
    }
  }
  async flush(): Promise<void> {
    this.#note("flush");
  }
  #note(what: string): void {
    if (this.broken) throw new Error("the medium failed");
    this.journal.push(what);
  }
}

let disk: MemoryDisk;
let driver: TestDriver<DiskInfo, BlockBackend>;
const begin = (readOnly = false, features?: number): void => {
  disk = new MemoryDisk(readOnly);
  driver = new TestDriver(virtioBlk, disk.info, disk);
  driver.start(16, features);
};
beforeEach(() => begin());

const HEADER = 0x20000;
const DATA = 0x30000;
const ANSWER = 0x28000;

/** Sends one request of these buffers after a header; result: status byte and used length. */
const request = async (
  type: number,
  sector: number | bigint,
  data: readonly Descriptor[],
): Promise<{ status: number; length: number | undefined }> => {
  const { ram } = driver;
  ram.setUint32(HEADER, type, true);
  ram.setUint32(HEADER + 4, 0xdeadbeef, true);
  ram.setBigUint64(HEADER + 8, BigInt(sector), true);
  ram.setUint8(ANSWER, 0xff);
  const chain = [{ address: HEADER, length: 16 }, ...data, { address: ANSWER, length: 1, flags: 2 }];
  for (const [index, descriptor] of chain.entries()) {
    const last = index === chain.length - 1;
    driver.describe(index, { ...descriptor, flags: (descriptor.flags ?? 0) | (last ? 0 : 1), next: index + 1 });
  }
  driver.offer(0);
  driver.notify();
  await settled();
  const [used] = driver.used();
  return { status: ram.getUint8(ANSWER), length: used?.length };
};
const into = (length: number, address = DATA): Descriptor => ({ address, length, flags: 2 });
const from = (length: number, address = DATA): Descriptor => ({ address, length });

test("5.2.4: the configuration gives capacity, limits and block size", () => {
  const word = (offset: number): number => driver.readBar(BAR.device + offset, 4);
  assert.deepEqual([word(0), word(4), word(8), word(12), word(20)], [SECTORS, 0, 2 ** 20, 126, 512]);
  assert.equal(driver.readBar(BAR.device + 24, 4), 0);
});

test("5.2.6: what was written is read again, through buffers of any cut", async () => {
  for (let i = 0; i < 1024; i++) driver.ram.setUint8(DATA + i, i * 7);
  assert.deepEqual(await request(1, 5, [from(1), from(1000, DATA + 1), from(23, DATA + 1001)]), {
    status: 0,
    length: 1,
  });
  assert.deepEqual(disk.bytes.subarray(5 * 512, 7 * 512), driver.memory.slice(DATA, 1024)?.slice());
  assert.deepEqual(await request(0, 5, [into(700, 0x40000), into(324, 0x50000)]), { status: 0, length: 1025 });
  assert.deepEqual(driver.memory.slice(0x50000, 324)?.slice(), driver.memory.slice(DATA + 700, 324)?.slice());
});

test("5.2.6: a header and an answer that lie in one descriptor with the data", async () => {
  const { ram } = driver;
  ram.setUint32(HEADER, 1, true);
  ram.setBigUint64(HEADER + 8, 0n, true);
  driver.memory.slice(HEADER + 16, 512)?.fill(0x5a);
  driver.describe(0, { address: HEADER, length: 16 + 512, flags: 1, next: 1 });
  driver.describe(1, { address: ANSWER, length: 1, flags: 2 });
  driver.offer(0);
  driver.notify();
  await settled();
  assert.deepEqual([disk.bytes[0], disk.bytes[511], disk.bytes[512]], [0x5a, 0x5a, 0]);
});

test("5.2.6.2: requests beyond the disk, of parts of sectors, or too large, are I/O errors", async () => {
  const cases: [number, number | bigint, Descriptor[]][] = [
    [0, SECTORS, [into(512)]],
    [0, SECTORS - 1, [into(1024)]],
    [0, 2n ** 64n - 1n, [into(512)]],
    [0, 2n ** 55n, [into(512)]],
    [0, 0, [into(511)]],
    [1, 0, [from(513)]],
    [1, SECTORS, [from(512)]],
    [0, 0, Array.from({ length: 14 }, () => into(1024 * 1024, 0x100000))],
  ];
  for (const [type, sector, data] of cases) {
    assert.equal((await request(type, sector, data)).status, 1, `type ${type} at ${sector}`);
  }
  assert.deepEqual(disk.journal, []);
});

test("5.2.6: flush, identification, and what there is not", async () => {
  assert.deepEqual(await request(4, 0, []), { status: 0, length: 1 });
  assert.deepEqual(disk.journal, ["flush"]);
  assert.deepEqual(await request(8, 0, [into(20)]), { status: 0, length: 21 });
  assert.equal(new TextDecoder().decode(driver.memory.slice(DATA, 20)?.slice()), "serial-0123456789abc");
  assert.equal((await request(11, 0, [from(16)])).status, 2);
  assert.equal((await request(0xffffffff, 0, [])).status, 2);
});

test("5.2.5: without VIRTIO_BLK_F_FLUSH every write is durable before it is completed", async () => {
  begin(false, 0);
  await request(1, 0, [from(512)]);
  assert.deepEqual(disk.journal, ["write 0", "flush"]);
  begin(false, FLUSH);
  await request(1, 0, [from(512)]);
  assert.deepEqual(disk.journal, ["write 0"]);
});

test("5.2.3: a read-only disk offers that, and takes no write", async () => {
  begin(true);
  driver.set("deviceFeatureSelect", 0);
  assert.notEqual(driver.get("deviceFeature") & (1 << 5), 0);
  assert.equal((await request(1, 0, [from(512)])).status, 1);
  assert.deepEqual(disk.journal, []);
});

test("a medium that fails is an I/O error for the guest, and the device goes on", async () => {
  disk.broken = true;
  assert.equal((await request(0, 0, [into(512)])).status, 1);
  assert.equal((await request(4, 0, [])).status, 1);
  disk.broken = false;
  assert.equal((await request(0, 0, [into(512)])).status, 0);
  assert.equal(driver.needsReset, false);
});

test("a request without a header, or without room for its answer, asks for a reset", async () => {
  const chains: Descriptor[][] = [
    [{ address: HEADER, length: 16 }],
    [{ address: HEADER, length: 15 }, into(1)],
    [into(600)],
  ];
  for (const chain of chains) {
    begin();
    for (const [index, descriptor] of chain.entries()) {
      const flags = descriptor.flags ?? 0;
      driver.describe(index, { ...descriptor, flags: flags | (index < chain.length - 1 ? 1 : 0), next: index + 1 });
    }
    driver.offer(0);
    driver.notify();
    await settled();
    assert.ok(driver.needsReset);
    driver.set("status", 0);
    assert.equal(driver.get("status"), 0);
  }
});

test("as many requests as the queue holds are in flight at once", async () => {
  const gate = Promise.withResolvers<void>();
  let inFlight = 0;
  disk.read = async () => {
    inFlight++;
    await gate.promise;
  };
  for (let i = 0; i < 5; i++) {
    driver.describe(3 * i, { address: HEADER, length: 16, flags: 1, next: 3 * i + 1 });
    driver.describe(3 * i + 1, { address: DATA + 512 * i, length: 512, flags: 3, next: 3 * i + 2 });
    driver.describe(3 * i + 2, { address: ANSWER + i, length: 1, flags: 2 });
    driver.offer(3 * i);
  }
  driver.notify();
  assert.equal(inFlight, 5);
  gate.resolve();
  await settled();
  assert.deepEqual(
    driver.used().map(({ id }) => id),
    [0, 3, 6, 9, 12],
  );
});
