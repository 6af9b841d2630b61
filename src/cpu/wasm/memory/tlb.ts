/**
 * The software TLB: filling it from a page walk, and forgetting translations [SDM 3 §4.10].
 *
 * A page that holds decoded code is never entered for writing, so that every write to it takes the slow path.
 */

import { FETCH_GLOBAL, FETCH_RIGHTS, FETCH_TLB, FETCHED_PAGES, LARGE_PAGES, TLB, TLB_LOGS } from "../layout.ts";
import { type CoreModule, PAGE_MASK } from "./core-module.ts";
import {
  above,
  add,
  and,
  below,
  both,
  call,
  choose,
  either,
  equal,
  type Expression,
  type FunctionEmitter,
  type FunctionReference,
  isZero,
  load,
  type Local,
  low32,
  mul,
  notEqual,
  or,
  shiftLeft,
  shiftRight,
  state,
  sub,
  xor,
} from "./emitter.ts";
import { PAGING } from "./page-walk.ts";

/** A tag that no page's address equals. */
const NO_TAG = 1n;
const LOG_ENTRY_SHIFT = 2;
type Log = (typeof TLB_LOGS)["local" | "global"];
const LOGS: readonly Log[] = [TLB_LOGS.local, TLB_LOGS.global];
const WATCH_PAGES = ["watchPage0", "watchPage1", "watchPage2", "watchPage3"] as const;

/** Byte offset, within one table, of the entry for a linear address. Entries are 16 bytes, so 12 - 4 = 8. */
export function entryOffset(linear: Expression, entries: number = TLB.entries): Expression {
  return and(shiftRight(low32(linear), 8), (entries - 1) * TLB.entryBytes);
}

/** The byte of FETCHED_PAGES, within one's rights, that stands for a page. */
export function fetchedPage(linear: Expression): Expression {
  const mixed = xor(shiftRight(linear, 12n), shiftRight(linear, 24n));
  return and(low32(mixed), FETCHED_PAGES.pages - 1);
}

/** What flushes depend on. */
export interface Tlb {
  /** (linear i64, place i32, address of a view's tables i32): enters the page of the last walk. */
  readonly fill: FunctionReference;
  /** (linear i64): remembers that a translation came from a large page, if the last walk found one. */
  readonly noteLarge: FunctionReference;
  readonly flushAll: FunctionReference;
}

/** Entries that a log did not take are counted all the same. */
function overflowed(log: Log): Expression {
  return above(load("i32.load", 0, log.count), log.capacity);
}
/** Goes through the entries of a log that has not overflowed, with their addresses in `entry`. */
function eachLogged(f: FunctionEmitter, log: Log, count: Local, entry: Local, look: () => void): void {
  f.set(count, load("i32.load", 0, log.count));
  f.if(count, () => {
    f.loop((again) => {
      f.set(count, sub(count, 1));
      f.set(entry, load("i32.load", shiftLeft(count, LOG_ENTRY_SHIFT), log.base));
      look();
      again(count);
    });
  });
}
/** Goes through all entries of the read tables; the write tables' lie TLB.writeDelta behind. */
function eachEntry(f: FunctionEmitter, entry: Local, look: () => void): void {
  for (let view = 0; view < TLB.views; view++) {
    f.set(entry, TLB.base + view * TLB.viewBytes);
    f.loop((again) => {
      look();
      f.set(entry, add(entry, TLB.entryBytes));
      again(below(entry, TLB.base + view * TLB.viewBytes + TLB.writeDelta));
    });
  }
}

/** (place of a page i32): forgets all that may write there. */
function defineForgetWritable(core: CoreModule): void {
  const f = core.define(["i32"], undefined, "forgetWritable");
  const place = f.parameter(0);
  const count = f.local("i32");
  const entry = f.local("i32");
  // A tag that is none leads, by an addend that is a multiple of a page, to no page.
  const writes = equal(
    add(load("i32.load", entry, TLB.writeDelta), load("i32.load", entry, TLB.writeDelta + 8)),
    place,
  );
  const look = () => f.if(writes, () => f.store("i64.store", entry, NO_TAG, TLB.writeDelta));
  f.if(
    either(overflowed(TLB_LOGS.local), overflowed(TLB_LOGS.global)),
    () => eachEntry(f, entry, look),
    () => {
      for (const log of LOGS) eachLogged(f, log, count, entry, look);
    },
  );
}

/** (linear i64, log2 of a region's size i64) -> i32: the byte that stands for the region in LARGE_PAGES. */
function defineLargeSlot(core: CoreModule): FunctionReference {
  const f = core.define(["i64", "i64"], "i32");
  const [linear, regionShift] = [f.parameter(0), f.parameter(1)];
  // Outside 4-level paging a linear address is 32 bits wide, whatever overflowed above.
  const address = choose(equal(state("pagingMode"), PAGING.fourLevel), linear, and(linear, 0xffff_ffffn));
  const region = low32(shiftRight(address, regionShift));
  const spread = choose(equal(regionShift, 21n), 0x9e3779b1 | 0, 0x85ebca6b | 0);
  f.return(shiftRight(mul(region, spread), 32 - Math.log2(LARGE_PAGES.bytes)));
  return f;
}

function defineNoteLarge(core: CoreModule, largeSlot: FunctionReference): FunctionReference {
  const f = core.define(["i64"]);
  const linear = f.parameter(0);
  f.returnIf(isZero(above(state("walkShift"), 12)));
  f.store("i32.store8", call(largeSlot, linear, 21n), 1, LARGE_PAGES.base);
  // Pages of 4 MiB count as 1 GiB too: they span two regions of 2 MiB.
  f.if(above(state("walkShift"), 21), () => f.store("i32.store8", call(largeSlot, linear, 30n), 1, LARGE_PAGES.base));
  return f;
}

function defineFill(core: CoreModule, noteLarge: FunctionReference): FunctionReference {
  const f = core.define(["i64", "i32", "i32"]);
  const [linear, place, view] = [f.parameter(0), f.parameter(1), f.parameter(2)];
  const entry = f.local("i32");
  const page = f.local("i64");
  const count = f.local("i32");
  f.set(page, and(linear, PAGE_MASK));
  // Pages with data breakpoints stay out, so that every access to them is seen.
  f.if(state("watching"), () => {
    const shown = and(page, state("ripMask"));
    for (const field of WATCH_PAGES) f.returnIf(equal(shown, state(field)));
  });
  f.set(entry, add(view, entryOffset(linear)));
  const enter = (table: number) => {
    f.store("i64.store", entry, page, table);
    f.store("i32.store", entry, sub(place, low32(linear)), table + 8);
    f.store("i32.store", entry, state("walkGlobal"), table + 12);
  };
  enter(0);
  f.if(both(state("walkWritable"), isZero(core.holdsCode(place))), () => enter(TLB.writeDelta));
  const note = (log: Log) => {
    f.set(count, load("i32.load", 0, log.count));
    f.if(below(count, log.capacity), () => {
      f.store("i32.store", shiftLeft(count, LOG_ENTRY_SHIFT), entry, log.base);
    });
    f.store("i32.store", 0, add(count, 1), log.count);
  };
  f.if(
    state("walkGlobal"),
    () => note(TLB_LOGS.global),
    () => note(TLB_LOGS.local),
  );
  f.call(noteLarge, linear);
  return f;
}

/** Forgets every translation. */
function defineFlushAll(core: CoreModule): FunctionReference {
  const f = core.define([], undefined, "flushAll");
  const count = f.local("i32");
  const entry = f.local("i32");
  f.if(
    either(overflowed(TLB_LOGS.local), overflowed(TLB_LOGS.global)),
    // 0x0101... is no page's address.
    () => f.fill(TLB.base, 1, TLB.views * TLB.viewBytes),
    () => {
      for (const log of LOGS) {
        eachLogged(f, log, count, entry, () => {
          f.store("i64.store", entry, NO_TAG);
          f.store("i64.store", entry, NO_TAG, TLB.writeDelta);
        });
      }
    },
  );
  for (const log of LOGS) f.store("i32.store", 0, 0, log.count);
  f.fill(LARGE_PAGES.base, 0, LARGE_PAGES.bytes);
  f.fill(FETCH_TLB.base, 0xee, FETCH_TLB.entries * FETCH_TLB.entryBytes);
  f.store("i32.store16", 0, 0, FETCHED_PAGES.local);
  return f;
}

/**
 * () -> FETCH_RIGHTS of jumps that end: forgets what is not global, as a write of CR3 does. Which regions have large pages
 * is not forgotten: it may say yes too often.
 */
function defineFlushNonGlobal(core: CoreModule): void {
  const f = core.define([], "i32", "flushNonGlobal");
  const count = f.local("i32");
  const entry = f.local("i32");
  const index = f.local("i32");
  const sift = () => {
    for (const table of [0, TLB.writeDelta]) {
      f.if(notEqual(load("i32.load", entry, table + 12), 1), () => f.store("i64.store", entry, NO_TAG, table));
    }
  };
  f.if(
    overflowed(TLB_LOGS.local),
    () => eachEntry(f, entry, sift),
    () => eachLogged(f, TLB_LOGS.local, count, entry, sift),
  );
  f.store("i32.store", 0, 0, TLB_LOGS.local.count);
  const fetchedLocal = load("i32.load16_u", 0, FETCHED_PAGES.local);
  f.if(fetchedLocal, () => {
    f.loop((again) => {
      f.if(isZero(load("i32.load8_u", index, FETCH_GLOBAL)), () => {
        f.store("i64.store", shiftLeft(index, 4), -1n, FETCH_TLB.base);
      });
      f.set(index, add(index, 1));
      again(below(index, FETCH_TLB.entries));
    });
  });
  f.set(count, or(load("i32.load8_u", 0, FETCHED_PAGES.local), FETCH_RIGHTS.user));
  f.store("i32.store16", 0, 0, FETCHED_PAGES.local);
  f.return(count);
}

/** (linear i64) -> FETCH_RIGHTS of jumps that end: forgets one page in every view; all where it may be in a large one. */
function defineFlushPage(core: CoreModule, largeSlot: FunctionReference, flushAll: FunctionReference): void {
  const f = core.define(["i64"], "i32", "flushPage");
  const linear = f.parameter(0);
  const entry = f.local("i32");
  const inLarge = (regionShift: bigint) => load("i32.load8_u", call(largeSlot, linear, regionShift), LARGE_PAGES.base);
  f.if(either(inLarge(21n), inLarge(30n)), () => {
    f.call(flushAll);
    f.return(FETCH_RIGHTS.all);
  });
  f.set(entry, entryOffset(linear));
  for (let view = 0; view < TLB.views; view++) {
    for (const table of [0, TLB.writeDelta]) {
      f.store("i64.store", entry, NO_TAG, TLB.base + view * TLB.viewBytes + table);
    }
  }
  f.store("i64.store", entryOffset(linear, FETCH_TLB.entries), -1n, FETCH_TLB.base);
  f.set(entry, fetchedPage(linear));
  const user = load("i32.load8_u", entry, FETCHED_PAGES.base + FETCHED_PAGES.pages);
  f.return(or(load("i32.load8_u", entry, FETCHED_PAGES.base), shiftLeft(user, 1)));
}

export function defineTlb(core: CoreModule): Tlb {
  const largeSlot = defineLargeSlot(core);
  const noteLarge = defineNoteLarge(core, largeSlot);
  const fill = defineFill(core, noteLarge);
  const flushAll = defineFlushAll(core);
  defineFlushNonGlobal(core);
  defineForgetWritable(core);
  defineFlushPage(core, largeSlot, flushAll);
  return { fill, noteLarge, flushAll };
}
