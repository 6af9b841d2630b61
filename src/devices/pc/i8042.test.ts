import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { CountingLine, ManualClock, newArena } from "../test-rig.ts";
import { i8042, takeKeys } from "./i8042.ts";

let line: CountingLine;
let resets: number;
let gates: boolean[];
/** What the keys send, in set 1. */
let keys: number[];
const make = () =>
  i8042.instantiate({
    arena: newArena(),
    clock: new ManualClock(),
    irq: line,
    port: { reset: () => resets++, gateA20: (open) => gates.push(open), key: () => keys.shift() ?? -1 },
  });
let chip: ReturnType<typeof make>;
const command = (value: number): void => chip.write(1, 1, value);
const data = (value: number): void => chip.write(0, 1, value);
const full = (): boolean => (chip.read(1, 1) & 1) !== 0;
/** All that the output buffer gives. */
const answers = (): number[] => {
  const bytes: number[] = [];
  while (full()) bytes.push(chip.read(0, 1));
  return bytes;
};

beforeEach(() => {
  line = new CountingLine();
  resets = 0;
  gates = [];
  keys = [];
  chip = make();
  chip.reset();
});

test("self test, interface test, configuration byte", () => {
  command(0xaa);
  assert.deepEqual(answers(), [0x55]);
  command(0xab);
  assert.deepEqual(answers(), [0x00]);
  command(0x60);
  data(0x45);
  command(0x20);
  assert.deepEqual(answers(), [0x65], "the auxiliary interface stays off");
});

test("there is no auxiliary device, and a driver learns it at once", () => {
  command(0xa9);
  assert.notDeepEqual(answers(), [0x00]);
  command(0xd3);
  data(0x5a);
  assert.equal(chip.read(1, 1) & 0x21, 0x01, "not marked as auxiliary data");
});

test("the keyboard answers reset, identify, LEDs, scan code set, echo; and asks again for what it does not know", () => {
  command(0x60);
  data(0x00);
  data(0xff);
  assert.deepEqual(answers(), [0xfa, 0xaa]);
  data(0xf2);
  assert.deepEqual(answers(), [0xfa, 0xab, 0x83]);
  data(0xed);
  data(0x07);
  assert.deepEqual(answers(), [0xfa, 0xfa]);
  data(0xf0);
  data(0x00);
  assert.deepEqual(answers(), [0xfa, 0xfa, 0x02]);
  data(0xee);
  assert.deepEqual(answers(), [0xee]);
  data(0x01);
  assert.deepEqual(answers(), [0xfe]);
});

test("each byte is an edge on interrupt 1, if enabled", () => {
  data(0xf2);
  chip.read(0, 1);
  chip.read(0, 1);
  chip.read(0, 1);
  assert.equal(line.edges, 3);
  assert.equal(line.level, false);
  command(0x60);
  data(0x00);
  data(0xee);
  assert.equal(line.edges, 3);
});

test("reset: by pulse, by the output port, by port 0x92", () => {
  command(0xff);
  assert.equal(resets, 0, "a pulse of nothing");
  command(0xfe);
  assert.equal(resets, 1);
  command(0xd1);
  data(0x02);
  assert.equal(resets, 2);
  chip.write(2, 1, 0x01);
  assert.equal(resets, 3);
});

test("gate A20 reads as written, through either port", () => {
  assert.equal(chip.read(2, 1), 0x02);
  command(0xd1);
  data(0x01);
  assert.equal(chip.read(2, 1), 0x00);
  chip.write(2, 1, 0x02);
  command(0xd0);
  assert.equal((answers()[0] ?? 0) & 0x02, 0x02);
  assert.deepEqual(gates, [false, true]);
  command(0xdf);
  command(0xdd);
  chip.write(2, 1, 0x00);
  assert.deepEqual(gates, [false, true, false], "told of changes alone");
});

/** Shift and a, the up arrow; pressed and released. */
const TYPED = [0x2a, 0x1e, 0x9e, 0xaa, 0xe0, 0x48, 0xe0, 0xc8];

test("keys come one byte an interrupt, in set 1 where the controller translates", () => {
  keys = [...TYPED];
  takeKeys(chip.context);
  const bytes: number[] = [];
  while (line.level) bytes.push(chip.read(0, 1));
  assert.deepEqual(bytes, TYPED);
  assert.equal(line.edges, TYPED.length);
});

test("without translation the keyboard's own set 2 is seen, and set 1 after it was chosen", () => {
  command(0x60);
  data(0x01);
  keys = [...TYPED];
  takeKeys(chip.context);
  assert.deepEqual(answers(), [0x12, 0x1c, 0xf0, 0x1c, 0xf0, 0x12, 0xe0, 0x75, 0xe0, 0xf0, 0x75]);
  data(0xf0);
  data(1);
  assert.deepEqual(answers(), [0xfa, 0xfa]);
  keys = [...TYPED];
  takeKeys(chip.context);
  assert.deepEqual(answers(), TYPED);
});

test("keys wait while the keyboard is silent or its interface is off, and behind answers", () => {
  data(0xf5);
  assert.deepEqual(answers(), [0xfa]);
  keys = [0x1e];
  takeKeys(chip.context);
  assert.ok(!full());
  data(0xf4);
  assert.deepEqual(answers(), [0xfa, 0x1e]);
  command(0xad);
  keys = [0x9e];
  takeKeys(chip.context);
  assert.ok(!full());
  command(0xae);
  assert.deepEqual(answers(), [0x9e]);
});

test("a state of version 1, which knew no silence, is loaded", () => {
  const { fields } = chip.save();
  const { silent: _, ...old } = fields;
  chip.load({ version: 1, fields: old });
  assert.deepEqual(chip.save().fields, fields);
});
