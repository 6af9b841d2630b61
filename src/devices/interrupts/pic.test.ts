import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { ManualClock, newArena } from "../test-rig.ts";
import { acknowledgePic, pic, picRequests, setPicLine } from "./pic.ts";

const make = () => pic.instantiate({ arena: newArena(), clock: new ManualClock(), port: { changed() {} } });
let chip: ReturnType<typeof make>;
/** Offsets of the device: master command and data, slave command and data, ELCR. */
const MASTER = 0;
const MASTER_DATA = 1;
const SLAVE = 2;
const SLAVE_DATA = 3;
const out = (offset: number, ...values: number[]): void => {
  for (const value of values) chip.write(offset, 1, value);
};

beforeEach(() => {
  chip = make();
  chip.reset();
  out(MASTER, 0x11);
  out(SLAVE, 0x11);
  out(MASTER_DATA, 0x30, 0x04, 0x01, 0x00);
  out(SLAVE_DATA, 0x38, 0x02, 0x01, 0x00);
});

const raise = (irq: number): void => setPicLine(chip.context, irq, true);
const lower = (irq: number): void => setPicLine(chip.context, irq, false);
const pending = (): boolean => picRequests(chip.context);
const acknowledge = (): number => acknowledgePic(chip.context);

test("a request gives its vector, once", () => {
  raise(4);
  assert.equal(pending(), true);
  assert.equal(acknowledge(), 0x34);
  assert.equal(pending(), false);
  out(MASTER, 0x20);
  assert.equal(pending(), false, "an edge counts once");
  lower(4);
  raise(4);
  assert.equal(pending(), true);
});

test("a request of lower priority waits for the EOI of the one in service", () => {
  raise(3);
  assert.equal(acknowledge(), 0x33);
  raise(5);
  assert.equal(pending(), false);
  raise(1);
  assert.equal(acknowledge(), 0x31, "a higher one nests");
  out(MASTER, 0x20);
  assert.equal(pending(), false, "interrupt 3 is still in service");
  out(MASTER, 0x63);
  assert.equal(acknowledge(), 0x35);
});

test("the slave's requests come through input 2, and need an EOI on both chips", () => {
  raise(8);
  raise(12);
  assert.equal(acknowledge(), 0x38);
  out(MASTER, 0x0b);
  assert.equal(chip.read(MASTER, 1), 0x04, "the master serves its input 2");
  out(SLAVE, 0x20);
  assert.equal(pending(), false, "the master has not got its EOI");
  out(MASTER, 0x20);
  assert.equal(acknowledge(), 0x3c);
});

test("masked requests stay in IRR and are delivered when unmasked", () => {
  out(MASTER_DATA, 0xff);
  raise(6);
  assert.equal(pending(), false);
  out(MASTER, 0x0a);
  assert.equal(chip.read(MASTER, 1), 0x40);
  assert.equal(chip.read(MASTER_DATA, 1), 0xff);
  out(MASTER_DATA, 0xbf);
  assert.equal(acknowledge(), 0x36);
});

test("a request withdrawn before the acknowledge is spurious: input 7, nothing in service", () => {
  chip.write(4, 1, 0x20); // input 5 level-triggered
  raise(5);
  lower(5);
  assert.equal(pending(), false);
  assert.equal(acknowledge(), 0x37);
  out(MASTER, 0x0b);
  assert.equal(chip.read(MASTER, 1), 0);
});

test("a level-triggered input requests again after its EOI while it is asserted", () => {
  chip.write(5, 1, 0x02); // interrupt 9
  raise(9);
  assert.equal(acknowledge(), 0x39);
  out(SLAVE, 0x20);
  out(MASTER, 0x20);
  assert.equal(acknowledge(), 0x39);
  lower(9);
  out(SLAVE, 0x20);
  out(MASTER, 0x20);
  assert.equal(pending(), false);
});

test("ELCR refuses the inputs that are edge-triggered on every PC", () => {
  chip.write(4, 1, 0xff);
  chip.write(5, 1, 0xff);
  assert.deepEqual([chip.read(4, 1), chip.read(5, 1)], [0xf8, 0xde]);
});

test("automatic EOI leaves nothing in service", () => {
  out(MASTER, 0x11);
  out(MASTER_DATA, 0x30, 0x04, 0x03, 0x00);
  lower(1);
  raise(1);
  assert.equal(acknowledge(), 0x31);
  raise(5);
  assert.equal(acknowledge(), 0x35);
});

test("rotation on EOI gives the served input the lowest priority", () => {
  raise(3);
  acknowledge();
  out(MASTER, 0xa0);
  lower(3);
  raise(3);
  raise(4);
  assert.equal(acknowledge(), 0x34);
});

test("special mask mode lets lower priorities through a masked input in service", () => {
  raise(2 + 1);
  acknowledge();
  out(MASTER_DATA, 0x08);
  raise(6);
  assert.equal(pending(), false);
  out(MASTER, 0x68);
  assert.equal(acknowledge(), 0x36);
});

test("special fully nested mode lets the slave interrupt its own service", () => {
  out(MASTER, 0x11);
  out(MASTER_DATA, 0x30, 0x04, 0x11, 0x00);
  raise(12);
  assert.equal(acknowledge(), 0x3c);
  raise(8);
  assert.equal(acknowledge(), 0x38);
});

test("the poll command acknowledges by a read", () => {
  raise(4);
  out(MASTER, 0x0c);
  assert.equal(chip.read(MASTER, 1), 0x84);
  out(MASTER, 0x0c);
  assert.equal(chip.read(MASTER, 1), 0);
});

test("nothing is requested in the middle of an initialization", () => {
  out(MASTER, 0x11);
  raise(4);
  assert.equal(pending(), false);
  out(MASTER_DATA, 0x20, 0x04, 0x01, 0x00);
  assert.equal(acknowledge(), 0x24);
});
