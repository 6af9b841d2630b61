import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { SharedLock } from "../lock.ts";
import { ManualClock, newArena } from "../test-rig.ts";
import { InterruptFabric } from "./fabric.ts";

let fabric: InterruptFabric;
let cpu: InterruptFabric["processors"][number];
const select = (index: number): void => fabric.ioapic.write(0x00, 4, index);
const writeRegister = (index: number, value: number): void => {
  select(index);
  fabric.ioapic.write(0x10, 4, value);
};
const readRegister = (index: number): number => {
  select(index);
  return fabric.ioapic.read(0x10, 4);
};
const redirect = (pin: number, low: number): void => {
  writeRegister(0x11 + 2 * pin, 0);
  writeRegister(0x10 + 2 * pin, low);
};
const eoi = (): void => cpu.lapic.write(0xb0, 4, 0);
const LEVEL = 0x8000;
const MASKED = 0x10000;
const REMOTE_IRR = 0x4000;

beforeEach(() => {
  const lock = new SharedLock(new SharedArrayBuffer(4), 0);
  fabric = new InterruptFabric({ arena: newArena(), clock: new ManualClock(), vcpus: 1, lock, wake() {} });
  for (const device of fabric.devices) device.reset();
  const [first] = fabric.processors;
  assert.ok(first);
  cpu = first;
  cpu.lapic.write(0xf0, 4, 0x1ff);
});

test("24 masked inputs after reset, version 0x20, an id that no processor has", () => {
  assert.equal(readRegister(1), 0x00170020);
  assert.equal(readRegister(0), 0x01000000);
  for (let pin = 0; pin < 24; pin++) assert.equal(readRegister(0x10 + 2 * pin), MASKED);
});

test("an edge interrupts once; a masked edge is lost", () => {
  const line = fabric.isaLine(4);
  line.raise();
  line.lower();
  redirect(4, 0x40);
  assert.equal(cpu.pending(), false);
  line.raise();
  line.raise();
  assert.equal(cpu.acknowledge(), 0x40);
  eoi();
  assert.equal(cpu.pending(), false);
});

test("ISA interrupt 0 arrives at input 2", () => {
  redirect(2, 0x30);
  fabric.isaLine(0).pulse();
  assert.equal(cpu.acknowledge(), 0x30);
});

test("a level-triggered input interrupts again after EOI while asserted, not before", () => {
  redirect(16, 0x51 | LEVEL);
  const line = fabric.line(16);
  line.raise();
  assert.equal(cpu.acknowledge(), 0x51);
  assert.equal(readRegister(0x30), 0x51 | LEVEL | REMOTE_IRR);
  assert.equal(cpu.pending(), false);
  eoi();
  assert.equal(cpu.acknowledge(), 0x51);
  line.lower();
  eoi();
  assert.equal(cpu.pending(), false);
  assert.equal(readRegister(0x30), 0x51 | LEVEL);
});

test("sources of one line are wired-OR", () => {
  redirect(17, 0x52 | LEVEL);
  const [first, second] = [fabric.line(17), fabric.line(17)];
  first.raise();
  second.raise();
  assert.equal(cpu.acknowledge(), 0x52);
  first.lower();
  eoi();
  assert.equal(cpu.acknowledge(), 0x52, "the second still asserts");
  second.lower();
  eoi();
  assert.equal(cpu.pending(), false);
});

test("a level line asserted while masked interrupts when unmasked", () => {
  const line = fabric.line(18);
  redirect(18, 0x53 | LEVEL | MASKED);
  line.raise();
  assert.equal(cpu.pending(), false);
  redirect(18, 0x53 | LEVEL);
  assert.equal(cpu.acknowledge(), 0x53);
});

test("the EOI register ends a level interrupt; so does a switch to edge and back", () => {
  redirect(16, 0x51 | LEVEL);
  const line = fabric.line(16);
  line.raise();
  line.lower();
  fabric.ioapic.write(0x40, 4, 0x51);
  assert.equal(readRegister(0x30) & REMOTE_IRR, 0);
  line.raise();
  line.lower();
  assert.equal(readRegister(0x30) & REMOTE_IRR, REMOTE_IRR);
  redirect(16, 0x51 | MASKED);
  redirect(16, 0x51 | LEVEL);
  assert.equal(readRegister(0x30) & REMOTE_IRR, 0);
});

test("input 0 set to ExtINT passes the 8259 on", () => {
  for (const [offset, value] of [
    [0, 0x11],
    [1, 0x30],
    [1, 4],
    [1, 1],
    [1, 0],
  ] as const) {
    fabric.pic.write(offset, 1, value);
  }
  cpu.lapic.write(0x350, 4, MASKED);
  fabric.isaLine(5).raise();
  assert.equal(cpu.pending(), false);
  redirect(0, 0x700);
  assert.equal(cpu.acknowledge(), 0x35);
});

test("narrow and misaligned reads show the bytes of the register; such writes do nothing", () => {
  select(1);
  assert.equal(fabric.ioapic.read(0x12, 1), 0x17);
  assert.equal(fabric.ioapic.read(0x10, 2), 0x0020);
  fabric.ioapic.write(0x00, 1, 5);
  assert.equal(fabric.ioapic.read(0x00, 4), 1);
});
