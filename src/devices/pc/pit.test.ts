import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { CountingLine, ManualClock, newArena } from "../test-rig.ts";
import { PIT_HZ, pit } from "./pit.ts";

let clock: ManualClock;
let line: CountingLine;
const make = () => pit.instantiate({ arena: newArena(), clock, port: null, irq: line });
let chip: ReturnType<typeof make>;
const CONTROL = 3;
const PORT_61 = 4;
const out = (offset: number, ...values: number[]): void => {
  for (const value of values) chip.write(offset, 1, value);
};
const readWord = (channel: number): number => chip.read(channel, 1) | (chip.read(channel, 1) << 8);
/** Guest time after `ticks` of the input clock. */
const afterTicks = (ticks: number): number => Math.ceil((ticks * 1e9) / PIT_HZ);
const run = (now: number): void => {
  clock.time = now;
  if (chip.deadline() <= now) chip.expire(now);
};

beforeEach(() => {
  clock = new ManualClock();
  line = new CountingLine();
  chip = make();
  chip.reset();
});

test("mode 2 interrupts at every period, exactly", () => {
  out(CONTROL, 0x34);
  out(0, 0x9c, 0x2e); // 11932
  for (let period = 1; period <= 1000; period++) {
    assert.equal(chip.deadline(), afterTicks(11932 * period));
    run(chip.deadline());
    assert.equal(line.edges, period);
  }
});

test("mode 2 coalesces periods that were missed", () => {
  out(CONTROL, 0x34);
  out(0, 0xe8, 0x03);
  run(afterTicks(5500));
  assert.equal(line.edges, 1);
  assert.equal(chip.deadline(), afterTicks(6000));
});

test("mode 0 raises its output once, and holds it until it is programmed again", () => {
  out(CONTROL, 0x30);
  out(0, 0x10, 0x27); // 10000
  run(afterTicks(9999));
  assert.equal(line.level, false);
  run(afterTicks(10000));
  assert.equal(line.level, true);
  assert.equal(chip.deadline(), Infinity);
  out(CONTROL, 0x30);
  assert.equal(line.level, false);
});

test("mode 4 strobes once, one tick after the count", () => {
  out(CONTROL, 0x38);
  out(0, 0x64, 0x00);
  assert.equal(chip.deadline(), afterTicks(101));
});

test("a count of zero means 65536", () => {
  out(CONTROL, 0x34);
  out(0, 0, 0);
  assert.equal(chip.deadline(), afterTicks(65536));
});

test("a latched count stands still while it is read, the counter goes on", () => {
  out(CONTROL, 0x34);
  out(0, 0xe8, 0x03);
  clock.time = afterTicks(300);
  out(CONTROL, 0x00);
  clock.time = afterTicks(600);
  out(CONTROL, 0x00);
  assert.equal(readWord(0), 700, "latching again before reading does nothing");
  assert.equal(readWord(0), 400);
});

test("mode 3 counts by two, and its output is high for the first half", () => {
  out(CONTROL, 0xb6);
  out(PORT_61, 0x01);
  out(2, 0xe8, 0x03);
  clock.time = afterTicks(100);
  assert.equal(readWord(2), 800);
  assert.equal(chip.read(PORT_61, 1) & 0x20, 0x20);
  clock.time = afterTicks(600);
  assert.equal(chip.read(PORT_61, 1) & 0x20, 0);
});

test("read-back latches status and count: output, null count, access, mode, BCD", () => {
  out(CONTROL, 0x34);
  out(CONTROL, 0xe2);
  assert.equal(chip.read(0, 1), 0xf4, "no count loaded");
  out(0, 0x00, 0x10);
  clock.time = afterTicks(16);
  out(CONTROL, 0xc2);
  assert.equal(chip.read(0, 1), 0xb4);
  assert.equal(readWord(0), 0x1000 - 16);
});

test("BCD counters count in decimal", () => {
  out(CONTROL, 0x35);
  out(0, 0x00, 0x20);
  clock.time = afterTicks(1);
  assert.equal(readWord(0), 0x1999);
});

test("counter 2 stops while its gate is low, and port 0x61 shows its output", () => {
  out(CONTROL, 0xb0);
  out(2, 0xe8, 0x03);
  clock.time = afterTicks(5000);
  assert.equal(readWord(2), 1000);
  assert.equal(chip.read(PORT_61, 1) & 0x21, 0);
  out(PORT_61, 0x01);
  clock.time += afterTicks(999);
  assert.equal(chip.read(PORT_61, 1) & 0x21, 0x01);
  clock.time += afterTicks(2);
  assert.equal(chip.read(PORT_61, 1) & 0x21, 0x21);
});

test("the refresh bit toggles", () => {
  const before = chip.read(PORT_61, 1) & 0x10;
  clock.time += 15_085;
  assert.notEqual(chip.read(PORT_61, 1) & 0x10, before);
});

test("a period of one tick does not come due at every nanosecond", () => {
  out(CONTROL, 0x34);
  out(0, 1, 0);
  run(chip.deadline());
  assert.ok(chip.deadline() - clock.time >= 10_000);
});
