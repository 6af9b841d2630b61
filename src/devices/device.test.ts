import assert from "node:assert/strict";
import { test } from "node:test";
import { DeviceBus } from "./bus.ts";
import { ByteRing } from "./byte-ring.ts";
import { defineDevice, mmio, pio } from "./device.ts";
import { bool, bytes, f64, StateArena, u16, u32, u32s, u64, u8 } from "./state.ts";
import { ManualClock, newArena } from "./test-rig.ts";

/** Notes each access that reaches the handlers. */
const log: string[] = [];
const wiring = () => ({ arena: newArena(), clock: new ManualClock(), port: null });

const byteWide = defineDevice<null>()({
  name: "bytes",
  version: 1,
  ranges: [pio(0x100, 4), pio(0x200, 2)],
  state: { registers: bytes(6) },
  read: ({ state }, offset) => state.registers[offset] ?? 0,
  write({ state }, offset, size, value) {
    log.push(`${offset}:${size}=${value.toString(16)}`);
    state.registers[offset] = value;
  },
});

const wordsOf32 = defineDevice<null>()({
  name: "dwords",
  version: 1,
  ranges: [mmio(0xd0000000, 0x1000)],
  widths: { min: 4, max: 4 },
  state: { last: u32 },
  read: ({ state }, offset) => (offset === 0 ? state.last : 0x44332211),
  write({ state }, _offset, _size, value) {
    state.last = value;
  },
});

test("a byte-wide device gets wide accesses as bytes, lowest first", () => {
  log.length = 0;
  const device = byteWide.instantiate(wiring());
  device.write(0, 4, 0x04030201);
  device.write(1, 2, 0xbbaa);
  assert.deepEqual(log, ["0:1=1", "1:1=2", "2:1=3", "3:1=4", "1:1=aa", "2:1=bb"]);
  assert.equal(device.read(0, 4), 0x04bbaa01);
});

test("a 32-bit device shows narrow reads their bytes, and ignores narrow and misaligned writes", () => {
  const device = wordsOf32.instantiate(wiring());
  assert.equal(device.read(6, 2), 0x4433);
  assert.equal(device.read(5, 4), 0x11443322);
  device.write(0, 2, 0xffff);
  device.write(2, 4, 0xffff);
  assert.equal(device.read(0, 4), 0);
  device.write(0, 4, 0x80000000);
  assert.equal(device.read(0, 4), 0x80000000);
});

test("the bus: ranges in order, all ones where nobody answers, split at a range's edge", () => {
  const bus = new DeviceBus();
  bus.attach(byteWide.instantiate(wiring()));
  bus.attach(wordsOf32.instantiate(wiring()));
  bus.writePort(0x201, 1, 0x77);
  assert.equal(bus.readPort(0x201, 2), 0xff77);
  assert.equal(bus.readPort(0xff, 4), 0x000000ff);
  assert.equal(bus.readPort(0x300, 4), 0xffffffff);
  assert.equal(bus.readPort(0xffff, 4), 0xffffffff);
  assert.equal(bus.readMmio(0xd0000004, 4), 0x44332211);
  assert.equal(bus.readMmio(0xd0000ffe, 4), 0xffffffff);
  assert.equal(bus.readMmio(0xc0000000, 2), 0xffff);
  bus.writeMmio(0xffffffff, 1, 1);
});

test("the bus tells of accesses that nobody claims", () => {
  const bus = new DeviceBus();
  const seen: unknown[] = [];
  bus.onUnclaimed = (...access) => seen.push(access);
  bus.writePort(0x80, 1, 5);
  bus.readMmio(0xb8000, 4);
  assert.deepEqual(seen, [
    ["pio", 0x80, 1, true],
    ["mmio", 0xb8000, 4, false],
  ]);
});

test("two devices on one range are refused", () => {
  const bus = new DeviceBus();
  bus.attach(byteWide.instantiate(wiring()));
  assert.throws(() => bus.attach(byteWide.instantiate(wiring())), {
    code: "bus-conflict",
    message: /bytes: pio 0x100\+4 is taken by bytes/,
  });
});

const everyKind = defineDevice<null>()({
  name: "kinds",
  version: 3,
  ranges: [],
  state: { a: u8, b: u16, c: u32, d: u64, e: f64, f: bool, g: bytes(3), h: u32s(2) },
  migrations: { 2: ({ old, ...rest }) => ({ ...rest, a: old ?? 0 }) },
  read: () => 0,
  write() {},
});

test("state is saved by name as plain data, and loaded again", () => {
  const device = everyKind.instantiate(wiring());
  Object.assign(device.context.state, { a: 1, b: 2, c: 3, d: 2n ** 64n - 1n, e: Infinity, f: true });
  device.context.state.g.set([7, 8, 9]);
  const saved = device.save();
  assert.deepEqual(saved, {
    version: 3,
    fields: { a: 1, b: 2, c: 3, d: "0xffffffffffffffff", e: "never", f: true, g: new Uint8Array([7, 8, 9]), h: [0, 0] },
  });
  const other = everyKind.instantiate(wiring());
  other.load(saved);
  assert.deepEqual(other.save(), saved);
});

test("older versions go through their migrations; unknown ones are refused", () => {
  const device = everyKind.instantiate(wiring());
  const { a: _, ...fields } = device.save().fields;
  device.load({ version: 2, fields: { ...fields, old: 5 } });
  assert.equal(device.context.state.a, 5);
  for (const version of [1, 4, Number.NaN]) {
    assert.throws(() => device.load({ version, fields }), { code: "state-version" });
  }
});

test("instances over one buffer share their state; a full buffer is refused", () => {
  const buffer = new SharedArrayBuffer(256);
  const [first, second] = [0, 1].map(() => everyKind.instantiate({ ...wiring(), arena: new StateArena(buffer) }));
  assert.ok(first && second);
  first.context.state.c = 0xdeadbeef;
  assert.equal(second.context.state.c, 0xdeadbeef);
  const arena = new StateArena(buffer);
  arena.take(200);
  assert.throws(() => everyKind.instantiate({ ...wiring(), arena }), { code: "board-memory" });
});

test("a ring gives back what was put in, across its end, and says when it is full", () => {
  const ring = new ByteRing(newArena(), 8);
  for (let turn = 0; turn < 5; turn++) {
    assert.equal(ring.write(Uint8Array.of(1, 2, 3, 4, 5)), 5);
    assert.equal(ring.push(6), true);
    assert.equal(ring.write(Uint8Array.of(7, 8, 9)), 2);
    assert.equal(ring.push(9), false);
    assert.equal(ring.shift(), 1);
    assert.deepEqual([...ring.read()], [2, 3, 4, 5, 6, 7, 8]);
    assert.equal(ring.shift(), -1);
  }
});

test("waiting for a ring ends with the other side's bytes or room", async () => {
  const ring = new ByteRing(newArena(), 8);
  const keepAlive = setInterval(() => {}, 1000);
  const readable = ring.readable();
  ring.push(1);
  await readable;
  ring.write(new Uint8Array(7));
  const writable = ring.writable();
  assert.equal(ring.room, 0);
  ring.shift();
  await writable;
  clearInterval(keepAlive);
  assert.equal(ring.room, 1);
});
