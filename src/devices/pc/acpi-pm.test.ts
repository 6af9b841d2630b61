import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { CountingLine, ManualClock, newArena } from "../test-rig.ts";
import { acpiPm, PM_TIMER_HZ, pressPowerButton } from "./acpi-pm.ts";

let clock: ManualClock;
let line: CountingLine;
let powerOffs: number;
const make = () => acpiPm.instantiate({ arena: newArena(), clock, irq: line, port: { powerOff: () => powerOffs++ } });
let chip: ReturnType<typeof make>;
const STATUS = 0;
const ENABLE = 2;
const CONTROL = 4;
const TIMER = 8;

beforeEach(() => {
  clock = new ManualClock();
  line = new CountingLine();
  powerOffs = 0;
  chip = make();
  chip.reset();
});

test("the PM timer counts 32 bits at 3.579545 MHz", () => {
  clock.time = 1e9;
  assert.equal(chip.read(TIMER, 4), PM_TIMER_HZ);
  clock.time = Math.ceil((2 ** 32 * 1e9) / PM_TIMER_HZ);
  assert.equal(chip.read(TIMER, 4), 0);
});

test("SLP_EN with the type of S5 powers off; other types do nothing", () => {
  assert.equal(chip.read(CONTROL, 2), 1, "ACPI mode");
  chip.write(CONTROL, 2, 0x2000 | (3 << 10));
  assert.equal(powerOffs, 0);
  chip.write(CONTROL, 2, 5 << 10);
  assert.equal(powerOffs, 0);
  chip.write(CONTROL, 2, 0x2000 | (5 << 10));
  assert.equal(powerOffs, 1);
  assert.equal(chip.read(CONTROL, 2), 1 | (5 << 10), "SLP_EN reads as zero");
});

test("the power button raises the SCI while enabled, until its status is cleared", () => {
  pressPowerButton(chip.context);
  assert.equal(line.level, false);
  chip.write(ENABLE, 2, 0x0100);
  assert.equal(line.level, true);
  chip.write(STATUS, 2, 0x0100);
  assert.equal(line.level, false);
  assert.equal(chip.read(STATUS, 4), 0x01000000);
});

test("enable bits of events stick, those of nothing do not", () => {
  chip.write(ENABLE, 2, 0xffff);
  assert.equal(chip.read(ENABLE, 2), 0x0521);
});

test("the timer's status follows its highest bit", () => {
  chip.write(ENABLE, 2, 0x0001);
  const half = Math.ceil((2 ** 31 * 1e9) / PM_TIMER_HZ);
  assert.equal(chip.deadline(), half);
  clock.time = half;
  chip.expire(half);
  assert.equal(line.level, true);
  assert.equal(chip.deadline(), Infinity);
  chip.write(STATUS, 1, 0x01);
  assert.equal(line.level, false);
});
