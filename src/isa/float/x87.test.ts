import assert from "node:assert/strict";
import { test } from "node:test";
import { ln2, pi } from "./constants.ts";
import { IE, PE, ZE } from "./rounding.ts";
import { fxrstor, fxsave } from "./x87-environment.ts";
import {
  C0,
  C1,
  C2,
  C3,
  ES,
  INITIAL_CONTROL,
  SF,
  X87_AX,
  X87_EFLAGS,
  X87_MF,
  X87_OPERAND_BYTES,
  X87_STORE,
  X87_UD,
  X87State,
} from "./x87-state.ts";
import { x87, x87MemoryAccess, x87Name, x87Wait } from "./x87.ts";

const OPERAND = 256;
const PLACES = {
  control: 64,
  status: 66,
  tags: 68,
  opcode: 70,
  instructionPointer: 72,
  dataPointer: 80,
  registers: 96,
  operand: OPERAND,
};

function machine() {
  const view = new DataView(new SharedArrayBuffer(OPERAND + X87_OPERAND_BYTES));
  const state = new X87State(view, PLACES);
  state.initialise();
  return {
    state,
    view,
    load(value: number): void {
      view.setFloat64(OPERAND, value, true);
      x87(state, 0xdd, 0x00);
    },
    pop(): number {
      assert.equal(x87(state, 0xdd, 0x18), X87_STORE);
      return view.getFloat64(OPERAND, true);
    },
    control(value: number): void {
      view.setUint16(OPERAND, value, true);
      x87(state, 0xd9, 0x28);
    },
    run: (opcode: number, modrm: number, eflags = 0): number => x87(state, opcode, modrm, eflags),
  };
}

test("the constants begin as everyone knows them", () => {
  assert.equal(pi() >> 192n, 0x3_243f_6a88_85a3_08d3n);
  assert.equal(ln2() >> 192n, 0xb172_17f7_d1cf_79abn);
});

test("a stack of values, a sum, and precision control", () => {
  const m = machine();
  m.load(1.5);
  m.load(2.25);
  m.run(0xde, 0xc1);
  assert.equal(m.pop(), 3.75);
  assert.equal(m.state.tags, 0);
  // 1 + 2^-40 fits 64 bits, not 24.
  m.control(0x007f);
  m.load(1);
  m.load(2 ** -40);
  m.run(0xd8, 0xc1);
  assert.equal(m.pop(), 1);
  assert.equal(m.state.status & PE, PE);
});

test("an unmasked exception waits for the next waiting instruction", () => {
  const m = machine();
  m.control(INITIAL_CONTROL & ~ZE);
  m.load(0);
  m.load(1);
  m.run(0xd8, 0xf1);
  assert.equal(m.state.status & (ZE | ES), ZE | ES);
  const before = new Uint8Array(m.view.buffer.slice(0));
  assert.equal(m.run(0xd9, 0xe8), X87_MF);
  assert.equal(x87Wait(m.state), X87_MF);
  assert.deepEqual(new Uint8Array(m.view.buffer.slice(0)), before);
  assert.equal(m.run(0xdf, 0xe0) & (X87_AX | ES), X87_AX | ES);
  m.run(0xdb, 0xe2);
  assert.equal(x87Wait(m.state), 0);
  // The operands are still there.
  assert.equal(m.pop(), 1);
  assert.equal(m.pop(), 0);
});

test("stack overflow and underflow", () => {
  const m = machine();
  for (let i = 0; i < 8; i++) m.load(i);
  m.load(8);
  assert.equal(m.state.status & (IE | SF | C1), IE | SF | C1);
  assert.ok(Number.isNaN(m.pop()));
  const empty = machine();
  empty.run(0xd9, 0xfa);
  assert.equal(empty.state.status & (IE | SF | C1), IE | SF);
  // Not masked: nothing is stored and nothing popped.
  const strict = machine();
  strict.control(INITIAL_CONTROL & ~IE);
  assert.equal(strict.run(0xdd, 0x18), 0);
  assert.equal(strict.state.top, 0);
});

test("compares set condition codes or EFLAGS; FCMOV reads them", () => {
  const m = machine();
  m.load(1);
  m.load(2);
  m.run(0xd8, 0xd1);
  assert.equal(m.state.status & (C0 | C2 | C3), 0);
  assert.equal(m.run(0xdb, 0xf1), X87_EFLAGS);
  assert.equal(m.run(0xdb, 0xf0), X87_EFLAGS | 0x40);
  m.run(0xda, 0xc1, 0);
  assert.equal(m.state.read(0).significand, 1n << 63n);
  m.run(0xda, 0xc1, 1);
  assert.equal(m.pop(), 1);
});

test("FPREM reduces in steps until C2 clears", () => {
  const m = machine();
  m.load(7);
  m.load(2 ** 200);
  let steps = 0;
  do {
    m.run(0xd9, 0xf8);
    steps++;
  } while ((m.state.status & C2) !== 0);
  assert.ok(steps > 2);
  assert.equal(m.pop(), Number(2n ** 200n % 7n));
});

test("transcendental functions against their definitions", () => {
  const m = machine();
  const near = (got: number, wanted: number): void =>
    assert.ok(Math.abs(got - wanted) <= Math.abs(wanted) * 2 ** -51, `${got}, wanted ${wanted}`);
  for (const x of [1e-10, 0.1, 0.7, 1.3, 3, 100]) {
    m.load(x);
    m.run(0xd9, 0xfb);
    near(m.pop(), Math.cos(x));
    near(m.pop(), Math.sin(x));
    m.load(x);
    m.load(0.75);
    m.run(0xd9, 0xf3);
    near(m.pop(), Math.atan2(x, 0.75));
    m.load(3);
    m.load(x);
    m.run(0xd9, 0xf1);
    near(m.pop(), 3 * Math.log2(x));
  }
  m.load(2 ** 63);
  m.run(0xd9, 0xfe);
  assert.equal(m.state.status & C2, C2);
  assert.equal(m.pop(), 2 ** 63);
});

test("packed decimal there and back", () => {
  const m = machine();
  m.load(-12_345_678_901);
  assert.equal(m.run(0xdf, 0x30), X87_STORE);
  assert.equal(m.view.getBigUint64(OPERAND, true), 0x12345678901n);
  assert.equal(m.view.getUint16(OPERAND + 8, true), 0x8000);
  m.run(0xdf, 0x20);
  assert.equal(m.pop(), -12_345_678_901);
});

test("the FXSAVE image keeps the stack in order, and the pointers", () => {
  const m = machine();
  m.load(1);
  m.load(2);
  x87(m.state, 0xd8, 0x00, 0, false, -0x7f00_0000, 0x1234_5678_9abc);
  const image = new DataView(new ArrayBuffer(512));
  fxsave(m.state, image, 0, true);
  assert.equal(image.getBigUint64(32, true), m.state.read(0).significand);
  assert.equal(image.getBigInt64(8, true), -0x7f00_0000n);
  assert.equal(image.getBigUint64(16, true), 0x1234_5678_9abcn);
  const other = machine();
  fxrstor(other.state, image, 0, true);
  assert.deepEqual(new Uint8Array(other.view.buffer, 0, OPERAND), new Uint8Array(m.view.buffer, 0, OPERAND));
});

test("FNSAVE and FRSTOR are inverse; FNSAVE initialises", () => {
  const m = machine();
  m.load(1.25);
  m.load(-7);
  assert.equal(m.run(0xdd, 0x30), X87_STORE);
  assert.equal(m.state.tags, 0);
  assert.equal(m.view.getUint32(OPERAND + 8, true), 0xffff_0fff);
  m.run(0xdd, 0x20);
  assert.equal(m.pop(), -7);
  assert.equal(m.pop(), 1.25);
});

test("names and memory operands", () => {
  assert.equal(x87Name(0xd9, 0xfe), "fsin");
  assert.equal(x87Name(0xde, 0x05), "fiadd i16");
  assert.equal(x87Name(0xd9, 0xd1), undefined);
  assert.equal(machine().run(0xd9, 0x08), X87_UD);
  assert.deepEqual(x87MemoryAccess(0xdd, 6, true), { bytes: 94, access: "write" });
  assert.deepEqual(x87MemoryAccess(0xdb, 5), { bytes: 10, access: "read" });
  assert.equal(x87MemoryAccess(0xdb, 4), undefined);
  // The operand area holds the largest of them.
  for (let n = 0; n < 64; n++) {
    const access = x87MemoryAccess(0xd8 + (n >> 3), n & 7);
    assert.ok(access === undefined || access.bytes <= X87_OPERAND_BYTES);
  }
});
