/** REP MOVS and REP STOS in bulk: as much as lies in one page on each side and hits the TLB. */

import { TLB } from "../layout.ts";
import { bySize } from "./access.ts";
import { type CoreModule, PAGE_BYTES, PAGE_MASK } from "./core-module.ts";
import {
  add,
  and,
  below,
  both,
  choose,
  divideUnsigned,
  equal,
  type FunctionEmitter,
  isZero,
  load,
  type Local,
  low32,
  mul,
  notEqual,
  state,
  sub,
  widen,
} from "./emitter.ts";
import { entryOffset } from "./tlb.ts";

/** Sets `place` to where `linear` lies in the memory, by a table of the current view; returns 0 elements on a miss. */
function placeOrMiss(f: FunctionEmitter, linear: Local, table: number, entry: Local, place: Local): void {
  f.set(entry, add(state("tlbBase"), entryOffset(linear)));
  f.returnIf(notEqual(load("i64.load", entry, table), and(linear, PAGE_MASK)), 0n);
  f.set(place, add(low32(linear), load("i32.load", entry, table + 8)));
}

/** Lowers `count` to the whole elements that are left in the page of `linear`. */
function limitToPage(f: FunctionEmitter, linear: Local, elementBytes: Local, room: Local, count: Local): void {
  f.set(room, divideUnsigned(sub(PAGE_BYTES, and(low32(linear), PAGE_BYTES - 1)), elementBytes));
  f.set(count, choose(below(room, count), room, count));
}

/** Stores `value` from `to` up to `end`; `to` moves. */
function storeElements(f: FunctionEmitter, elementBytes: Local, to: Local, end: Local, value: Local): void {
  bySize(f, elementBytes, (size) => {
    if (size === 1) return;
    f.loop((again) => {
      f.store(size === 8 ? "i64.store" : `i64.store${size * 8}`, to, value);
      f.set(to, add(to, size));
      again(below(to, end));
    });
  });
}

/**
 * (element bytes i32, count i64, destination i64, source or value i64) -> i64: elements done, upwards; 0 leaves them to
 * single steps, which take misses, faults, devices, code pages and overlap in their order.
 */
function defineBulk(core: CoreModule, name: string, copies: boolean): void {
  const f = core.define(["i32", "i64", "i64", "i64"], "i64", name);
  const [elementBytes, wanted, destination, source] = [f.parameter(0), f.parameter(1), f.parameter(2), f.parameter(3)];
  const entry = f.local("i32");
  const to = f.local("i32");
  const from = f.local("i32");
  const bytes = f.local("i32");
  const count = f.local("i32");
  const room = f.local("i32");
  placeOrMiss(f, destination, TLB.writeDelta, entry, to);
  if (copies) placeOrMiss(f, source, 0, entry, from);
  const page = BigInt(PAGE_BYTES);
  f.set(count, low32(choose(below(wanted, page), wanted, page)));
  limitToPage(f, destination, elementBytes, room, count);
  if (copies) limitToPage(f, source, elementBytes, room, count);
  f.set(bytes, mul(count, elementBytes));
  f.returnIf(isZero(bytes), 0n);
  if (copies) {
    // Where the destination lies a little above the source, single steps repeat a pattern; memory.copy would not.
    f.returnIf(both(below(sub(to, from), bytes), notEqual(to, from)), 0n);
    f.copy(to, from, bytes);
  } else {
    f.if(
      equal(elementBytes, 1),
      () => f.fill(to, low32(source), bytes),
      () => {
        const end = from;
        f.set(end, add(to, bytes));
        storeElements(f, elementBytes, to, end, source);
      },
    );
  }
  f.return(widen(count));
}

export function defineBulkStrings(core: CoreModule): void {
  defineBulk(core, "repMovs", true);
  defineBulk(core, "repStos", false);
}
