/**
 * Loads and stores that the TLB did not serve: they walk, fill the TLB, and reach RAM, decoded code or devices.
 *
 * An access that crosses pages is checked whole before a byte of it moves, so that a fault leaves nothing half done.
 */

import { TLB } from "../layout.ts";
import { type CoreModule, PAGE_BYTES, PAGE_MASK } from "./core-module.ts";
import {
  above,
  add,
  and,
  both,
  call,
  equal,
  hasAny,
  type Expression,
  type FunctionEmitter,
  type FunctionReference,
  isZero,
  load,
  low32,
  or,
  shiftLeft,
  shiftRight,
  state,
  sub,
  widen,
} from "./emitter.ts";
import { ACCESS, isCanonical, PAGING, raiseNonCanonical } from "./page-walk.ts";

const FAULTED = -1n;
const SIZES = [8, 4, 2, 1] as const;

interface AccessParts {
  readonly core: CoreModule;
  readonly translate: FunctionReference;
  readonly fill: FunctionReference;
  readonly checkCrossing: FunctionReference;
  readonly readDevice: FunctionReference;
  readonly writeDevice: FunctionReference;
}

/** Whether `bytes` at `linear` leave its page. */
function crosses(linear: Expression, bytes: Expression): Expression {
  return above(add(and(low32(linear), PAGE_BYTES - 1), bytes), PAGE_BYTES);
}

/** Runs `emit` for the size that `bytes` has at run time: 1, 2, 4 or 8. */
export function bySize(f: FunctionEmitter, bytes: Expression, emit: (size: 1 | 2 | 4 | 8) => void): void {
  for (const size of SIZES) f.if(equal(bytes, size), () => emit(size));
}

/** (linear i64, bytes i32, access i32) -> i32: 1 where both pages allow the access, else 0 and the first one's fault. */
function defineCheckCrossing(core: CoreModule, translate: FunctionReference): FunctionReference {
  const f = core.define(["i64", "i32", "i32"], "i32");
  const [linear, bytes, access] = [f.parameter(0), f.parameter(1), f.parameter(2)];
  const second = f.local("i64");
  f.set(second, and(add(linear, sub(widen(bytes), 1n)), PAGE_MASK));
  // The address is checked whole before the first page is walked.
  f.if(both(equal(state("pagingMode"), PAGING.fourLevel), isZero(isCanonical(second))), () => {
    raiseNonCanonical(f, second);
    f.return(0);
  });
  // Outside 64-bit mode an operand that runs over the end of 4 GiB is beyond every segment's limit [SDM 3 §5.3].
  const wraps = hasAny(shiftRight(sub(add(linear, widen(bytes)), 1n), 32n), -1n);
  const own = both(isZero(and(access, ACCESS.system)), isZero(shiftRight(state("ripMask"), 32n)));
  f.if(both(own, wraps), () => {
    raiseNonCanonical(f, linear);
    f.return(0);
  });
  f.returnIf(equal(call(translate, linear, access), FAULTED), 0);
  f.returnIf(equal(call(translate, second, access), FAULTED), 0);
  f.return(1);
  return f;
}

/** (physical i64, bytes i32) -> i64. Devices see at most 4 bytes at once: 8 are two accesses, the lower first. */
function defineReadDevice(core: CoreModule): FunctionReference {
  const f = core.define(["i64", "i32"], "i64");
  const [physical, bytes] = [f.parameter(0), f.parameter(1)];
  const read = (at: Expression, size: Expression | number) => widen(call(core.mmioRead, at, size));
  f.if(equal(bytes, 8), () => f.return(or(read(physical, 4), shiftLeft(read(add(physical, 4n), 4), 32n))));
  f.return(read(physical, bytes));
  return f;
}

/** (physical i64, bytes i32, value i64). */
function defineWriteDevice(core: CoreModule): FunctionReference {
  const f = core.define(["i64", "i32", "i64"]);
  const [physical, bytes, value] = [f.parameter(0), f.parameter(1), f.parameter(2)];
  f.if(equal(bytes, 8), () => {
    f.call(core.mmioWrite, physical, 4, low32(value));
    f.call(core.mmioWrite, add(physical, 4n), 4, low32(shiftRight(value, 32n)));
    f.return();
  });
  f.call(core.mmioWrite, physical, bytes, low32(value));
  return f;
}

/** Implicit supervisor accesses have the rights of the first view at every CPL: the supervisor's, SMAP not lifted. */
function viewOf(access: number): Expression | number {
  return (access & ACCESS.system) === 0 ? state("tlbBase") : TLB.base;
}

/** Tells of an access by an instruction where data breakpoints are set; the system's own are not watched. */
function watch(f: FunctionEmitter, core: CoreModule, linear: Expression, bytes: Expression, access: number): void {
  if ((access & ACCESS.system) !== 0) return;
  f.if(state("watching"), () => f.call(core.watched, linear, bytes, access));
}

/** (linear i64, bytes i32) -> i64, zero-extended; 0 where it faults. */
function defineLoad(parts: AccessParts, name: string, access: number): void {
  const { core, translate, fill, checkCrossing, readDevice } = parts;
  const f = core.define(["i64", "i32"], "i64", name);
  const [linear, bytes] = [f.parameter(0), f.parameter(1)];
  const physical = f.local("i64");
  const place = f.local("i32");
  const done = f.local("i64");
  const value = f.local("i64");
  f.if(crosses(linear, bytes), () => {
    f.returnIf(isZero(call(checkCrossing, linear, bytes, access)), 0n);
    f.loop((again) => {
      f.set(value, or(value, shiftLeft(call(f, add(linear, done), 1), shiftLeft(done, 3n))));
      f.set(done, add(done, 1n));
      again(above(bytes, low32(done)));
    });
    f.return(value);
  });
  f.set(physical, call(translate, linear, access));
  f.returnIf(equal(physical, FAULTED), 0n);
  // What is loaded to be written is watched as a store.
  watch(f, core, linear, bytes, access & ~ACCESS.write);
  f.set(place, call(core.place, physical));
  f.if(place, () => {
    f.call(fill, linear, place, viewOf(access));
    bySize(f, bytes, (size) => f.return(load(size === 8 ? "i64.load" : `i64.load${size * 8}_u`, place)));
  });
  f.return(call(readDevice, physical, bytes));
}

/** (linear i64, bytes i32, value i64). */
function defineStore(parts: AccessParts, name: string, access: number): void {
  const { core, translate, fill, checkCrossing, writeDevice } = parts;
  const f = core.define(["i64", "i32", "i64"], undefined, name);
  const [linear, bytes, value] = [f.parameter(0), f.parameter(1), f.parameter(2)];
  const physical = f.local("i64");
  const place = f.local("i32");
  const done = f.local("i64");
  f.if(crosses(linear, bytes), () => {
    f.returnIf(isZero(call(checkCrossing, linear, bytes, access)));
    f.loop((again) => {
      f.call(f, add(linear, done), 1, shiftRight(value, shiftLeft(done, 3n)));
      f.set(done, add(done, 1n));
      again(above(bytes, low32(done)));
    });
    f.return();
  });
  f.set(physical, call(translate, linear, access));
  f.returnIf(equal(physical, FAULTED));
  watch(f, core, linear, bytes, access);
  f.set(place, call(core.place, physical));
  f.if(place, () => {
    // Code is forgotten first: a page without code left may be entered for writing.
    f.if(core.holdsCode(place), () => f.call(core.codeWrite, place, bytes));
    f.call(fill, linear, place, viewOf(access));
    bySize(f, bytes, (size) => {
      f.store(size === 8 ? "i64.store" : `i64.store${size * 8}`, place, value);
      f.return();
    });
    f.return();
  });
  f.call(writeDevice, physical, bytes, value);
}

/** (linear i64, bytes i32): raises what such an access there would raise. */
function defineProbe({ core, translate, checkCrossing }: AccessParts, name: string, access: number): void {
  const f = core.define(["i64", "i32"], undefined, name);
  const [linear, bytes] = [f.parameter(0), f.parameter(1)];
  f.if(crosses(linear, bytes), () => {
    f.call(checkCrossing, linear, bytes, access);
    f.return();
  });
  f.call(translate, linear, access);
}

export function defineAccesses(core: CoreModule, translate: FunctionReference, fill: FunctionReference): void {
  const parts: AccessParts = {
    core,
    translate,
    fill,
    checkCrossing: defineCheckCrossing(core, translate),
    readDevice: defineReadDevice(core),
    writeDevice: defineWriteDevice(core),
  };
  defineLoad(parts, "load", 0);
  defineLoad(parts, "loadSystem", ACCESS.system);
  defineLoad(parts, "loadForWrite", ACCESS.write);
  defineStore(parts, "store", ACCESS.write);
  defineStore(parts, "storeSystem", ACCESS.write | ACCESS.system);
  defineProbe(parts, "probeWrite", ACCESS.write);
  defineProbe(parts, "probeRead", 0);
}
