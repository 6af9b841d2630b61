/** Slow loads and stores: sizes, page crossing, devices, decoded code. */

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { HIGH_RAM_START } from "../../../memory/guest-memory.ts";
import {
  A,
  CoreFixture,
  CR4_SMAP,
  D,
  LIFTED_VIEW,
  P,
  RAM_BYTES,
  RW,
  SUPERVISOR_VIEW,
  US,
  USER_VIEW,
} from "./core-fixture.ts";
import { NON_CANONICAL_ERROR } from "./page-walk.ts";

const ALL = P | RW | US;
const TABLES = [0x10000, 0x11000, 0x12000, 0x13000] as const;
const [TOP, , , LAST] = TABLES;
const VALUE = 0x8877_6655_4433_2211n;
const PF = 14;
const DEVICE = 0xfec0_0000n;
/** Last address of the lower canonical half, plus 1. */
const CANONICAL_END = 0x8000_0000_0000n;

const fixture = new CoreFixture();
const { core } = fixture;

function value(bytes: number): bigint {
  return BigInt.asUintN(bytes * 8, VALUE);
}

/** 4-level paging: linear pages 0 to 511 by the entries of LAST; the same table again below CANONICAL_END. */
function pageBy(entries: Record<number, bigint>): void {
  for (const [i, table] of TABLES.slice(0, 3).entries()) {
    fixture.put(table, 0, BigInt(TABLES[i + 1] ?? 0) | ALL);
    fixture.put(table, i === 0 ? 255 : 511, BigInt(TABLES[i + 1] ?? 0) | ALL);
  }
  for (const [page, entry] of Object.entries(entries)) fixture.put(LAST, Number(page), entry);
  fixture.paging("fourLevel", BigInt(TOP));
}

beforeEach(() => fixture.reset());

describe("RAM", () => {
  for (const bytes of [1, 2, 4, 8]) {
    test(`${bytes} bytes, at every place of a page, and across its end`, () => {
      for (const at of [0x3000n, 0x3001n, 0x3ffcn, 0x4000n - BigInt(bytes), 0x3fffn]) {
        fixture.setRam(0x3000, 0x2000, 0n);
        core.store(at, bytes, VALUE);
        assert.equal(fixture.ram(Number(at), bytes), value(bytes));
        assert.equal(fixture.ram(Number(at) - 1, 1), 0n);
        assert.equal(fixture.ram(Number(at) + bytes, 1), 0n);
        assert.equal(core.load(at, bytes), BigInt.asIntN(64, value(bytes)));
        assert.equal(core.loadForWrite(at, bytes), BigInt.asIntN(64, value(bytes)));
        assert.equal(core.loadSystem(at, bytes), BigInt.asIntN(64, value(bytes)));
      }
      assert.equal(fixture.takeFault(), undefined);
    });
  }
  test("an access across pages joins two physical pages", () => {
    pageBy({ 1: 0x30000n | ALL, 2: 0x20000n | ALL });
    core.store(0x1ffdn, 8, VALUE);
    assert.equal(fixture.ram(0x30ffd, 3), value(3));
    assert.equal(fixture.ram(0x20000, 5), VALUE >> 24n);
    assert.equal(core.load(0x1ffdn, 8), BigInt.asIntN(64, VALUE));
  });
  test("the last byte of RAM is followed by devices", () => {
    core.store(BigInt(RAM_BYTES - 1), 2, 0xbeefn);
    assert.equal(fixture.ram(RAM_BYTES - 1, 1), 0xefn);
    assert.deepEqual(fixture.device, [`w1 ${RAM_BYTES.toString(16)} be`]);
  });
  test("RAM above 4 GiB", () => {
    // Only what is touched becomes resident.
    const large = new CoreFixture(3 * 1024 ** 3 + RAM_BYTES);
    large.put(TOP, 0, BigInt(TABLES[1]) | ALL);
    large.put(TABLES[1], 0, BigInt(TABLES[2]) | ALL);
    large.put(TABLES[2], 0, BigInt(LAST) | ALL);
    large.put(LAST, 1, BigInt(HIGH_RAM_START + 0x1000) | ALL);
    large.put(LAST, 2, BigInt(HIGH_RAM_START + RAM_BYTES) | ALL);
    large.put(LAST, 3, BigInt(HIGH_RAM_START - 0x1000) | ALL);
    large.paging("fourLevel", BigInt(TOP));
    large.core.store(0x1008n, 8, VALUE);
    assert.equal(large.ram(HIGH_RAM_START + 0x1008, 8), VALUE);
    assert.equal(large.tlb(0x1008n, "write", SUPERVISOR_VIEW), HIGH_RAM_START + 0x1008);
    large.core.load(0x2000n, 4);
    large.core.load(0x3000n, 4);
    assert.deepEqual(large.device, [`r4 ${(HIGH_RAM_START + RAM_BYTES).toString(16)}`, "r4 fffff000"]);
  });
});

describe("faults", () => {
  const STORES = ["store", "storeSystem"] as const;
  for (const name of STORES) {
    test(`${name} across pages writes nothing where the second page faults`, () => {
      pageBy({ 1: 0x30000n | ALL, 2: 0x20000n | P });
      core[name](0x1ffdn, 8, VALUE);
      assert.deepEqual(fixture.takeFault(), { vector: PF, error: 3, cr2: 0x2000n });
      assert.equal(fixture.ram(0x30ffd, 3), 0n);
    });
    test(`${name} across pages names the first page where both fault`, () => {
      pageBy({});
      core[name](0x1ffdn, 4, VALUE);
      assert.deepEqual(fixture.takeFault(), { vector: PF, error: 2, cr2: 0x1ffdn });
    });
  }
  for (const name of ["load", "loadForWrite", "loadSystem"] as const) {
    test(`${name} gives 0 and the fault of the page that refuses`, () => {
      const write = name === "loadForWrite" ? 2 : 0;
      pageBy({ 1: 0x30000n | ALL });
      fixture.setRam(0x30ffd, 3, 0xffffffn);
      assert.equal(core[name](0x1ffdn, 8), 0n);
      assert.deepEqual(fixture.takeFault(), { vector: PF, error: write, cr2: 0x2000n });
      assert.equal(core[name](0x2004n, 4), 0n);
      assert.deepEqual(fixture.takeFault(), { vector: PF, error: write, cr2: 0x2004n });
    });
  }
  test("loadForWrite of a read-only page faults as a write, and sets D as one", () => {
    pageBy({ 1: 0x30000n | P, 2: 0x20000n | ALL });
    core.loadForWrite(0x1000n, 4);
    assert.deepEqual(fixture.takeFault(), { vector: PF, error: 3, cr2: 0x1000n });
    core.loadForWrite(0x2000n, 4);
    assert.equal(fixture.entry(LAST, 2), 0x20000n | ALL | A | D);
  });
  test("probeWrite checks both pages of 16 bytes, and writes nothing", () => {
    pageBy({ 1: 0x30000n | ALL, 2: 0x20000n | P });
    core.probeWrite(0x1ff0n, 16);
    assert.equal(fixture.takeFault(), undefined);
    core.probeWrite(0x1ff1n, 16);
    assert.deepEqual(fixture.takeFault(), { vector: PF, error: 3, cr2: 0x2000n });
    core.probeWrite(0x2ff1n, 16);
    assert.deepEqual(fixture.takeFault(), { vector: PF, error: 3, cr2: 0x2ff1n });
  });
  test("an access that leaves the canonical half raises #GP before any page is walked", () => {
    pageBy({ 511: 0x30000n | ALL });
    const end = CANONICAL_END - 4n;
    core.store(end, 4, VALUE);
    assert.equal(fixture.takeFault(), undefined);
    fixture.put(LAST, 511, 0n);
    for (const access of [() => core.store(end, 8, VALUE), () => core.load(end, 8), () => core.probeWrite(end, 16)]) {
      access();
      const fault = fixture.takeFault();
      assert.equal(fault?.vector, 13);
      assert.equal(fault.error, NON_CANONICAL_ERROR);
    }
  });
  test("implicit accesses have the supervisor's rights at CPL 3, and SMAP in spite of AC", () => {
    pageBy({ 1: 0x30000n | P | RW, 2: 0x20000n | ALL });
    fixture.useView(USER_VIEW);
    core.storeSystem(0x1000n, 4, VALUE);
    assert.equal(fixture.takeFault(), undefined);
    assert.equal(fixture.ram(0x30000, 4), value(4));
    fixture.set("cr4", CR4_SMAP);
    fixture.useView(LIFTED_VIEW);
    core.store(0x2000n, 4, VALUE);
    assert.equal(fixture.takeFault(), undefined);
    core.loadSystem(0x2000n, 4);
    assert.deepEqual(fixture.takeFault(), { vector: PF, error: 1, cr2: 0x2000n });
  });
});

describe("devices", () => {
  test("reads and writes of 1, 2 and 4 bytes are one access, 8 are two, the lower first", () => {
    for (const bytes of [1, 2, 4]) core.store(DEVICE, bytes, VALUE);
    core.store(DEVICE, 8, VALUE);
    assert.deepEqual(fixture.device, [
      "w1 fec00000 11",
      "w2 fec00000 2211",
      "w4 fec00000 44332211",
      "w4 fec00000 44332211",
      "w4 fec00004 88776655",
    ]);
    fixture.device.length = 0;
    fixture.deviceValues.push(0xfe, 0xfffe, 0x8000_0001 | 0, 0x8000_0001 | 0, -2);
    assert.equal(core.load(DEVICE, 1), 0xfen);
    assert.equal(core.loadForWrite(DEVICE, 2), 0xfffen);
    assert.equal(core.loadSystem(DEVICE, 4), 0x8000_0001n);
    assert.equal(core.load(DEVICE, 8), BigInt.asIntN(64, 0xffff_fffe_8000_0001n));
    assert.deepEqual(fixture.device, ["r1 fec00000", "r2 fec00000", "r4 fec00000", "r4 fec00000", "r4 fec00004"]);
  });
  test("the VGA window is a device", () => {
    core.load(0x9fffcn, 4);
    core.store(0xa0000n, 4, 1n);
    core.store(0xbffffn, 1, 2n);
    core.load(0xc0000n, 4);
    assert.deepEqual(fixture.device, ["w4 a0000 1", "w1 bffff 2"]);
  });
  test("pages of devices never enter the TLB", () => {
    core.store(DEVICE, 4, 1n);
    core.load(DEVICE, 4);
    assert.equal(fixture.tlb(DEVICE, "read", SUPERVISOR_VIEW), undefined);
    assert.equal(fixture.tlb(DEVICE, "write", SUPERVISOR_VIEW), undefined);
  });
  test("across pages, RAM and device each get their bytes, once both pages allow it", () => {
    pageBy({ 1: 0x30000n | ALL, 2: DEVICE | ALL });
    core.store(0x1ffen, 4, VALUE);
    assert.equal(fixture.ram(0x30ffe, 2), value(2));
    assert.deepEqual(fixture.device, ["w1 fec00000 33", "w1 fec00001 44"]);
    fixture.device.length = 0;
    pageBy({ 1: DEVICE | ALL, 2: 0x30000n | P });
    core.store(0x1ffen, 4, VALUE);
    assert.deepEqual(fixture.takeFault(), { vector: PF, error: 3, cr2: 0x2000n });
    assert.deepEqual(fixture.device, []);
  });
});

describe("pages with decoded code", () => {
  const CODE = 0x30000;
  test("a store forgets the code before it writes; the page stays out of every write table", () => {
    fixture.setRam(CODE, 8, 0x55n);
    fixture.markCode(CODE, true);
    for (const view of [SUPERVISOR_VIEW, LIFTED_VIEW, USER_VIEW]) {
      fixture.useView(view);
      core.load(BigInt(CODE), 4);
      core.loadForWrite(BigInt(CODE), 4);
      core.store(BigInt(CODE), 4, 0x55n);
      assert.equal(fixture.tlb(BigInt(CODE), "read", view), CODE);
      assert.equal(fixture.tlb(BigInt(CODE), "write", view), undefined);
    }
    core.storeSystem(BigInt(CODE + 2), 2, VALUE);
    assert.equal(fixture.tlb(BigInt(CODE), "write", SUPERVISOR_VIEW), undefined);
    const overwrite = { physical: CODE, bytes: 4, before: 0x55 };
    assert.deepEqual(fixture.codeWrites, [
      overwrite,
      overwrite,
      overwrite,
      { physical: CODE + 2, bytes: 2, before: 0 },
    ]);
    assert.equal(fixture.ram(CODE, 4), 0x2211_0055n);
  });
  test("a page whose code was forgotten is entered for writing at once", () => {
    fixture.markCode(CODE, true);
    fixture.codeForgotten = true;
    core.store(BigInt(CODE), 8, VALUE);
    assert.equal(fixture.codeWrites.length, 1);
    assert.equal(fixture.tlb(BigInt(CODE), "write", SUPERVISOR_VIEW), CODE);
  });
  test("a store across pages tells each byte of the code page", () => {
    fixture.markCode(CODE + 0x1000, true);
    core.store(BigInt(CODE + 0xffe), 4, VALUE);
    assert.deepEqual(fixture.codeWrites, [
      { physical: CODE + 0x1000, bytes: 1, before: 0 },
      { physical: CODE + 0x1001, bytes: 1, before: 0 },
    ]);
  });
});
