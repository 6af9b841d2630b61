/** Translation in each paging mode, by hand-made tables [SDM 3 §4.2-4.8]. */

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import {
  A,
  CoreFixture,
  CR0_WP,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  D,
  EFER_NXE,
  EFLAGS_AC,
  LIFTED_VIEW,
  NX,
  P,
  PS,
  RW,
  SUPERVISOR_VIEW,
  US,
  USER_VIEW,
} from "./core-fixture.ts";
import { ACCESS, NON_CANONICAL_ERROR } from "./page-walk.ts";

const READ = 0;
const ALL = P | RW | US;
const TOP = 0x10000;
const SECOND = 0x11000;
const THIRD = 0x12000;
const LAST = 0x13000;
const PAGE = 0x20000n;
const PF = 14;
const GP = 13;

const fixture = new CoreFixture();
const { core } = fixture;

/** What `translate` gives: a guest-physical address, or the fault that it left. */
function walk(linear: bigint, access: number): bigint | { vector: number; error: number; cr2: bigint } {
  const physical = core.translate(BigInt.asIntN(64, linear), access);
  const fault = fixture.takeFault();
  assert.equal(physical === -1n, fault !== undefined, "-1 goes with a fault");
  return fault ?? physical;
}
function pageFault(linear: bigint, error: number) {
  return { vector: PF, error, cr2: linear };
}

beforeEach(() => fixture.reset());

describe("no paging", () => {
  test("addresses are 32 bits wide", () => {
    assert.equal(walk(0x1234n, ACCESS.write), 0x1234n);
    assert.equal(walk(0x1_0000_1234n, READ), 0x1234n);
  });
});

describe("4-level paging", () => {
  /** Linear address with index 1, 2, 3, 4 in the four tables. */
  const LINEAR = (1n << 39n) | (2n << 30n) | (3n << 21n) | (4n << 12n) | 0x567n;
  beforeEach(() => {
    fixture.put(TOP, 1, BigInt(SECOND) | ALL);
    fixture.put(SECOND, 2, BigInt(THIRD) | ALL);
    fixture.put(THIRD, 3, BigInt(LAST) | ALL);
    fixture.put(LAST, 4, PAGE | ALL);
    fixture.paging("fourLevel", BigInt(TOP) | 0x18n);
  });

  test("a 4 KiB page; a read sets A at every level and D nowhere", () => {
    assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
    assert.equal(fixture.entry(TOP, 1), BigInt(SECOND) | ALL | A);
    assert.equal(fixture.entry(SECOND, 2), BigInt(THIRD) | ALL | A);
    assert.equal(fixture.entry(THIRD, 3), BigInt(LAST) | ALL | A);
    assert.equal(fixture.entry(LAST, 4), PAGE | ALL | A);
    assert.equal(fixture.get("walkWritable"), 0n, "the first write must still set D");
  });
  test("a write sets D in the page's entry only", () => {
    assert.equal(walk(LINEAR, ACCESS.write), PAGE | 0x567n);
    assert.equal(fixture.entry(LAST, 4), PAGE | ALL | A | D);
    assert.equal(fixture.entry(THIRD, 3), BigInt(LAST) | ALL | A);
    assert.equal(fixture.get("walkWritable"), 1n);
  });
  test("a 2 MiB page takes bits 20:0 from the address, a 1 GiB page bits 29:0", () => {
    fixture.put(THIRD, 3, 0x20_0000n | ALL | PS);
    assert.equal(walk(LINEAR, ACCESS.write), 0x20_0000n | (LINEAR & 0x1f_ffffn));
    assert.equal(fixture.entry(THIRD, 3), 0x20_0000n | ALL | PS | A | D);
    assert.equal(fixture.get("walkShift"), 21n);
    fixture.put(SECOND, 2, 0x4000_0000n | ALL | PS);
    assert.equal(walk(LINEAR, READ), 0x4000_0000n | (LINEAR & 0x3fff_ffffn));
    assert.equal(fixture.get("walkShift"), 30n);
  });
  test("without pages of 1 GiB their size bit is reserved; pages of 2 MiB stay", () => {
    const old = new CoreFixture(undefined, { gigabytePages: false });
    old.put(TOP, 1, BigInt(SECOND) | ALL);
    old.put(SECOND, 2, 0x4000_0000n | ALL | PS);
    old.paging("fourLevel", BigInt(TOP));
    assert.equal(old.core.translate(LINEAR, READ), -1n);
    assert.deepEqual(old.takeFault(), pageFault(LINEAR, 9));
    old.put(SECOND, 2, BigInt(THIRD) | ALL);
    old.put(THIRD, 3, 0x20_0000n | ALL | PS);
    assert.equal(old.core.translate(LINEAR, READ), 0x20_0000n | (LINEAR & 0x1f_ffffn));
  });
  test("bit 12 of a large page is PAT, not an address", () => {
    fixture.put(THIRD, 3, 0x20_0000n | ALL | PS | 0x1000n);
    assert.equal(walk(LINEAR & ~0x1f_ffffn, READ), 0x20_0000n);
  });
  test("bits 62:52 are ignored", () => {
    fixture.put(LAST, 4, PAGE | ALL | (0x7ffn << 52n));
    assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
  });

  for (const [name, table, index] of [
    ["PML4E", TOP, 1],
    ["PDPTE", SECOND, 2],
    ["PDE", THIRD, 3],
    ["PTE", LAST, 4],
  ] as const) {
    test(`${name} not present: P is 0 in the error code`, () => {
      fixture.put(table, index, fixture.entry(table, index) & ~P);
      assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 0));
      assert.deepEqual(walk(LINEAR, ACCESS.write), pageFault(LINEAR, 2));
      fixture.useView(USER_VIEW);
      assert.deepEqual(walk(LINEAR, ACCESS.write), pageFault(LINEAR, 6));
    });
    test(`${name} without R/W: read-only for the user, and for the supervisor under WP`, () => {
      fixture.put(table, index, fixture.entry(table, index) & ~RW);
      assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
      assert.equal(fixture.get("walkWritable"), 0n);
      assert.deepEqual(walk(LINEAR, ACCESS.write), pageFault(LINEAR, 3));
      fixture.useView(USER_VIEW);
      assert.deepEqual(walk(LINEAR, ACCESS.write), pageFault(LINEAR, 7));
      fixture.set("cr0", 0);
      assert.deepEqual(walk(LINEAR, ACCESS.write), pageFault(LINEAR, 7));
      fixture.useView(SUPERVISOR_VIEW);
      assert.equal(walk(LINEAR, ACCESS.write), PAGE | 0x567n);
    });
    test(`${name} without U/S: no user access`, () => {
      fixture.put(table, index, fixture.entry(table, index) & ~US);
      assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
      fixture.useView(USER_VIEW);
      assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 5));
      assert.equal(walk(LINEAR, ACCESS.system), PAGE | 0x567n, "an implicit access has the supervisor's rights");
    });
    test(`${name} with NX: no fetch under NXE; without it the bit is reserved`, () => {
      fixture.put(table, index, fixture.entry(table, index) | NX);
      assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
      fixture.set("efer", EFER_NXE);
      assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
      assert.deepEqual(walk(LINEAR, ACCESS.fetch), pageFault(LINEAR, 0x11));
      fixture.useView(USER_VIEW);
      assert.deepEqual(walk(LINEAR, ACCESS.fetch), pageFault(LINEAR, 0x15));
    });
    test(`${name} with an address beyond MAXPHYADDR: reserved`, () => {
      for (const bit of [40n, 51n]) {
        fixture.put(table, index, fixture.entry(table, index) | (1n << bit));
        assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
        fixture.put(table, index, fixture.entry(table, index) & ~(1n << bit));
      }
    });
  }
  test("PS is reserved in a PML4E", () => {
    fixture.put(TOP, 1, BigInt(SECOND) | ALL | PS);
    assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
  });
  test("low address bits of large pages are reserved", () => {
    for (const bit of [13n, 20n]) {
      fixture.put(THIRD, 3, 0x20_0000n | ALL | PS | (1n << bit));
      assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
    }
    for (const bit of [13n, 29n]) {
      fixture.put(SECOND, 2, 0x4000_0000n | ALL | PS | (1n << bit));
      assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
    }
  });
  test("a faulting access leaves the page's entry alone", () => {
    fixture.put(LAST, 4, PAGE | P);
    walk(LINEAR, ACCESS.write);
    assert.equal(fixture.entry(LAST, 4), PAGE | P);
  });
  test("a table outside RAM reads as all ones, whose reserved bits fault", () => {
    fixture.put(THIRD, 3, 0xfec0_0000n | ALL);
    assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
  });
  test("a page outside RAM translates", () => {
    fixture.put(LAST, 4, 0xfe_fec0_0000n | ALL);
    assert.equal(walk(LINEAR, READ), 0xfe_fec0_0567n);
  });
  test("addresses whose bits 63:47 differ raise #GP", () => {
    for (const linear of [0x8000_0000_0000n, 0xffff_7fff_ffff_ffffn, 0x4000_0000_0000_0000n]) {
      const fault = walk(linear, READ);
      assert.ok(typeof fault === "object");
      assert.equal(fault.vector, GP);
      assert.equal(fault.error, NON_CANONICAL_ERROR);
    }
    assert.deepEqual(walk(0xffff_8000_0000_0000n, READ), pageFault(0xffff_8000_0000_0000n, 0));
    assert.deepEqual(walk(0x7fff_ffff_ffffn, READ), pageFault(0x7fff_ffff_ffffn, 0));
  });

  test("I/D is reported only under SMEP or NXE", () => {
    fixture.put(LAST, 4, 0n);
    assert.deepEqual(walk(LINEAR, ACCESS.fetch), pageFault(LINEAR, 0));
    fixture.set("cr4", CR4_SMEP);
    assert.deepEqual(walk(LINEAR, ACCESS.fetch), pageFault(LINEAR, 0x10));
    fixture.set("cr4", 0);
    fixture.set("efer", EFER_NXE);
    assert.deepEqual(walk(LINEAR, ACCESS.fetch), pageFault(LINEAR, 0x10));
  });
  test("SMEP: the supervisor fetches no user page", () => {
    assert.equal(walk(LINEAR, ACCESS.fetch), PAGE | 0x567n);
    fixture.set("cr4", CR4_SMEP);
    assert.deepEqual(walk(LINEAR, ACCESS.fetch), pageFault(LINEAR, 0x11));
    assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
    fixture.useView(USER_VIEW);
    assert.equal(walk(LINEAR, ACCESS.fetch), PAGE | 0x567n);
    fixture.useView(SUPERVISOR_VIEW);
    fixture.put(THIRD, 3, BigInt(LAST) | P | RW);
    assert.equal(walk(LINEAR, ACCESS.fetch), PAGE | 0x567n, "one level without U/S makes a supervisor page");
  });
  test("SMAP: the supervisor's data accesses to user pages need AC, implicit ones never may", () => {
    fixture.set("cr4", CR4_SMAP);
    assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 1));
    assert.deepEqual(walk(LINEAR, ACCESS.write), pageFault(LINEAR, 3));
    assert.equal(walk(LINEAR, ACCESS.fetch), PAGE | 0x567n);
    fixture.useView(LIFTED_VIEW);
    assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
    assert.deepEqual(walk(LINEAR, ACCESS.system), pageFault(LINEAR, 1));
    fixture.useView(USER_VIEW);
    fixture.set("flagsSystem", 2 | EFLAGS_AC);
    assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
    assert.deepEqual(walk(LINEAR, ACCESS.system | ACCESS.write), pageFault(LINEAR, 3));
  });
  test("flags set in a table that holds decoded code forget it first", () => {
    fixture.markCode(LAST, true);
    walk(LINEAR, READ);
    assert.deepEqual(fixture.codeWrites, [{ physical: LAST + 32, bytes: 4, before: 7 }]);
    walk(LINEAR, READ);
    assert.equal(fixture.codeWrites.length, 1, "a set flag is not written again");
  });
});

describe("PAE paging", () => {
  /** Index 2 in the PDPTEs, 3 in the directory, 4 in the table. */
  const LINEAR = (2n << 30n) | (3n << 21n) | (4n << 12n) | 0x567n;
  /** PDPTEs are aligned to 32 bytes only. */
  const CR3 = TOP + 0x20;
  beforeEach(() => {
    fixture.put(CR3, 2, BigInt(THIRD) | P);
    fixture.put(THIRD, 3, BigInt(LAST) | ALL);
    fixture.put(LAST, 4, PAGE | ALL);
    fixture.paging("pae", BigInt(CR3) | (0xabn << 32n));
  });

  test("a 4 KiB page; A in the directory and the table, none in the PDPTE", () => {
    fixture.useView(USER_VIEW);
    assert.equal(walk(LINEAR, ACCESS.write), PAGE | 0x567n);
    assert.equal(fixture.entry(CR3, 2), BigInt(THIRD) | P);
    assert.equal(fixture.entry(THIRD, 3), BigInt(LAST) | ALL | A);
    assert.equal(fixture.entry(LAST, 4), PAGE | ALL | A | D);
  });
  test("addresses are 32 bits wide, and so is CR2", () => {
    assert.equal(walk((5n << 32n) | LINEAR, READ), PAGE | 0x567n);
    fixture.put(LAST, 4, 0n);
    assert.deepEqual(walk((5n << 32n) | LINEAR, READ), pageFault(LINEAR, 0));
  });
  test("a 2 MiB page, and its reserved bits", () => {
    fixture.put(THIRD, 3, 0x20_0000n | ALL | PS);
    assert.equal(walk(LINEAR, ACCESS.write), 0x20_0000n | (LINEAR & 0x1f_ffffn));
    assert.equal(fixture.entry(THIRD, 3), 0x20_0000n | ALL | PS | A | D);
    fixture.put(THIRD, 3, 0x20_2000n | ALL | PS);
    assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
  });
  test("bits 62:40 are reserved", () => {
    for (const bit of [40n, 52n, 62n]) {
      fixture.put(LAST, 4, PAGE | ALL | (1n << bit));
      assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
    }
    fixture.put(LAST, 4, PAGE | ALL);
    fixture.put(THIRD, 3, BigInt(LAST) | ALL | (1n << 52n));
    assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
  });
  test("bits 2:1, 8:5 and 63 of a PDPTE are reserved, even under NXE", () => {
    fixture.set("efer", EFER_NXE);
    for (const bit of [1n, 2n, 5n, 7n, 8n, 40n, 63n]) {
      fixture.put(CR3, 2, BigInt(THIRD) | P | (1n << bit));
      fixture.loadDirectoryPointers();
      assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9), `bit ${bit}`);
    }
    fixture.put(CR3, 2, BigInt(THIRD) | P | 0xe18n);
    fixture.loadDirectoryPointers();
    assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
  });
  test("a PDPTE counts as it was when CR3 was loaded", () => {
    fixture.put(CR3, 2, 0n);
    assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
    fixture.loadDirectoryPointers();
    assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 0));
  });
  test("NX works as in 4-level paging", () => {
    fixture.put(LAST, 4, PAGE | ALL | NX);
    assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
    fixture.set("efer", EFER_NXE);
    assert.deepEqual(walk(LINEAR, ACCESS.fetch), pageFault(LINEAR, 0x11));
  });
});

describe("32-bit paging", () => {
  /** Index 0x301 in the directory, 0x202 in the table. */
  const LINEAR = (0x301n << 22n) | (0x202n << 12n) | 0x567n;
  const NEIGHBOUR = 0xffff_ff9fn;
  beforeEach(() => {
    fixture.put32(TOP, 0x301, BigInt(LAST) | ALL);
    fixture.put32(LAST, 0x202, PAGE | ALL);
    fixture.put32(TOP, 0x302, NEIGHBOUR);
    fixture.put32(LAST, 0x203, NEIGHBOUR);
    fixture.paging("twoLevel", BigInt(TOP) | (0xabn << 32n));
  });

  test("a 4 KiB page; flags leave the neighbouring entry alone", () => {
    assert.equal(walk(LINEAR, ACCESS.write), PAGE | 0x567n);
    assert.equal(fixture.entry32(TOP, 0x301), BigInt(LAST) | ALL | A);
    assert.equal(fixture.entry32(LAST, 0x202), PAGE | ALL | A | D);
    assert.equal(fixture.entry32(TOP, 0x302), NEIGHBOUR);
    assert.equal(fixture.entry32(LAST, 0x203), NEIGHBOUR);
  });
  test("PS counts under CR4.PSE only", () => {
    fixture.put32(TOP, 0x301, BigInt(LAST) | ALL | PS);
    assert.equal(walk(LINEAR, READ), PAGE | 0x567n);
    fixture.put32(TOP, 0x301, 0x40_0000n | ALL | PS);
    fixture.set("cr4", CR4_PSE);
    assert.equal(walk(LINEAR, ACCESS.write), 0x40_0000n | (LINEAR & 0x3f_ffffn));
    assert.equal(fixture.entry32(TOP, 0x301), 0x40_0000n | ALL | PS | A | D);
    assert.equal(fixture.get("walkShift"), 22n);
  });
  test("bits 21:13 of a 4 MiB page are reserved, since PSE-36 is not offered", () => {
    fixture.set("cr4", CR4_PSE);
    for (const bit of [13n, 20n, 21n]) {
      fixture.put32(TOP, 0x301, 0x40_0000n | ALL | PS | (1n << bit));
      assert.deepEqual(walk(LINEAR, READ), pageFault(LINEAR, 9));
    }
  });
  test("rights: R/W, U/S and WP; NXE means nothing here", () => {
    fixture.set("efer", EFER_NXE);
    fixture.put32(TOP, 0x301, BigInt(LAST) | P | US);
    assert.deepEqual(walk(LINEAR, ACCESS.write), pageFault(LINEAR, 3));
    fixture.set("cr0", 0);
    assert.equal(walk(LINEAR, ACCESS.write), PAGE | 0x567n);
    fixture.set("cr0", CR0_WP);
    fixture.put32(TOP, 0x301, BigInt(LAST) | P | RW);
    fixture.useView(USER_VIEW);
    assert.deepEqual(walk(LINEAR, ACCESS.fetch), pageFault(LINEAR, 5));
    fixture.set("cr4", CR4_SMEP);
    assert.deepEqual(walk(LINEAR, ACCESS.fetch), pageFault(LINEAR, 0x15));
  });
  test("a table outside RAM reads as all ones", () => {
    fixture.put32(TOP, 0x301, 0xfec0_0000n | ALL);
    assert.equal(walk(LINEAR, READ), 0xffff_f567n);
  });
});
