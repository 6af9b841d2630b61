import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Worker } from "node:worker_threads";
import { screenText } from "../devices/pc/text-screen.ts";
import { ManualClock, randomNumbers } from "../devices/test-rig.ts";
import { ENGINE_BYTES, GuestMemory } from "../memory/guest-memory.ts";
import { type Board, createBoard } from "./board.ts";

const RAM = 256 * 2 ** 20;
let clock: ManualClock;
let board: Board;
const create = (shared?: SharedArrayBuffer): Board =>
  createBoard({ clock, ramBytes: RAM, vcpus: 1, ...(shared === undefined ? {} : { shared }) });
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const out = (port: number, ...values: number[]): void => {
  for (const value of values) board.bus.writePort(port, 1, value);
};

beforeEach(() => {
  clock = new ManualClock();
  board = create();
});

const startPic = (): void => {
  out(0x20, 0x11);
  out(0x21, 0x30, 0x04, 0x01, 0x00);
  out(0xa0, 0x11);
  out(0xa1, 0x38, 0x02, 0x01, 0x00);
};

test("from the PIT to the processor: a timer's deadline, its interrupt, its vector", () => {
  startPic();
  out(0x43, 0x34);
  out(0x40, 0x9c, 0x2e);
  const deadline = board.nextDeadline();
  board.runTimers(deadline - 1);
  assert.equal(board.interrupts.pending(), false);
  clock.time = deadline;
  board.runTimers(deadline);
  assert.equal(board.interrupts.acknowledge(), 0x30);
});

test("HPET in legacy replacement takes the PIT's place", () => {
  startPic();
  out(0x43, 0x34);
  out(0x40, 0x9c, 0x2e);
  board.bus.writeMmio(0xfed00010, 4, 3);
  clock.time = board.nextDeadline();
  board.runTimers(clock.time);
  assert.equal(board.interrupts.pending(), false);
  board.bus.writeMmio(0xfed00100, 4, 0x104);
  board.bus.writeMmio(0xfed00108, 4, Math.floor(clock.time / 10) + 100);
  clock.time += 2000;
  board.runTimers(clock.time);
  assert.equal(board.interrupts.acknowledge(), 0x30);
});

test("serial: bytes out, bytes in with an interrupt, both from another thread's board", () => {
  const host = create(board.shared);
  for (const byte of new TextEncoder().encode("login: ")) out(0x3f8, byte);
  assert.equal(text(host.serial.read()), "login: ");
  startPic();
  out(0x3fc, 0x0b);
  out(0x3f9, 0x01);
  const ticket = board.wakeTicket();
  assert.equal(host.serial.write(Uint8Array.of(0x72)), 1);
  assert.notEqual(board.wakeTicket(), ticket, "a sleeper would wake");
  assert.equal(board.interrupts.acknowledge(), 0x34);
  assert.equal(board.bus.readPort(0x3f8, 1), 0x72);
});

test("serial output is not lost while the host reads nothing", () => {
  out(0x3fa, 0x01);
  const sent: number[] = [];
  const received: number[] = [];
  const random = randomNumbers(99);
  for (let i = 0; i < 67_000; i++) {
    // A driver waits for THRE before it writes; the host reads only when the guest would wait for long.
    if (i > 65_000 && (board.bus.readPort(0x3fd, 1) & 0x20) === 0) received.push(...board.serial.read());
    const byte = random() & 0xff;
    sent.push(byte);
    out(0x3f8, byte);
  }
  received.push(...board.serial.read());
  received.push(...board.serial.read());
  assert.deepEqual(received, sent);
});

test("power-off and reset requests are seen by every thread; reset clears them", () => {
  const other = create(board.shared);
  board.bus.writePort(0x604, 2, 0x2000 | (5 << 10));
  assert.deepEqual(other.requests, { powerOff: true, reset: false, debugExit: undefined });
  out(0xcf9, 0x06);
  assert.deepEqual(other.requests, { powerOff: true, reset: true, debugExit: undefined });
  board.reset();
  assert.deepEqual(other.requests, { powerOff: false, reset: false, debugExit: undefined });
});

test("a value written to isa-debug-exit is seen by every thread, and its port must be free", () => {
  const config = { clock, ramBytes: RAM, vcpus: 1, debugExit: { base: 0xf4, size: 4 } };
  const ended = createBoard(config);
  ended.bus.writePort(0xf4, 4, 0xfffffff0);
  assert.equal(createBoard({ ...config, shared: ended.shared }).requests.debugExit, 0xfffffff0);
  ended.reset();
  assert.equal(ended.requests.debugExit, undefined);
  assert.throws(() => createBoard({ ...config, debugExit: { base: 0x3f8, size: 2 } }), { code: "bus-conflict" });
});

test("keys reach the keyboard controller as fast as the guest reads them", () => {
  const keys = Uint8Array.from({ length: 600 }, (_, i) => (i % 2 === 0 ? 0x1e : 0x9e));
  const taken = board.keyboard.write(keys);
  assert.ok(taken > 100 && taken < keys.length);
  const seen: number[] = [];
  while ((board.bus.readPort(0x64, 1) & 1) !== 0) seen.push(board.bus.readPort(0x60, 1));
  assert.deepEqual(seen, [...keys.subarray(0, taken)]);
  assert.equal(board.keyboard.write(keys.subarray(taken)), Math.min(keys.length - taken, taken));
});

test("the screen is what was written to 0xb8000", () => {
  board.bus.writeMmio(0xb8000, 4, 0x07690748);
  assert.equal(screenText(board.screen() ?? assert.fail("no text")), "Hi\n");
});

test("callbacks tell the thread that asked", () => {
  const asked: string[] = [];
  const notified = createBoard({
    clock,
    ramBytes: RAM,
    vcpus: 1,
    onPowerOff: () => asked.push("off"),
    onReset: () => asked.push("reset"),
  });
  notified.bus.writePort(0x604, 2, 0x2000 | (5 << 10));
  notified.bus.writePort(0x64, 1, 0xfe);
  assert.deepEqual(asked, ["off", "reset"]);
});

test("the power button raises the SCI", () => {
  startPic();
  board.bus.writePort(0x602, 2, 0x0100);
  board.pressPowerButton();
  assert.equal(board.interrupts.acknowledge(), 0x39);
});

test("the whole board is saved and loaded, pending interrupts included", () => {
  startPic();
  out(0x3fc, 0x0b);
  out(0x3f9, 0x02);
  out(0x43, 0x34);
  out(0x40, 0, 0);
  const saved = structuredClone(board.save());
  const other = create();
  other.load(saved);
  assert.deepEqual(other.save(), board.save());
  assert.equal(other.nextDeadline(), board.nextDeadline());
  assert.equal(other.interrupts.acknowledge(), 0x34);
  const { uart: _, ...incomplete } = saved;
  assert.throws(() => other.load(incomplete), { code: "state-invalid" });
});

test("a buffer that is no board's, or another board's, is refused", () => {
  assert.throws(() => create(new SharedArrayBuffer(512 * 1024)), { code: "board-mismatch" });
  assert.throws(() => createBoard({ clock, ramBytes: RAM, vcpus: 8, shared: board.shared }), {
    code: "board-mismatch",
  });
});

test("any access to any port and device page, of any size, gives a number and never throws", () => {
  const random = randomNumbers(2024);
  const pages = [0xfee00000, 0xfec00000, 0xfed00000, 0xe0000000, 0xb8000, 0xc0000000];
  for (let i = 0; i < 300_000; i++) {
    const size = ([1, 2, 4] as const)[random() % 3] ?? 1;
    const port = random() % 4 === 0 ? random() % 0x10000 : random() % 0x800;
    const address = (pages[random() % pages.length] ?? 0) + (random() % 0x1000);
    if (random() % 2 === 0) board.bus.writePort(port, size, random() % 2 ** (8 * size));
    else board.bus.writeMmio(address, size, random() % 2 ** (8 * size));
    const value = random() % 2 === 0 ? board.bus.readPort(port, size) : board.bus.readMmio(address, size);
    assert.ok(Number.isInteger(value) && value >= 0 && value < 2 ** (8 * size), `${value}`);
    clock.time += random() % 10_000;
    board.runTimers(clock.time);
    if (board.interrupts.pending()) board.interrupts.acknowledge();
    if (i % 1000 === 0) board.serial.read();
  }
});

test("RAM that a device writes within a processor's access is told before: decoded code may lie there", () => {
  const memory = GuestMemory.create(2 * 2 ** 20);
  const told: [number, number][] = [];
  const own = createBoard({
    clock,
    ramBytes: memory.ramBytes,
    vcpus: 1,
    memory,
    onDeviceWrites: ({ byteOffset, byteLength }) => told.push([byteOffset - ENGINE_BYTES, byteLength]),
  });
  const DESCRIPTOR = 0x1000;
  const view = new DataView(memory.memory.buffer, memory.offsetOf(DESCRIPTOR, 16), 16);
  // fw_cfg by DMA: select item 0, the signature, and read 4 bytes to 0x2000.
  view.setUint32(0, 0x0000_000a);
  view.setUint32(4, 4);
  view.setBigUint64(8, 0x2000n);
  own.bus.writePort(0x514, 4, 0);
  own.bus.writePort(0x518, 4, 0x0010_0000);
  assert.equal(new TextDecoder().decode(memory.slice(0x2000, 4)?.slice()), "QEMU");
  assert.deepEqual(told, [
    [DESCRIPTOR, 16],
    [0x2000, 4],
  ]);
});

test("two threads under the board's lock lose no update", async () => {
  const rounds = 20_000;
  // The PIC's mask register is read, changed and written back: without the lock, updates would be lost.
  const body = `
    import { workerData, parentPort } from "node:worker_threads";
    const { createBoard } = await import(workerData.module);
    const clock = { now: () => 0, tscHz: 1e9, bootTime: 0n };
    const board = createBoard({ clock, ramBytes: workerData.ram, vcpus: 1, shared: workerData.shared });
    for (let i = 0; i < ${rounds}; i++) {
      board.enter(() => board.bus.writePort(0x3ff, 1, (board.bus.readPort(0x3ff, 1) + 1) & 0xff));
    }
    parentPort.postMessage("done");`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(body)}`);
  const workerData = { module: new URL("./board.ts", import.meta.url).href, ram: RAM, shared: board.shared };
  const workers = [0, 1].map(() => new Worker(url, { workerData }));
  await Promise.all(
    workers.map((worker) => new Promise<void>((resolve, reject) => worker.once("exit", resolve).once("error", reject))),
  );
  assert.equal(board.bus.readPort(0x3ff, 1), (2 * rounds) & 0xff);
});
