/** The software TLB: what enters it, by view and kind of access, and what each flush forgets [SDM 3 §4.10]. */

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { JumpContexts } from "../jump-contexts.ts";
import { FETCH_RIGHTS, TLB, TLB_LOGS } from "../layout.ts";
import {
  CoreFixture,
  CR0_WP,
  CR4_PSE,
  CR4_SMAP,
  LIFTED_VIEW,
  P,
  PS,
  RW,
  SUPERVISOR_VIEW,
  US,
  USER_VIEW,
} from "./core-fixture.ts";

const ALL = P | RW | US;
const G = 1n << 8n;
const CR4_PGE = 1n << 7n;
const TABLES = [0x10000, 0x11000, 0x12000, 0x13000] as const;
const [TOP, SECOND, THIRD, LAST] = TABLES;
const VIEWS = [SUPERVISOR_VIEW, LIFTED_VIEW, USER_VIEW];
const PAGES_OF_TABLE = BigInt(TLB.entries) * 0x1000n;

const fixture = new CoreFixture();
const { core } = fixture;

beforeEach(() => {
  fixture.reset();
  fixture.put(TOP, 0, BigInt(SECOND) | ALL);
  fixture.put(SECOND, 0, BigInt(THIRD) | ALL);
  fixture.put(THIRD, 0, BigInt(LAST) | ALL);
  for (let i = 1; i < 512; i++) fixture.put(LAST, i, (0x100000n + BigInt(i) * 0x1000n) | ALL);
  fixture.paging("fourLevel", BigInt(TOP));
});

describe("fill", () => {
  test("a read enters the read table only, until D is set", () => {
    core.load(0x1234n, 4);
    assert.equal(fixture.tlb(0x1234n, "read", SUPERVISOR_VIEW), 0x101234);
    assert.equal(fixture.tlb(0x1234n, "write", SUPERVISOR_VIEW), undefined);
    core.store(0x1234n, 4, 0n);
    assert.equal(fixture.tlb(0x1234n, "write", SUPERVISOR_VIEW), 0x101234);
    core.flushAll();
    core.load(0x1234n, 4);
    assert.equal(fixture.tlb(0x1234n, "write", SUPERVISOR_VIEW), 0x101234);
  });
  test("only the current view is entered", () => {
    for (const view of VIEWS) {
      core.flushAll();
      fixture.useView(view);
      core.store(0x1000n, 4, 0n);
      for (const other of VIEWS) {
        const found = other === view ? 0x101000 : undefined;
        assert.equal(fixture.tlb(0x1000n, "read", other), found);
        assert.equal(fixture.tlb(0x1000n, "write", other), found);
      }
    }
  });
  test("implicit accesses enter the supervisor's view, whatever the present one is", () => {
    fixture.put(LAST, 1, 0x101000n | P | RW);
    fixture.set("cr4", CR4_SMAP);
    for (const view of VIEWS) {
      core.flushAll();
      fixture.useView(view);
      core.loadSystem(0x1000n, 8);
      core.storeSystem(0x1000n, 8, 0n);
      assert.equal(fixture.takeFault(), undefined);
      assert.equal(fixture.tlb(0x1000n, "write", SUPERVISOR_VIEW), 0x101000);
      assert.equal(fixture.tlb(0x1000n, "read", USER_VIEW), undefined);
    }
  });
  test("a read-only page is writable to the supervisor without WP, not to the user", () => {
    fixture.put(LAST, 1, 0x101000n | P | US);
    fixture.set("cr0", 0);
    core.store(0x1000n, 4, 0n);
    assert.equal(fixture.takeFault(), undefined);
    assert.equal(fixture.tlb(0x1000n, "write", SUPERVISOR_VIEW), 0x101000);
    fixture.useView(USER_VIEW);
    core.load(0x1000n, 4);
    assert.equal(fixture.tlb(0x1000n, "write", USER_VIEW), undefined);
    fixture.set("cr0", CR0_WP);
    core.flushAll();
    fixture.useView(SUPERVISOR_VIEW);
    core.load(0x1000n, 4);
    assert.equal(fixture.tlb(0x1000n, "write", SUPERVISOR_VIEW), undefined);
  });
  test("an access that faults enters nothing", () => {
    fixture.put(LAST, 1, 0x101000n | P | US);
    core.store(0x1000n, 4, 0n);
    assert.notEqual(fixture.takeFault(), undefined);
    assert.equal(fixture.tlb(0x1000n, "read", SUPERVISOR_VIEW), undefined);
  });
  test("high linear addresses keep their whole tag", () => {
    fixture.put(TOP, 511, BigInt(SECOND) | ALL);
    core.store(-0x80_0000_0000n + 0x3008n, 8, 0n);
    assert.equal(fixture.tlb(-0x80_0000_0000n + 0x3008n, "write", SUPERVISOR_VIEW), 0x103008);
    assert.equal(fixture.tlb(0x3008n, "write", SUPERVISOR_VIEW), undefined);
  });
  test("without paging, a page is writable at once", () => {
    fixture.paging("none", 0n);
    core.load(0x5000n, 1);
    assert.equal(fixture.tlb(0x5000n, "write", SUPERVISOR_VIEW), 0x5000);
  });
});

describe("flush", () => {
  /** Fills each of `pages` in all views, for reading and writing. */
  function fillAll(pages: readonly bigint[]): void {
    for (const view of VIEWS) {
      fixture.useView(view);
      for (const page of pages) core.store(page, 1, 0n);
    }
    assert.equal(fixture.takeFault(), undefined);
  }
  function assertForgotten(pages: readonly bigint[]): void {
    for (const page of pages) {
      for (const view of VIEWS) {
        assert.equal(fixture.tlb(page, "read", view), undefined, `${page.toString(16)} in view ${view}`);
        assert.equal(fixture.tlb(page, "write", view), undefined, `${page.toString(16)} in view ${view}`);
      }
    }
  }
  const range = (count: number) => Array.from({ length: count }, (_, i) => BigInt(i + 1) * 0x1000n);

  test("of all, with few and with many entries", () => {
    for (const count of [0, 1, 300, 341, 342, 511]) {
      const pages = range(count);
      fillAll(pages);
      assert.equal(fixture.memory.view.getInt32(TLB_LOGS.local.count, true), count * VIEWS.length);
      core.flushAll();
      assertForgotten(pages);
      assert.equal(fixture.memory.view.getInt32(TLB_LOGS.local.count, true), 0);
    }
  });
  test("of one page leaves the others", () => {
    fillAll(range(4));
    core.flushPage(0x2abcn);
    assertForgotten([0x2000n]);
    for (const view of VIEWS) assert.equal(fixture.tlb(0x3000n, "write", view), 0x103000);
  });
  test("of one page forgets its fetches too", () => {
    core.fetch(0x2000n);
    core.fetch(0x3000n);
    fixture.put(LAST, 2, 0x140000n | ALL);
    fixture.put(LAST, 3, 0x150000n | ALL);
    core.flushPage(0x2000n);
    assert.equal(core.fetch(0x2008n), 0x140008n);
    assert.equal(core.fetch(0x3008n), 0x103008n, "not flushed, so not walked again");
    core.flushAll();
    assert.equal(core.fetch(0x3008n), 0x150008n);
  });
  for (const count of [4, 300, 511]) {
    test(`of all but global ones, ${count} pages in each view`, () => {
      const pages = range(count);
      const global = (page: bigint) => page % 0x3000n === 0n;
      for (const page of pages.filter(global)) {
        const index = Number(page >> 12n);
        fixture.put(LAST, index, fixture.entry(LAST, index) | G);
      }
      fixture.set("cr4", CR4_PGE);
      fillAll(pages);
      for (const page of pages) core.fetch(page);
      // Twice: what stayed must still be known by the last flush.
      for (const left of [global, global]) {
        core.flushNonGlobal();
        for (const page of pages) {
          for (const view of VIEWS) {
            const found = left(page) ? 0x100000 + Number(page) : undefined;
            assert.equal(fixture.tlb(page, "read", view), found);
            assert.equal(fixture.tlb(page, "write", view), found);
          }
        }
      }
      for (const page of pages) fixture.put(LAST, Number(page >> 12n), 0n);
      // Of 511 pages some share an entry of the smaller table for fetches; the last ones are in it.
      for (const page of pages.slice(-4)) assert.equal(core.fetch(page) === -1n, !global(page));
      fixture.takeFault();
      core.flushAll();
      assertForgotten(pages);
      assert.equal(core.fetch(pages.findLast(global) ?? 0n), -1n);
    });
  }
  for (const count of [1, 300, 511]) {
    test(`of what may write a page, by whatever address, among ${count} pages in each view`, () => {
      const alias = 0n;
      fixture.put(LAST, 0, 0x101000n | ALL);
      fillAll([...range(count), alias]);
      core.forgetWritable(fixture.memory.offsetOf(0x101000, 1));
      for (const view of VIEWS) {
        for (const page of [0x1000n, alias]) {
          assert.equal(fixture.tlb(page, "write", view), undefined);
          assert.equal(fixture.tlb(page, "read", view), 0x101000);
        }
        for (const page of range(count).slice(1)) {
          assert.equal(fixture.tlb(page, "write", view), 0x100000 + Number(page));
        }
      }
      fixture.put(LAST, 0, 0n);
    });
  }
  test("tells whose jumps it ends", () => {
    const { all, supervisor, user } = FETCH_RIGHTS;
    const jumps = new JumpContexts(fixture.memory);
    jumps.forget(all);
    fixture.put(LAST, 1, fixture.entry(LAST, 1) | G);
    fixture.set("cr4", CR4_PGE);
    fixture.useView(SUPERVISOR_VIEW);
    core.fetch(0x1000n);
    core.load(0x3000n, 1);
    assert.equal(core.flushNonGlobal(), user);
    assert.equal(core.flushPage(0x3000n), 0, "a page that nobody fetched from");
    assert.equal(core.flushPage(0x1000n), supervisor);
    core.fetch(0x2000n);
    assert.equal(core.flushNonGlobal(), all, "page 2 is not global");
    jumps.forget(supervisor);
    fixture.useView(USER_VIEW);
    core.fetch(0x2000n);
    assert.equal(core.flushPage(0x2000n), user);
    assert.equal(core.flushNonGlobal(), user);
    core.fetch(0x4000n);
    jumps.forget(core.flushPage(0x2000n));
    assert.equal(core.flushPage(0x4000n), 0, "already forgotten with page 2");
    core.fetch(0x4000n);
    jumps.forget(core.flushPage(0x4000n));
    core.fetch(0x2000n);
    jumps.forget(core.flushPage(0x2000n));
    fixture.put(LAST, 4, 0n);
    core.flushNonGlobal();
    assert.equal(core.fetch(0x4000n), -1n, "INVLPG does not keep others from being forgotten");
    fixture.takeFault();
  });
  test("without CR4.PGE nothing is global", () => {
    fixture.put(LAST, 1, fixture.entry(LAST, 1) | G);
    fillAll(range(2));
    core.flushNonGlobal();
    assertForgotten(range(2));
  });
  for (const [name, table, index, entry, far] of [
    ["2 MiB", THIRD, 1, 0x20_0000n, 0x20_0000n],
    ["1 GiB", SECOND, 1, 0x0n, 0x4000_0000n],
  ] as const) {
    test(`by one address of a ${name} page forgets all of it`, () => {
      fixture.put(table, index, entry | ALL | PS);
      const first = far + 0x3000n;
      core.store(first, 4, 0n);
      core.fetch(first);
      fixture.put(table, index, 0n);
      core.flushPage(far + (name === "1 GiB" ? 0x3fff_f000n : 0x1f_f000n));
      assert.equal(fixture.tlb(first, "read", SUPERVISOR_VIEW), undefined);
      assert.equal(fixture.tlb(first, "write", SUPERVISOR_VIEW), undefined);
      assert.equal(core.fetch(first), -1n);
    });
    test(`by one address of a ${name} page that was only fetched from`, () => {
      fixture.put(table, index, entry | ALL | PS);
      core.fetch(far + 0x3000n);
      fixture.put(table, index, 0n);
      core.flushPage(far + 0x5000n);
      assert.equal(core.fetch(far + 0x3000n), -1n);
    });
  }
  test("by one address of a 4 MiB page forgets both of its halves", () => {
    fixture.put32(TOP, 1, ALL | PS);
    fixture.set("cr4", CR4_PSE);
    fixture.paging("twoLevel", BigInt(TOP));
    // The linear address may carry what overflowed 32 bits.
    for (const linear of [0x40_0000n, 0x1_0040_0000n]) {
      core.store(linear, 4, 0n);
      assert.notEqual(fixture.tlb(linear, "write", SUPERVISOR_VIEW), undefined);
      core.flushPage(0x60_0000n);
      assert.equal(fixture.tlb(linear, "write", SUPERVISOR_VIEW), undefined);
    }
  });
  test("of one page forgets what shares its entry, and nothing stale comes back", () => {
    fixture.put(THIRD, 4, BigInt(LAST) | ALL);
    core.store(0x1000n, 4, 0n);
    core.store(0x1000n + PAGES_OF_TABLE, 4, 0n);
    assert.equal(fixture.tlb(0x1000n, "read", SUPERVISOR_VIEW), undefined);
    core.flushPage(0x1000n + PAGES_OF_TABLE);
    assertForgotten([0x1000n, 0x1000n + PAGES_OF_TABLE]);
  });
});
