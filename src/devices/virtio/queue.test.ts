import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { GuestMemory } from "../../memory/guest-memory.ts";
import { ADDRESS_WORDS, MAX_QUEUE_SIZE, SplitQueue } from "./queue.ts";

const RAM = 2 * 1024 * 1024;
const DESCRIPTORS = 0x10000;
const AVAILABLE = 0x12000;
const USED = 0x14000;
const SIZE = 8;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

let memory: GuestMemory;
let ram: DataView;
let registers: { queueSize: Uint32Array; queueAddress: Uint32Array; queueNext: Uint32Array; queueUsed: Uint32Array };
let queue: SplitQueue;

beforeEach(() => {
  memory = GuestMemory.create(RAM);
  ram = new DataView(memory.memory.buffer, memory.offsetOf(0, 1), RAM);
  registers = {
    queueSize: Uint32Array.of(SIZE),
    queueAddress: Uint32Array.of(DESCRIPTORS, 0, AVAILABLE, 0, USED, 0),
    queueNext: new Uint32Array(1),
    queueUsed: new Uint32Array(1),
  };
  assert.equal(registers.queueAddress.length, ADDRESS_WORDS);
  queue = new SplitQueue(memory, registers, 0);
});

const describe = (
  index: number,
  address: number | bigint,
  length: number,
  flags = 0,
  next = 0,
  table = DESCRIPTORS,
) => {
  ram.setBigUint64(table + 16 * index, BigInt(address), true);
  ram.setUint32(table + 16 * index + 8, length, true);
  ram.setUint16(table + 16 * index + 12, flags, true);
  ram.setUint16(table + 16 * index + 14, next, true);
};
const offer = (...heads: number[]): void => {
  for (const head of heads) {
    const index = ram.getUint16(AVAILABLE + 2, true);
    ram.setUint16(AVAILABLE + 4 + 2 * (index % SIZE), head, true);
    ram.setUint16(AVAILABLE + 2, index + 1, true);
  }
};
const taken = () => {
  const chain = queue.next(true);
  assert.ok(chain !== undefined && !("fault" in chain), `wanted a chain, found ${JSON.stringify(chain)}`);
  return chain;
};
const refused = (pattern: RegExp, indirectAllowed = true): void => {
  const chain = queue.next(indirectAllowed);
  assert.ok(chain !== undefined && "fault" in chain, "wanted a fault");
  assert.match(chain.fault, pattern);
};

test("2.7.6: chains come in the order of the available ring, once each, and the index wraps", () => {
  for (let i = 0; i < SIZE; i++) describe(i, 0x20000 + i * 0x100, 0x100);
  registers.queueNext[0] = 0xfffe;
  ram.setUint16(AVAILABLE + 2, 0xfffe, true);
  offer(3, 1, 2, 0);
  assert.deepEqual([taken().head, taken().head, taken().head, taken().head], [3, 1, 2, 0]);
  assert.equal(queue.next(true), undefined);
  assert.equal(registers.queueNext[0], 2);
});

test("2.7.4.2: a chain's buffers are views of RAM, readable ones first", () => {
  describe(0, 0x20000, 16, NEXT, 5);
  describe(5, 0x30000, 512, NEXT | WRITE, 2);
  describe(2, 0x30200, 1, WRITE);
  offer(0);
  const { readable, writable } = taken();
  assert.deepEqual(
    [...readable, ...writable].map(({ byteOffset, length }) => [byteOffset - memory.offsetOf(0, 1), length]),
    [
      [0x20000, 16],
      [0x30000, 512],
      [0x30200, 1],
    ],
  );
});

test("2.7.5.3: an indirect table, also after direct descriptors, its write flag ignored", () => {
  describe(0, 0x20000, 16, NEXT, 1);
  describe(1, 0x40000, 32, INDIRECT | WRITE);
  describe(0, 0x21000, 8, NEXT, 1, 0x40000);
  describe(1, 0x22000, 4, WRITE, 0, 0x40000);
  offer(0);
  const { readable, writable } = taken();
  assert.deepEqual([readable.map(({ length }) => length), writable.map(({ length }) => length)], [[16, 8], [4]]);
});

test("2.7.13.3: more chains than the queue holds are refused", () => {
  ram.setUint16(AVAILABLE + 2, SIZE + 1, true);
  refused(/9 chains available in a queue of 8/);
});

test("2.7.5: bad descriptors are refused", () => {
  const cases: [RegExp, () => void][] = [
    [/begins at descriptor 8 of 8/, () => offer(SIZE)],
    [/begins at descriptor 65535/, () => offer(0xffff)],
    [/goes on at descriptor 8 of 8/, () => (describe(0, 0x20000, 1, NEXT, SIZE), offer(0))],
    [/length 0/, () => (describe(0, 0x20000, 0), offer(0))],
    [/outside RAM/, () => (describe(0, RAM - 1, 2), offer(0))],
    [/outside RAM/, () => (describe(0, 0xffff_ffff_ffff_ffffn, 2), offer(0))],
    [/outside RAM/, () => (describe(0, 0x1000_0000_0002_0000n, 2), offer(0))],
    [/outside RAM/, () => (describe(0, 0x20000, 0xffffffff), offer(0))],
    // The legacy VGA window is no RAM.
    [/outside RAM/, () => (describe(0, 0x9ffff, 2), offer(0))],
    [
      /readable descriptor after a writable/,
      () => {
        describe(0, 0x20000, 1, NEXT | WRITE, 1);
        describe(1, 0x20000, 1);
        offer(0);
      },
    ],
  ];
  for (const [pattern, damage] of cases) {
    registers.queueNext[0] = 0;
    ram.setUint16(AVAILABLE + 2, 0, true);
    damage();
    refused(pattern);
    // Nothing was taken: the fault stays.
    refused(pattern);
  }
});

test("2.7.5.3.1: loops end, in the queue and in a table", () => {
  describe(0, 0x20000, 1, NEXT, 1);
  describe(1, 0x20000, 1, NEXT, 0);
  offer(0);
  refused(/more than 8 descriptors/);
  describe(0, 0x40000, 32, INDIRECT);
  describe(0, 0x20000, 1, NEXT, 1, 0x40000);
  describe(1, 0x20000, 1, NEXT, 1, 0x40000);
  refused(new RegExp(`more than ${MAX_QUEUE_SIZE} descriptors`));
});

test("2.7.5.3.1: bad indirect tables are refused", () => {
  const cases: [RegExp, bigint | number, number, number, boolean?][] = [
    [/without its feature/, 0x40000, 16, INDIRECT, false],
    [/with a next one/, 0x40000, 16, INDIRECT | NEXT],
    [/table of 0 bytes/, 0x40000, 0, INDIRECT],
    [/table of 24 bytes/, 0x40000, 24, INDIRECT],
    [/table of 4294967280 bytes/, 0x40000, 0xfffffff0, INDIRECT],
    [/outside RAM/, RAM - 8, 16, INDIRECT],
    [/outside RAM or not aligned/, 0x40001, 16, INDIRECT],
  ];
  offer(0);
  for (const [pattern, address, length, flags, allowed = true] of cases) {
    describe(0, address, length, flags);
    refused(pattern, allowed);
  }
  describe(0, 0x40000, 16, INDIRECT);
  describe(0, 0x41000, 16, INDIRECT, 0, 0x40000);
  refused(/inside an indirect table/);
});

test("2.7: rings outside RAM or not aligned, and sizes that are none, are refused", () => {
  describe(0, 0x20000, 1);
  offer(0);
  const whole = Array.from(registers.queueAddress);
  for (const [word, value] of [
    [0, RAM - 16],
    [2, RAM - 4],
    [4, RAM - 8],
    [1, 1],
    [3, 0xffffffff],
    [0, DESCRIPTORS + 8],
    [2, AVAILABLE + 1],
    [4, USED + 2],
  ] as const) {
    registers.queueAddress.set(whole);
    registers.queueAddress[word] = value;
    refused(/lies outside RAM/);
    assert.equal(queue.put(0, 0), undefined);
    assert.equal(queue.publish(), undefined);
  }
  registers.queueAddress.set(whole);
  for (const size of [0, 3, 0xffffffff]) {
    registers.queueSize[0] = size;
    refused(/has size/);
  }
});

test("2.7.8: the used ring gets head and length; the index follows and wraps", () => {
  registers.queueUsed[0] = 0xffff;
  queue.put(5, 513);
  assert.equal(ram.getUint16(USED + 2, true), 0);
  queue.publish();
  assert.deepEqual([ram.getUint32(USED + 4 + 8 * 7, true), ram.getUint32(USED + 8 + 8 * 7, true)], [5, 513]);
  assert.deepEqual([ram.getUint16(USED + 2, true), registers.queueUsed[0]], [0, 0]);
  queue.put(6, 1);
  queue.publish();
  assert.deepEqual([ram.getUint32(USED + 4, true), ram.getUint16(USED + 2, true)], [6, 1]);
});

test("2.7.7: the driver's wish not to be interrupted", () => {
  assert.equal(queue.quiet, false);
  ram.setUint16(AVAILABLE, 1, true);
  assert.equal(queue.quiet, true);
});
