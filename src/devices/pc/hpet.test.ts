import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { CountingLine, ManualClock, newArena } from "../test-rig.ts";
import { hpet } from "./hpet.ts";

const CONFIG = 0x010;
const STATUS = 0x020;
const COUNTER = 0x0f0;
const timerConfig = (timer: number): number => 0x100 + 0x20 * timer;
const comparator = (timer: number): number => 0x108 + 0x20 * timer;

let clock: ManualClock;
let legacy: [CountingLine, CountingLine];
let routes: CountingLine[];
let legacyChanges: number;
const make = () =>
  hpet.instantiate({ arena: newArena(), clock, port: { legacy, routes, legacyChanged: () => legacyChanges++ } });
let chip: ReturnType<typeof make>;
const read = (offset: number): number => chip.read(offset, 4);
const write = (offset: number, value: number): void => chip.write(offset, 4, value);
const run = (now: number): void => {
  clock.time = now;
  if (chip.deadline() <= now) chip.expire(now);
};

beforeEach(() => {
  clock = new ManualClock();
  legacy = [new CountingLine(), new CountingLine()];
  routes = Array.from({ length: 8 }, () => new CountingLine());
  legacyChanges = 0;
  chip = make();
  chip.reset();
});

test("capabilities: three 64-bit timers, 10 ns a tick", () => {
  assert.equal(read(0), 0x8086a201);
  assert.equal(read(4), 10_000_000);
  assert.equal(read(timerConfig(0)), 0x30);
  assert.equal(read(timerConfig(0) + 4), 0x00ff0000);
});

test("the counter runs while enabled, is writable while halted, and carries into its upper half", () => {
  clock.time = 1000;
  assert.equal(read(COUNTER), 0);
  write(COUNTER, 0xfffffff0);
  write(COUNTER + 4, 7);
  write(CONFIG, 1);
  clock.time = 1150;
  assert.equal(read(COUNTER), 0xffffffff);
  assert.equal(read(COUNTER + 4), 7);
  clock.time = 1160;
  assert.deepEqual([read(COUNTER), read(COUNTER + 4)], [0, 8]);
  write(CONFIG, 0);
  clock.time = 9999;
  assert.deepEqual([read(COUNTER), read(COUNTER + 4)], [0, 8]);
});

test("one-shot in legacy replacement interrupts once, on ISA line 0", () => {
  write(CONFIG, 3);
  assert.equal(legacyChanges, 1);
  write(timerConfig(0), 0x104);
  write(comparator(0), 500);
  assert.equal(chip.deadline(), 5000);
  run(5000);
  assert.equal(legacy[0].edges, 1);
  assert.ok(chip.deadline() > 4e10, "the next match is a turn of 32 bits away");
});

test("periodic: VALUE_SET gives the first match, the next write the period", () => {
  write(CONFIG, 3);
  write(timerConfig(0), 0x14c);
  write(comparator(0), 10_000);
  write(comparator(0), 4_000);
  assert.equal(chip.deadline(), 100_000);
  run(100_000);
  assert.equal(chip.deadline(), 140_000);
  run(270_000);
  assert.equal(legacy[0].edges, 2, "what was missed is skipped");
  assert.equal(chip.deadline(), 300_000);
});

test("a 64-bit write of a periodic comparator sets both halves", () => {
  write(CONFIG, 1);
  write(timerConfig(1), 0x04c);
  write(comparator(1), 10);
  write(comparator(1) + 4, 1);
  assert.deepEqual([read(comparator(1)), read(comparator(1) + 4)], [10, 1]);
  assert.equal(chip.deadline(), (2 ** 32 + 10) * 10);
});

test("routed and level-triggered: the line stays up until its status bit is cleared", () => {
  write(CONFIG, 1);
  write(timerConfig(2), (18 << 9) | 0x106);
  write(comparator(2), 100);
  run(1000);
  assert.equal(routes[2]?.level, true);
  assert.equal(read(STATUS), 4);
  write(STATUS, 4);
  assert.equal(routes[2]?.level, false);
  assert.equal(read(STATUS), 0);
});

test("without its interrupt enabled, or the whole disabled, nothing is due", () => {
  write(timerConfig(0), 0x104);
  write(comparator(0), 500);
  assert.equal(chip.deadline(), Infinity);
  write(timerConfig(0), 0);
  write(CONFIG, 1);
  assert.equal(chip.deadline(), Infinity);
});
