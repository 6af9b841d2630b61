/** The quick x87 against the unit itself: the same state after every instruction, whatever its operands. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATE, type StateName, X87_OPERAND, X87_REGISTERS } from "../../../isa/state.ts";
import { GuestMemory } from "../../../memory/guest-memory.ts";
import type { EngineHost } from "../engine-host.ts";
import { x87Helpers } from "../helpers/x87.ts";
import { STATE_BASE } from "../layout.ts";
import { quickX87 } from "./quick-x87.ts";

const STATE_BYTES = 4096;
const OPERAND_BYTES = 10;
const REGISTER_BYTES = 16;

/** A repeatable source of 32-bit numbers. [Marsaglia, "Xorshift RNGs", 2003] */
function randomSource(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

class Unit {
  readonly memory = GuestMemory.create(1 << 20);
  readonly bytes = new Uint8Array(this.memory.memory.buffer, STATE_BASE, STATE_BYTES);
  readonly view = new DataView(this.memory.memory.buffer, STATE_BASE, STATE_BYTES);
  readonly exact = x87Helpers({ memory: this.memory, stateBase: STATE_BASE } as EngineHost).x87;
}

function sides() {
  const plain = new Unit();
  const quick = new Unit();
  let slow = 0;
  const run = quickX87(quick.memory, (...args) => {
    slow++;
    return quick.exact(...args);
  });
  return { plain, quick, run, slow: () => slow };
}

/** Fills the unit: registers near each other and with few bits as often as any, the stack full, half full or empty. */
function fill({ view }: Unit, random: () => number, control: number): void {
  const word = (name: StateName, value: number) => view.setUint32(STATE[name].offset, value, true);
  const exponents = [0, 1, 2, 0x3fff, 0x7ffe, 0x7fff];
  for (let i = 0; i < 9; i++) {
    const at = i < 8 ? X87_REGISTERS + i * REGISTER_BYTES : X87_OPERAND;
    const kind = random() % 16;
    const near = 0x3fff - 35 + (random() % 70);
    const exponent = kind === 0 ? (exponents[random() % exponents.length] ?? 0) : kind === 1 ? random() & 0x7fff : near;
    view.setUint16(at + 8, exponent | (random() & 0x8000), true);
    const [low, high] = kind === 2 ? [0, 0] : kind < 8 ? [0, random() & 0xf000_0000] : [random(), random()];
    view.setUint32(at, kind === 9 ? 0xffff_ffff : low, true);
    view.setUint32(at + 4, (kind === 9 ? 0xffff_ffff : high) | (exponent === 0 || kind === 10 ? 0 : 0x8000_0000), true);
    if (kind === 11) {
      view.setBigUint64(at, 0n, true);
      view.setUint16(at + 8, random() & 0x8000, true);
    }
  }
  word("fcw", control);
  word("fsw", random() & (random() % 8 === 0 ? 0x7f00 | 0x7f : 0x3800));
  word("ftw", random() % 4 === 0 ? random() & 0xff : random() % 2 === 0 ? 0xff : 0x3c);
  for (const name of ["scratch", "scratch2"] as const) word(name, random());
}

test("every instruction leaves the state that the unit leaves", () => {
  const random = randomSource(0x5eed);
  const { plain, quick, run, slow } = sides();
  const controls = [0x37f, 0x37f, 0x37f, 0xf7f, 0x27f, 0xb7f, 0x340, 0x37e];
  let done = 0;
  for (let n = 0; n < 60_000; n++) {
    const opcode = 0xd8 + (random() & 7);
    const modrm = random() & 0xff;
    // Those that take a microsecond or change the whole state are the unit's in any case.
    if (opcode === 0xd9 && modrm >= 0xf0) continue;
    fill(plain, random, controls[random() % controls.length] ?? 0);
    quick.bytes.set(plain.bytes);
    const before = plain.bytes.slice();
    const flags = random() & 0xff;
    const expected = plain.exact(opcode, modrm, flags, 0);
    const found = run(opcode, modrm, flags, 0);
    const shown = `${opcode.toString(16)} ${modrm.toString(16)} of ${Buffer.from(before.subarray(X87_REGISTERS, X87_OPERAND + OPERAND_BYTES)).toString("hex")}`;
    assert.equal(found, expected, `outcome of ${shown}`);
    assert.deepEqual(quick.bytes, plain.bytes, shown);
    done++;
  }
  assert.ok(slow() < done * 0.9, `${slow()} of ${done} were left to the unit`);
});

test("sums, differences, products and quotients that are rounded are as the unit rounds them", () => {
  const random = randomSource(77);
  const { plain, quick, run, slow } = sides();
  const count = 40_000;
  for (let n = 0; n < count; n++) {
    fill(plain, random, 0x37f);
    const { view } = plain;
    view.setUint32(STATE.fsw.offset, 0, true);
    view.setUint32(STATE.ftw.offset, 0xff, true);
    // Ties, carries and what is just beside them: significands with runs of ones and zeros, at every distance.
    for (const register of [0, 1]) {
      const at = X87_REGISTERS + register * REGISTER_BYTES;
      const run64 = (1n << BigInt(random() % 64)) + BigInt((random() % 3) - 1);
      const pattern = random() % 2 === 0 ? run64 : ~run64;
      view.setBigUint64(at, BigInt.asUintN(64, pattern) | (1n << 63n), true);
      view.setUint16(at + 8, (0x3fff + (random() % 140) - 70) | (random() & 0x8000), true);
    }
    quick.bytes.set(plain.bytes);
    const field = [0, 1, 4, 5, 6, 7][random() % 6] ?? 0;
    const modrm = 0xc1 | (field << 3);
    const opcode = [0xd8, 0xdc, 0xde][random() % 3] ?? 0xd8;
    assert.equal(run(opcode, modrm, 0, 0), plain.exact(opcode, modrm, 0, 0));
    assert.deepEqual(quick.bytes, plain.bytes, `${opcode.toString(16)} ${modrm.toString(16)}, case ${n}`);
  }
  assert.ok(slow() < count * 0.01, `${slow()} of ${count} were left to the unit`);
});
