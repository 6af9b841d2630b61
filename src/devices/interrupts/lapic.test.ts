import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { SharedLock } from "../lock.ts";
import { ManualClock, newArena } from "../test-rig.ts";
import { InterruptFabric } from "./fabric.ts";

const APIC_BASE = 0x1b;
const TSC_DEADLINE = 0x6e0;
const TPR = 0x80;
const PPR = 0xa0;
const EOI = 0xb0;
const SVR = 0xf0;
const ESR = 0x280;
const ICR_LOW = 0x300;
const ICR_HIGH = 0x310;
const LVT_TIMER = 0x320;
const LVT_LINT0 = 0x350;
const LVT_ERROR = 0x370;
const INITIAL = 0x380;
const CURRENT = 0x390;
const DIVIDE = 0x3e0;

let clock: ManualClock;
let fabric: InterruptFabric;
let wakes: number;
let cpu: InterruptFabric["processors"][number];
let other: typeof cpu;
const read = (offset: number): number => cpu.lapic.read(offset, 4);
const write = (offset: number, value: number): void => cpu.lapic.write(offset, 4, value);
const msi = (vector: number, destination = 0): void => fabric.sendMsi(0xfee00000 + destination * 0x1000, vector);

beforeEach(() => {
  clock = new ManualClock();
  wakes = 0;
  const lock = new SharedLock(new SharedArrayBuffer(4), 0);
  fabric = new InterruptFabric({ arena: newArena(), clock, vcpus: 2, lock, wake: () => wakes++ });
  for (const device of fabric.devices) device.reset();
  [cpu, other] = fabric.processors as [typeof cpu, typeof cpu];
  for (const { lapic } of fabric.processors) lapic.write(SVR, 4, 0x1ff);
});

test("vectors nest by class, and EOI ends the highest", () => {
  msi(0x45);
  assert.equal(cpu.acknowledge(), 0x45);
  msi(0x4f);
  assert.equal(cpu.pending(), false, "the same class waits");
  msi(0x51);
  assert.equal(cpu.acknowledge(), 0x51);
  assert.equal(read(PPR), 0x50);
  write(EOI, 0);
  assert.equal(read(PPR), 0x40);
  assert.equal(cpu.pending(), false);
  write(EOI, 0);
  assert.equal(cpu.acknowledge(), 0x4f);
});

test("the task priority holds back its class and those below; CR8 is its upper half", () => {
  cpu.taskPriority = 6;
  assert.equal(read(TPR), 0x60);
  msi(0x6f);
  assert.equal(cpu.pending(), false);
  write(TPR, 0x5f);
  assert.equal(cpu.taskPriority, 5);
  assert.equal(cpu.acknowledge(), 0x6f);
});

test("an acknowledge after the request was held back gives the spurious vector", () => {
  msi(0x40);
  assert.equal(cpu.pending(), true);
  cpu.taskPriority = 15;
  assert.equal(cpu.acknowledge(), 0xff);
  cpu.taskPriority = 0;
  assert.equal(cpu.acknowledge(), 0x40);
});

test("a pending interrupt wakes a sleeper once", () => {
  const before = wakes;
  msi(0x40);
  msi(0x41);
  assert.equal(wakes, before + 1);
});

test("disabling by software masks every LVT entry and takes no message", () => {
  write(LVT_TIMER, 0x40);
  write(SVR, 0xff);
  assert.equal(read(LVT_TIMER), 0x10040);
  msi(0x50);
  write(SVR, 0x1ff);
  assert.equal(cpu.pending(), false);
});

test("one-shot timer: counts down by the divisor, interrupts once", () => {
  write(LVT_TIMER, 0x40);
  write(DIVIDE, 0x3); // by 16
  write(INITIAL, 1000);
  clock.time = 8000;
  assert.equal(read(CURRENT), 500);
  assert.equal(cpu.lapic.deadline(), 16_000);
  clock.time = 16_000;
  cpu.lapic.expire(clock.time);
  assert.equal(read(CURRENT), 0);
  assert.equal(cpu.acknowledge(), 0x40);
  assert.equal(cpu.lapic.deadline(), Infinity);
});

test("periodic timer: comes again, and skips what was missed", () => {
  write(LVT_TIMER, 0x20040);
  write(DIVIDE, 0xb); // by 1
  write(INITIAL, 100_000);
  clock.time = 350_000;
  cpu.lapic.expire(clock.time);
  assert.equal(cpu.acknowledge(), 0x40);
  assert.equal(cpu.lapic.deadline(), 400_000);
  assert.equal(read(CURRENT), 50_000);
});

test("TSC-deadline timer: armed by the MSR, cleared when it fires, ignored in other modes", () => {
  assert.equal(cpu.writeMsr(TSC_DEADLINE, 4000n), true);
  assert.equal(cpu.readMsr(TSC_DEADLINE), 0n);
  write(LVT_TIMER, 0x40040);
  cpu.writeMsr(TSC_DEADLINE, 4000n);
  assert.equal(cpu.lapic.deadline(), 2000, "at 2 GHz");
  assert.equal(cpu.readMsr(TSC_DEADLINE), 4000n);
  clock.time = 2000;
  cpu.lapic.expire(2000);
  assert.equal(cpu.readMsr(TSC_DEADLINE), 0n);
  assert.equal(cpu.acknowledge(), 0x40);
  write(EOI, 0);
  cpu.writeMsr(TSC_DEADLINE, 1n);
  assert.equal(cpu.pending(), true, "a deadline in the past fires at once");
});

test("what expires while masked is gone", () => {
  write(LVT_TIMER, 0x10040);
  write(DIVIDE, 0xb);
  write(INITIAL, 1000);
  assert.equal(cpu.lapic.deadline(), Infinity);
  clock.time = 5000;
  write(LVT_TIMER, 0x40);
  assert.equal(cpu.lapic.deadline(), Infinity);
});

test("interrupt commands: self, all but self, one by logical destination", () => {
  write(ICR_LOW, 0x40000 | 0x41);
  assert.equal(cpu.acknowledge(), 0x41);
  write(ICR_LOW, 0xc0000 | 0x42);
  assert.deepEqual([cpu.pending(), other.acknowledge()], [false, 0x42]);
  write(EOI, 0);
  other.lapic.write(EOI, 4, 0);
  other.lapic.write(0xd0, 4, 0x02000000);
  write(ICR_HIGH, 0x02000000);
  write(ICR_LOW, 0x800 | 0x43);
  assert.deepEqual([cpu.pending(), other.acknowledge()], [false, 0x43]);
});

test("lowest priority goes to one processor only: the less busy", () => {
  for (const { lapic } of fabric.processors) lapic.write(0xd0, 4, 0x03000000);
  cpu.taskPriority = 3;
  fabric.send(0x03, true, 1, 0x70, false);
  assert.deepEqual([cpu.pending(), other.pending()], [false, true]);
});

test("INIT resets the other processor's APIC, and a start-up message is kept for it", () => {
  write(ICR_HIGH, 0x01000000);
  write(ICR_LOW, 0x4500);
  assert.equal(other.lapic.read(SVR, 4), 0xff);
  assert.equal(other.takeStartup(), -1);
  write(ICR_LOW, 0x4600 | 0x9a);
  assert.equal(other.takeStartup(), 0x9a);
  assert.equal(other.takeStartup(), -1);
});

test("NMI is kept until it is taken", () => {
  fabric.send(0, false, 4, 0, false);
  assert.deepEqual([cpu.takeNmi(), cpu.takeNmi(), other.takeNmi()], [true, false, false]);
});

test("illegal vectors are errors: shown by ESR after a write, with an interrupt", () => {
  write(LVT_ERROR, 0x33);
  write(ICR_LOW, 0x40000 | 0x05);
  assert.equal(read(ESR), 0);
  write(ESR, 0);
  assert.equal(read(ESR), 0x20);
  assert.equal(cpu.acknowledge(), 0x33);
  msi(0x0f);
  write(ESR, 0);
  assert.equal(read(ESR), 0x40);
});

test("x2APIC mode: registers by MSR, reserved ones fault, MMIO does not reach", () => {
  assert.equal(cpu.readMsr(0x802), undefined);
  assert.equal(cpu.offsetOf(0xfee00020), 0x20);
  assert.equal(cpu.writeMsr(APIC_BASE, 0xfee00d00n), true);
  assert.equal(cpu.offsetOf(0xfee00020), -1);
  assert.equal(cpu.readMsr(0x802), 0n);
  assert.equal(cpu.readMsr(0x80d), 1n, "logical id: cluster 0, bit 0");
  assert.equal(cpu.writeMsr(0x802, 0n), false);
  assert.equal(cpu.writeMsr(0x80b, 1n), false);
  assert.equal(cpu.writeMsr(0x808, 0x100n), false);
  assert.equal(cpu.readMsr(0x831), undefined);
  assert.equal(cpu.writeMsr(0x83f, 0x44n), true);
  assert.equal(cpu.acknowledge(), 0x44);
  assert.equal(cpu.readMsr(0x812), 0x10n, "in service");
  assert.equal(cpu.writeMsr(0x80b, 0n), true);
  assert.equal(cpu.readMsr(0x812), 0n);
});

test("IA32_APIC_BASE changes modes only along the allowed arrows", () => {
  assert.equal(cpu.readMsr(APIC_BASE), 0xfee00900n);
  assert.equal(other.readMsr(APIC_BASE), 0xfee00800n);
  assert.equal(cpu.writeMsr(APIC_BASE, 0xfee00400n), false, "x2APIC without enable");
  assert.equal(cpu.writeMsr(APIC_BASE, 0xfee00901n), false, "reserved bit");
  assert.equal(cpu.writeMsr(APIC_BASE, 0xfee00d00n), true);
  assert.equal(cpu.writeMsr(APIC_BASE, 0xfee00900n), false, "back to xAPIC");
  assert.equal(cpu.writeMsr(APIC_BASE, 0xfee00000n), true);
  assert.equal(cpu.writeMsr(APIC_BASE, 0xfee00d00n), false, "from disabled to x2APIC");
  assert.equal(cpu.writeMsr(APIC_BASE, 0xfee00900n), true);
});

test("the 8259 reaches the first processor through LINT0 only while it is an unmasked ExtINT", () => {
  const { pic } = fabric;
  for (const [offset, value] of [
    [0, 0x11],
    [1, 0x30],
    [1, 4],
    [1, 1],
    [1, 0],
  ] as const)
    pic.write(offset, 1, value);
  const line = fabric.isaLine(4);
  line.raise();
  assert.deepEqual([cpu.pending(), other.pending()], [true, false]);
  write(LVT_LINT0, 0x10700);
  assert.equal(cpu.pending(), false);
  write(LVT_LINT0, 0x700);
  assert.equal(cpu.acknowledge(), 0x34);
});
