import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { CountingLine, ManualClock, newArena } from "../test-rig.ts";
import { drainUart, receiveUart, type SerialLine, uart } from "./uart.ts";

/** A terminal of the test's: room for so many bytes, bytes typed. */
class Terminal implements SerialLine {
  room = Infinity;
  sent: number[] = [];
  typed: number[] = [];
  yields = 0;

  send(byte: number): boolean {
    if (this.sent.length >= this.room) return false;
    this.sent.push(byte);
    return true;
  }
  receive(): number {
    return this.typed.shift() ?? -1;
  }
  yieldToHost(): void {
    this.yields++;
  }
}

const DATA = 0;
const IER = 1;
const IIR = 2;
const FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
/** Ten bits at 115200. */
const CHARACTER_NS = 86_806;

let clock: ManualClock;
let line: CountingLine;
let terminal: Terminal;
const make = () => uart.instantiate({ arena: newArena(), clock, port: terminal, irq: line });
let chip: ReturnType<typeof make>;
const read = (offset: number): number => chip.read(offset, 1);
const write = (offset: number, value: number): void => chip.write(offset, 1, value);
const type = (count: number): void => {
  for (let i = 0; i < count; i++) terminal.typed.push(0x61 + i);
  receiveUart(chip.context);
};
const run = (ns: number): void => {
  clock.time += ns;
  if (chip.deadline() <= clock.time) chip.expire(clock.time);
};

beforeEach(() => {
  clock = new ManualClock();
  line = new CountingLine();
  terminal = new Terminal();
  chip = make();
  chip.reset();
  write(LCR, 0x83);
  write(DATA, 1);
  write(IER, 0);
  write(LCR, 0x03);
  write(MCR, 0x0b);
});

test("divisor latch, scratch and FIFO identification", () => {
  write(LCR, 0x80);
  assert.deepEqual([read(DATA), read(IER)], [1, 0]);
  write(LCR, 0x03);
  write(7, 0xa5);
  assert.equal(read(7), 0xa5);
  assert.equal(read(IIR), 0x01);
  write(FCR, 0x01);
  assert.equal(read(IIR), 0xc1);
  write(IER, 0xff);
  assert.equal(read(IER), 0x0f);
});

test("what is written is sent, and the transmitter is empty again", () => {
  write(DATA, 0x41);
  assert.deepEqual(terminal.sent, [0x41]);
  assert.equal(read(LSR), 0x60);
});

test("transmitter interrupt: on enabling, after each byte, ended by IIR or by a write", () => {
  write(IER, 0x02);
  assert.equal(line.level, true);
  assert.equal(read(IIR), 0x02);
  assert.equal(line.level, false);
  assert.equal(read(IIR), 0x01);
  write(DATA, 0x41);
  write(DATA, 0x42);
  assert.equal(line.edges, 3, "each write makes an edge");
});

test("interrupts without OUT2 stay in the chip", () => {
  write(MCR, 0x03);
  write(IER, 0x02);
  assert.equal(line.level, false);
  assert.equal(read(IIR), 0x02);
});

test("receiver: interrupt at the trigger level, time-out four characters after the last byte below it", () => {
  write(FCR, 0x81);
  write(IER, 0x01);
  type(8);
  assert.equal(read(IIR), 0xc4);
  for (let i = 0; i < 8; i++) assert.equal(read(DATA), 0x61 + i);
  assert.equal(line.level, false);
  type(3);
  assert.equal(line.level, false);
  run(4 * CHARACTER_NS - 10);
  assert.equal(line.level, false);
  run(20);
  assert.equal(read(IIR), 0xcc);
  assert.equal(read(DATA), 0x61);
  assert.equal(line.level, false, "reading starts the time-out anew");
  run(4 * CHARACTER_NS + 10);
  assert.equal(read(IIR), 0xcc);
  assert.equal(read(LSR) & 0x01, 0x01);
});

test("without FIFOs every byte interrupts, and the next waits for its turn", () => {
  write(IER, 0x01);
  type(2);
  assert.equal(read(IIR), 0x04);
  assert.deepEqual([read(DATA), read(IIR), read(DATA), read(IIR)], [0x61, 0x04, 0x62, 0x01]);
});

test("nothing is lost however much is typed", () => {
  write(FCR, 0xc1);
  write(IER, 0x01);
  type(100);
  for (let i = 0; i < 100; i++) assert.equal(read(DATA), 0x61 + i);
  assert.equal(read(LSR) & 0x03, 0);
});

test("bytes typed before the guest listens wait on the line", () => {
  write(MCR, 0x08);
  terminal.typed.push(0x78);
  receiveUart(chip.context);
  write(FCR, 0x07);
  assert.equal(read(LSR) & 0x01, 0);
  write(IER, 0x01);
  assert.equal(read(DATA), 0x78);
});

test("priority in IIR: line status, data, transmitter, modem", () => {
  write(FCR, 0x01);
  write(MCR, 0x13);
  write(DATA, 0x30);
  for (let i = 0; i < 16; i++) write(DATA, 0x31);
  write(IER, 0x0f);
  assert.equal(read(IIR), 0xc6);
  assert.equal(read(LSR) & 0x02, 0x02, "overrun");
  assert.equal(read(IIR), 0xc4);
  for (let i = 0; i < 16; i++) read(DATA);
  assert.equal(read(IIR), 0xc2);
  assert.equal(read(IIR), 0xc0);
  read(MSR);
  assert.equal(read(IIR), 0xc1);
});

test("loop-back: data and modem lines come back, nothing is sent, the line is quiet", () => {
  write(MCR, 0x1a);
  assert.equal(read(MSR) & 0xf0, 0x90, "RTS to CTS, OUT2 to DCD");
  write(IER, 0x02);
  write(DATA, 0x5a);
  assert.equal(read(DATA), 0x5a);
  assert.deepEqual(terminal.sent, []);
  assert.equal(line.level, false);
  write(MCR, 0x0b);
  assert.equal(read(MSR) & 0xf0, 0xb0);
});

test("a full host holds the transmitter: THRE low, no byte lost, interrupt when there is room", () => {
  terminal.room = 2;
  write(FCR, 0x01);
  write(IER, 0x02);
  read(IIR);
  for (let i = 0; i < 6; i++) write(DATA, i);
  assert.deepEqual(terminal.sent, [0, 1]);
  assert.equal(read(LSR) & 0x60, 0);
  assert.equal(terminal.yields, 1);
  assert.equal(line.level, false);
  terminal.room = 100;
  drainUart(chip.context);
  assert.deepEqual(terminal.sent, [0, 1, 2, 3, 4, 5]);
  assert.equal(line.level, true);
  assert.equal(read(LSR) & 0x60, 0x60);
});

test("a driver's trial of the interrupt bits does not take what was typed ahead; connecting them does", () => {
  write(MCR, 0);
  write(FCR, 0x01);
  type(3);
  write(IER, 0x0f);
  write(IER, 0);
  write(FCR, 0x07);
  assert.equal(terminal.typed.length, 3);
  write(MCR, 0x08);
  write(IER, 0x01);
  assert.deepEqual([read(DATA), read(DATA), read(DATA)], [0x61, 0x62, 0x63]);
});

test("a guest that only polls receives, whatever its modem lines; one that sends is not taken for it", () => {
  write(MCR, 0);
  type(1);
  for (let i = 0; i < 100; i++) {
    read(LSR);
    write(DATA, 0x2e);
  }
  assert.equal(terminal.typed.length, 1);
  for (let i = 0; i < 100; i++) read(LSR);
  assert.equal(read(LSR) & 1, 1);
  assert.equal(read(DATA), 0x61);
});

test("clearing the FIFO drops what the guest knows of, and nothing that it has not seen", () => {
  write(IER, 0x01);
  type(1);
  write(FCR, 0x01);
  write(FCR, 0x07);
  assert.equal(read(DATA), 0x61);
  type(2);
  assert.equal(read(LSR) & 1, 1);
  write(FCR, 0x07);
  assert.equal(read(LSR) & 1, 0);
});
