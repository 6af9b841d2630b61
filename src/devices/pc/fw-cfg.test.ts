import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { ManualClock, newArena } from "../test-rig.ts";
import { fwCfg, fwCfgItems } from "./fw-cfg.ts";

const RAM = 64 * 1024;
const DESCRIPTOR = 0x1000;
const SIGNATURE = 0x00;
const DIRECTORY = 0x19;
const HELLO = new TextEncoder().encode("hello, guest");

let ram: Uint8Array;
const make = () => {
  const files = [
    { name: "opt/z", bytes: new Uint8Array(0) },
    { name: "opt/hello", bytes: HELLO },
  ];
  const items = fwCfgItems({ ramBytes: RAM, vcpus: 3, ram: [{ start: 0, size: RAM }], files });
  const slice = (address: number, length: number) =>
    address + length <= RAM ? ram.subarray(address, address + length) : undefined;
  return fwCfg.instantiate({ arena: newArena(), clock: new ManualClock(), port: { items, ram: slice } });
};
let device: ReturnType<typeof make>;

const select = (key: number): void => device.write(0, 2, key);
const bytes = (count: number): Uint8Array => Uint8Array.from({ length: count }, () => device.read(1, 1));
const text = (data: Uint8Array): string => new TextDecoder().decode(data);
/** Starts a transfer; gives the control word that came back. */
const dma = (control: number, length: number, address: number): number => {
  const view = new DataView(ram.buffer, DESCRIPTOR, 16);
  view.setUint32(0, control);
  view.setUint32(4, length);
  view.setBigUint64(8, BigInt(address));
  device.write(4, 4, 0);
  const swapped = new DataView(new ArrayBuffer(4));
  swapped.setUint32(0, DESCRIPTOR);
  device.write(8, 4, swapped.getUint32(0, true));
  return view.getUint32(0);
};
/** The directory as a guest reads it. */
const files = (): { name: string; key: number; size: number }[] => {
  select(DIRECTORY);
  const count = new DataView(bytes(4).buffer).getUint32(0);
  return Array.from({ length: count }, () => {
    const entry = bytes(64);
    const view = new DataView(entry.buffer);
    return { name: text(entry.subarray(8)).replace(/\0+$/, ""), key: view.getUint16(4), size: view.getUint32(0) };
  });
};

beforeEach(() => {
  ram = new Uint8Array(RAM);
  device = make();
  device.reset();
});

test("signature, features, memory and processors", () => {
  select(SIGNATURE);
  assert.equal(text(bytes(4)), "QEMU");
  assert.deepEqual([...bytes(2)], [0, 0]);
  select(1);
  assert.deepEqual([...bytes(4)], [3, 0, 0, 0]);
  select(3);
  assert.deepEqual([...bytes(8)], [0, 0, 1, 0, 0, 0, 0, 0]);
  select(5);
  assert.deepEqual([...bytes(2)], [3, 0]);
});

test("the directory lists files in the order of their names, and each is read by its key", () => {
  const listed = files();
  assert.deepEqual(
    listed.map(({ name, size }) => [name, size]),
    [
      ["etc/e820", 20],
      ["opt/hello", HELLO.length],
      ["opt/z", 0],
    ],
  );
  select(listed[1]?.key ?? 0);
  assert.equal(text(bytes(HELLO.length)), "hello, guest");
  select(listed[0]?.key ?? 0);
  assert.deepEqual([...bytes(20)], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
});

test("DMA: its signature, select with read, skip, zeros beyond the end", () => {
  assert.equal(text(Uint8Array.from({ length: 8 }, (_, i) => device.read(4 + i, 1))), "QEMU CFG");
  const key = files()[1]?.key ?? 0;
  ram.fill(0xee, 0x2000, 0x2010);
  assert.equal(dma((key << 16) | 0x0a, 5, 0x2000), 0);
  assert.equal(text(ram.subarray(0x2000, 0x2005)), "hello");
  assert.equal(dma(0x04, 2, 0), 0);
  assert.equal(dma(0x02, 8, 0x2000), 0);
  assert.deepEqual([...ram.subarray(0x2000, 0x2009)], [...new TextEncoder().encode("guest"), 0, 0, 0, 0xee]);
});

test("DMA that cannot be done ends with the error bit, and changes no memory", () => {
  const key = files()[1]?.key ?? 0;
  assert.equal(dma((key << 16) | 0x0a, 16, RAM - 8), 1);
  assert.equal(dma((key << 16) | 0x18, 4, 0x2000), 1);
  assert.equal(dma(0x02, 0xffffffff, 0), 1);
  assert.ok(ram.subarray(0x1010).every((byte) => byte === 0));
  // A descriptor outside of RAM can tell nobody.
  device.write(4, 4, 0xffffffff);
  device.write(8, 4, 0xffffffff);
});

test("keys without an item, and accesses of other sizes, give zeros", () => {
  select(0x1234);
  assert.deepEqual([...bytes(4)], [0, 0, 0, 0]);
  select(SIGNATURE);
  assert.equal(device.read(0, 2), 0);
  device.write(0, 1, 0x19);
  assert.equal(text(bytes(4)), "QEMU");
});
