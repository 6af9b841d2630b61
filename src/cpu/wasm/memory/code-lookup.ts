/** Finding decoded code: instruction fetch through its own TLB, the table of traces, the jump cache. */

import type { CodeWriter } from "../../../wasm/code.ts";
import { FETCH_GLOBAL, FETCH_TLB, FETCHED_PAGES, JUMP_CACHE, TRACE_HASH, TRACE_KEY } from "../layout.ts";
import { type CoreModule, PAGE_BYTES, PAGE_MASK } from "./core-module.ts";
import {
  add,
  and,
  below,
  both,
  call,
  equal,
  type Expression,
  type FunctionReference,
  isZero,
  load,
  low32,
  mul,
  notEqual,
  or,
  shiftLeft,
  shiftRight,
  state,
  widen,
  xor,
} from "./emitter.ts";
import { ACCESS } from "./page-walk.ts";
import { entryOffset, fetchedPage, type Tlb } from "./tlb.ts";

const FAULTED = -1n;

/** Byte offset in the jump cache of the slot for an instruction pointer. */
function jumpSlot(rip: Expression): Expression {
  const mixed = xor(low32(rip), low32(shiftRight(rip, 12n)));
  return shiftLeft(and(mixed, JUMP_CACHE.entries - 1), 4);
}

/** Pushes the jump cache's slot (byte offset) of the RIP in a local. */
export function pushJumpSlot(code: CodeWriter, rip: number): void {
  jumpSlot({ type: "i64", push: (out) => out.get(rip) }).push(code);
}

/** (linear i64) -> i64: physical address of code, -1 on a fault. The tag holds the user bit: rights differ by it. */
function defineFetch(core: CoreModule, translate: FunctionReference, tlb: Tlb): FunctionReference {
  const f = core.define(["i64"], "i64", "fetch");
  const linear = f.parameter(0);
  const entry = f.local("i32");
  const tag = f.local("i64");
  const physical = f.local("i64");
  const user = f.local("i32");
  const note = (global: Expression) => {
    f.store("i32.store8", add(fetchedPage(linear), mul(user, FETCHED_PAGES.pages)), 1, FETCHED_PAGES.base);
    f.if(isZero(global), () => f.store("i32.store8", user, 1, FETCHED_PAGES.local));
  };
  f.set(user, equal(state("cpl"), 3));
  f.set(tag, or(and(linear, PAGE_MASK), widen(user)));
  f.set(entry, entryOffset(linear, FETCH_TLB.entries));
  f.if(equal(load("i64.load", entry, FETCH_TLB.base), tag), () => {
    note(load("i32.load8_u", shiftRight(entry, 4), FETCH_GLOBAL));
    const page = load("i64.load", entry, FETCH_TLB.base + 8);
    f.return(or(page, and(linear, BigInt(PAGE_BYTES - 1))));
  });
  f.set(physical, call(translate, linear, ACCESS.fetch));
  f.returnIf(equal(physical, FAULTED), FAULTED);
  f.store("i64.store", entry, tag, FETCH_TLB.base);
  f.store("i64.store", entry, and(physical, PAGE_MASK), FETCH_TLB.base + 8);
  f.store("i32.store8", shiftRight(entry, 4), state("walkGlobal"), FETCH_GLOBAL);
  f.call(tlb.noteLarge, linear);
  note(state("walkGlobal"));
  f.return(physical);
  return f;
}

/** (rip i64) -> i32: finds the trace by physical address and decode context, and enters it into the jump cache. */
function defineLookup(core: CoreModule, fetch: FunctionReference): void {
  const f = core.define(["i64"], "i32", "lookup");
  const rip = f.parameter(0);
  const key = f.local("i64");
  const slot = f.local("i32");
  const tries = f.local("i32");
  const place = f.local("i32");
  const found = f.local("i64");
  f.set(key, call(fetch, rip));
  f.returnIf(equal(key, FAULTED), 0);
  f.set(
    key,
    or(or(key, shiftLeft(widen(state("decodeContext")), BigInt(TRACE_KEY.context))), 1n << BigInt(TRACE_KEY.mark)),
  );
  f.set(slot, shiftRight(mul(low32(key), 0x9e3779b1 | 0), 32 - Math.log2(TRACE_HASH.entries)));
  f.loop((again) => {
    f.set(place, shiftLeft(and(slot, TRACE_HASH.entries - 1), 4));
    f.set(found, load("i64.load", place, TRACE_HASH.base));
    f.if(equal(found, key), () => {
      const record = place;
      f.set(record, load("i32.load", place, TRACE_HASH.base + 8));
      f.set(slot, jumpSlot(rip));
      f.store("i64.store", slot, rip, JUMP_CACHE.base);
      f.store("i32.store", slot, record, JUMP_CACHE.base + 8);
      f.store("i32.store", slot, state("jumpContext"), JUMP_CACHE.base + 12);
      f.return(record);
    });
    f.set(slot, add(slot, 1));
    f.set(tries, add(tries, 1));
    again(both(below(tries, TRACE_HASH.probes), notEqual(found, 0n)));
  });
  f.return(0);
}

export function defineCodeLookup(core: CoreModule, translate: FunctionReference, tlb: Tlb): void {
  defineLookup(core, defineFetch(core, translate, tlb));
}
