import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { CountingLine, ManualClock, newArena } from "../test-rig.ts";
import { rtc } from "./rtc.ts";

const SECOND = 1_000_000_000;
let clock: ManualClock;
let line: CountingLine;
const make = () =>
  rtc.instantiate({
    arena: newArena(),
    clock,
    irq: line,
    port: { lowRamBytes: 256 * 2 ** 20, highRamBytes: 2 ** 30 },
  });
let chip: ReturnType<typeof make>;
const get = (index: number): number => {
  chip.write(0, 1, index);
  return chip.read(1, 1);
};
const set = (index: number, value: number): void => {
  chip.write(0, 1, index);
  chip.write(1, 1, value);
};
/** Century, year, month, day, day of week, hours, minutes, seconds, in hexadecimal digits. */
const time = (): string =>
  [0x32, 9, 8, 7, 6, 4, 2, 0].map((index) => get(index).toString(16).padStart(2, "0")).join(" ");
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

test("shows the boot time in BCD, and runs", () => {
  assert.equal(time(), "20 24 02 28 04 22 13 20");
  clock.time = 0.5 * SECOND;
  assert.equal(get(0), 0x21, "the boot time had half a second");
});

test("goes over the leap day", () => {
  clock.time = 86_400 * SECOND;
  assert.equal(time(), "20 24 02 29 05 22 13 20");
  clock.time = 2 * 86_400 * SECOND;
  assert.equal(time(), "20 24 03 01 06 22 13 20");
});

test("binary and 12-hour modes", () => {
  set(0x0b, 0x06);
  assert.deepEqual([get(9), get(4), get(2)], [24, 22, 13]);
  set(0x0b, 0x00);
  assert.equal(get(4), 0x90, "10 PM");
  clock.time = 2 * 3600 * SECOND;
  assert.equal(get(4), 0x12, "12 AM");
});

test("SET stops the clock for writing, and the time written runs on from then", () => {
  set(0x0b, 0x92);
  assert.equal(get(0x0b), 0x82, "SET ends the update interrupt");
  clock.time = 5 * SECOND;
  assert.equal(get(0), 0x20);
  for (const [index, value] of [
    [0x32, 0x19],
    [9, 0x99],
    [8, 0x12],
    [7, 0x31],
    [4, 0x23],
    [2, 0x59],
    [0, 0x58],
  ] as const) {
    set(index, value);
  }
  clock.time = 9 * SECOND;
  set(0x0b, 0x02);
  assert.equal(time(), "19 99 12 31 06 23 59 58");
  clock.time = 11 * SECOND;
  assert.equal(time(), "20 00 01 01 07 00 00 00");
});

test("update in progress shows before the second only", () => {
  clock.time = 0.5 * SECOND - 300_000;
  assert.equal(get(0x0a) & 0x80, 0);
  clock.time = 0.5 * SECOND - 200_000;
  assert.equal(get(0x0a) & 0x80, 0x80);
  clock.time = 0.5 * SECOND;
  assert.equal(get(0x0a) & 0x80, 0);
});

test("update interrupt: every second, cleared by reading register C", () => {
  set(0x0b, 0x12);
  assert.equal(chip.deadline(), 0.5 * SECOND);
  run(0.5 * SECOND);
  assert.equal(line.level, true);
  assert.equal(get(0x0c), 0xd0, "the periodic flag is set whether enabled or not");
  assert.equal(line.level, false);
  assert.equal(chip.deadline(), 1.5 * SECOND);
});

test("alarm: at its time of day; codes of 0xc0 match all", () => {
  set(5, 0x22);
  set(3, 0x14);
  set(1, 0x00);
  set(0x0b, 0x22);
  assert.equal(chip.deadline(), 39.5 * SECOND);
  run(39.5 * SECOND);
  assert.equal(get(0x0c), 0xf0);
  assert.equal(chip.deadline(), (39.5 + 86_400) * SECOND);
  set(5, 0xff);
  assert.equal(chip.deadline(), (39.5 + 3600) * SECOND);
  set(1, 0x77);
  assert.equal(chip.deadline(), Infinity, "no such second");
});

test("periodic interrupt: the rate of register A", () => {
  set(0x0a, 0x26);
  set(0x0b, 0x42);
  run(chip.deadline());
  const first = clock.time;
  assert.equal(get(0x0c), 0xc0);
  assert.equal(chip.deadline() - first, 976_563, "1024 Hz");
  run(first + 10_000_000);
  assert.equal(line.edges, 2, "ticks missed are one");
  set(0x0b, 0x02);
  assert.equal(chip.deadline(), Infinity);
});

test("flags are set without their enables, and raise nothing", () => {
  clock.time = 3 * SECOND;
  assert.equal(get(0x0c) & 0x90, 0x10);
  assert.equal(line.edges, 0);
});

test("memory sizes, valid RAM, and the checksum", () => {
  assert.equal(get(0x15) | (get(0x16) << 8), 640);
  assert.equal(get(0x30) | (get(0x31) << 8), 0xffff);
  assert.equal(get(0x34) | (get(0x35) << 8), 240 * 16);
  assert.equal(get(0x5b) | (get(0x5c) << 8) | (get(0x5d) << 16), 16384);
  assert.equal(get(0x0d), 0x80);
  let sum = 0;
  for (let i = 0x10; i < 0x2e; i++) sum += get(i);
  assert.equal((get(0x2e) << 8) | get(0x2f), sum);
});

test("the index port has no NMI bit in its index, and reads as nothing", () => {
  set(0x8f, 0x5a);
  assert.equal(get(0x0f), 0x5a);
  assert.equal(chip.read(0, 1), 0xff);
});
