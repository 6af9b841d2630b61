/**
 * The page walker: linear to guest-physical addresses, with all rights, reserved bits and A/D flags, in 4-level, PAE and
 * 32-bit ("two-level") paging and with none. [SDM 3 §4.2-4.8]
 *
 * PAE's four PDPTEs are those loaded with CR3 [system/page-directory.ts]. Deviations, none of which a kernel relies on: a
 * paging structure outside RAM reads as all ones, like any unclaimed address; the flags are set by plain stores: one vCPU
 * only.
 */

import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { STATE_BASE } from "../layout.ts";
import type { CoreModule } from "./core-module.ts";
import {
  add,
  and,
  both,
  call,
  choose,
  either,
  equal,
  type Expression,
  type FunctionEmitter,
  type FunctionReference,
  hasAny,
  isZero,
  load,
  low32,
  mul,
  notEqual,
  or,
  shiftLeft,
  shiftRight,
  shiftRightSigned,
  state,
  sub,
  xor,
} from "./emitter.ts";

/** Access bits of `translate`. A plain read is 0; `system` is an implicit supervisor access [SDM 3 §4.6]. */
export const ACCESS = { write: 1, fetch: 2, system: 4 } as const;

/** A fault code that asks the run loop to tell #SS from #GP by the instruction (non-canonical address). */
export const NON_CANONICAL_ERROR = 0x10000;

/** Values of `pagingMode` in the state. */
export const PAGING = { none: 0, twoLevel: 1, pae: 2, fourLevel: 3 } as const;

const PTE = {
  present: 1n,
  writable: 2n,
  user: 4n,
  accessed: 0x20n,
  dirty: 0x40n,
  large: 0x80n,
  global: 0x100n,
} as const;
const NX = 1n << 63n;
/** Error code of #PF [SDM 3 §4.7]. */
const ERROR = { present: 1, write: 2, user: 4, reserved: 8, fetch: 16 } as const;

/** MAXPHYADDR is 40 [SDM 3 §4.1.4]. */
const ADDRESS_MASK = 0x00ff_ffff_f000n;
/** Bits 51:40 of 4-level entries; above them lie ignored bits. */
const FOUR_LEVEL_RESERVED = 0x000f_ff00_0000_0000n;
/** Bits 62:40 of PAE's entries [SDM 3 tables 4-9 to 4-11]. */
const PAE_RESERVED = 0x7fff_ff00_0000_0000n;
/** In PAE's PDPTEs besides: bits 63, 8:5 and 2:1 [SDM 3 table 4-8]. */
const PDPTE_RESERVED = NX | 0x1e6n;

const CR0_WP = 1n << 16n;
const CR4_PSE = 1n << 4n;
const CR4_PGE = 1n << 7n;
const CR4_SMEP = 1n << 20n;
const CR4_SMAP = 1n << 21n;
const EFER_NXE = 1n << 11n;
const EFLAGS_AC = 1 << 18;

/** Leaves an exception in the state. */
function raise(f: FunctionEmitter, vector: number, error: Expression | number): void {
  f.setState("fault", vector + 1);
  f.setState("faultError", error);
}
/** Leaves in the state that an address is not canonical: #SS or #GP. */
export function raiseNonCanonical(f: FunctionEmitter, linear: Expression): void {
  f.setState("faultAddress", linear);
  raise(f, EXCEPTION.GP, NON_CANONICAL_ERROR);
}

/** Whether bits 63:47 of an address are alike [SDM 1 §3.3.7.1]. */
export function isCanonical(linear: Expression): Expression {
  return equal(shiftRightSigned(shiftLeft(linear, 16n), 16n), linear);
}

/** (linear i64, P and RSVD bits i32, access i32, user i32): leaves #PF in the state. [SDM 3 §4.7] */
function definePageFault(core: CoreModule): FunctionReference {
  const f = core.define(["i64", "i32", "i32", "i32"]);
  const [linear, bits, access, user] = [f.parameter(0), f.parameter(1), f.parameter(2), f.parameter(3)];
  f.setState("cr2", linear);
  // I/D is reported only where SMEP or NX makes fetches differ from reads.
  const tellsFetch = either(
    hasAny(state("cr4"), CR4_SMEP),
    both(hasAny(state("efer"), EFER_NXE), notEqual(state("pagingMode"), PAGING.twoLevel)),
  );
  const error = [
    choose(hasAny(access, ACCESS.write), ERROR.write, 0),
    choose(user, ERROR.user, 0),
    choose(both(hasAny(access, ACCESS.fetch), tellsFetch), ERROR.fetch, 0),
  ].reduce((sum, bit) => or(sum, bit), bits);
  raise(f, EXCEPTION.PF, error);
  return f;
}

/** (place i32, entry i64): writes the low half of a table entry, which holds A and D. Its neighbour stays untouched. */
function defineUpdateEntry(core: CoreModule): FunctionReference {
  const f = core.define(["i32", "i64"]);
  const [place, entry] = [f.parameter(0), f.parameter(1)];
  f.if(core.holdsCode(place), () => f.call(core.codeWrite, place, 4));
  f.store("i64.store32", place, entry);
  return f;
}

/** (linear i64, access i32) -> i64: the guest-physical address, or -1 with a fault in the state. */
export function defineTranslate(core: CoreModule, gigabytePages = true): FunctionReference {
  const pageFault = definePageFault(core);
  const updateEntry = defineUpdateEntry(core);
  const f = core.define(["i64", "i32"], "i64", "translate");
  const linear = f.parameter(0);
  const access = f.parameter(1);
  const mode = f.local("i32");
  const user = f.local("i32");
  /** Lowest linear bit that the present level's index takes, and how many it takes. */
  const shift = f.local("i64");
  const indexBits = f.local("i64");
  const entryBytes = f.local("i64");
  const table = f.local("i64");
  const place = f.local("i32");
  const entry = f.local("i64");
  /** Reserved bits: of every entry, and of the top level's besides. */
  const reserved = f.local("i64");
  const topReserved = f.local("i64");
  /** Whether the entry is one of PAE's PDPTEs, which have no R/W, U/S and A [SDM 3 §4.4.1]. */
  const pdpte = f.local("i32");
  /** R/W and U/S ANDed over the levels; NX ORed. */
  const rights = f.local("i64");
  const noExecute = f.local("i64");
  const canWrite = f.local("i32");
  const flags = f.local("i64");
  /** Address bits that leave the processor: not A20 while its gate is shut. */
  const wired = f.local("i64");

  const failWith = (bits: number) => {
    f.call(pageFault, linear, bits, access, user);
    f.return(-1n);
  };
  const writes = hasAny(access, ACCESS.write);
  const fetches = hasAny(access, ACCESS.fetch);
  const isTwoLevel = equal(mode, PAGING.twoLevel);

  f.set(wired, xor(state("heldAddressBits"), -1n));
  f.set(mode, state("pagingMode"));
  f.if(isZero(mode), () => {
    f.setState("walkShift", 12);
    f.setState("walkWritable", 1);
    f.setState("walkGlobal", 0);
    f.return(and(and(linear, 0xffff_ffffn), wired));
  });
  f.set(user, both(equal(state("cpl"), 3), isZero(and(access, ACCESS.system))));

  f.set(indexBits, 9n);
  f.set(entryBytes, 8n);
  f.if(
    equal(mode, PAGING.fourLevel),
    () => {
      f.if(isZero(isCanonical(linear)), () => {
        raiseNonCanonical(f, linear);
        f.return(-1n);
      });
      f.set(shift, 39n);
      f.set(table, and(state("cr3"), ADDRESS_MASK));
      f.set(reserved, FOUR_LEVEL_RESERVED);
      f.set(topReserved, PTE.large);
    },
    () => {
      f.set(linear, and(linear, 0xffff_ffffn));
      f.if(
        isTwoLevel,
        () => {
          f.set(shift, 22n);
          f.set(indexBits, 10n);
          f.set(entryBytes, 4n);
          f.set(table, and(state("cr3"), 0xffff_f000n));
        },
        () => {
          f.set(shift, 30n);
          f.set(reserved, PAE_RESERVED);
          f.set(topReserved, PDPTE_RESERVED);
          f.set(pdpte, 1);
        },
      );
    },
  );
  // NX is a reserved bit until EFER.NXE gives it a meaning.
  f.if(both(isZero(isTwoLevel), isZero(hasAny(state("efer"), EFER_NXE))), () => f.set(reserved, or(reserved, NX)));
  f.set(rights, PTE.writable | PTE.user);

  f.loop((again) => {
    const index = and(shiftRight(linear, shift), sub(shiftLeft(1n, indexBits), 1n));
    f.if(
      pdpte,
      () => f.set(place, low32(add(mul(index, entryBytes), BigInt(STATE_BASE + STATE.pdpte0.offset)))),
      () => f.set(place, call(core.place, and(add(table, mul(index, entryBytes)), wired))),
    );
    f.if(
      isTwoLevel,
      () => {
        f.set(entry, 0xffff_ffffn);
        f.if(place, () => f.set(entry, load("i64.load32_u", place)));
      },
      () => {
        f.set(entry, -1n);
        f.if(place, () => f.set(entry, load("i64.load", place)));
      },
    );
    f.if(isZero(and(entry, PTE.present)), () => failWith(0));
    f.if(hasAny(entry, or(reserved, topReserved)), () => failWith(ERROR.present | ERROR.reserved));
    if (!gigabytePages) {
      // Then PS is reserved at this level too [SDM 3 table 4-16]; PAE's entries there have it reserved anyway.
      const large = both(equal(shift, 30n), hasAny(entry, PTE.large));
      f.if(large, () => failWith(ERROR.present | ERROR.reserved));
    }
    f.if(isZero(pdpte), () => {
      f.set(rights, and(rights, entry));
      f.set(noExecute, or(noExecute, entry));
    });

    // PS makes a leaf of any entry above the last level; in 32-bit paging only under CR4.PSE.
    const largeAllowed = either(isZero(isTwoLevel), hasAny(state("cr4"), CR4_PSE));
    const isLeaf = either(equal(shift, 12n), both(hasAny(entry, PTE.large), largeAllowed));
    f.if(isZero(isLeaf), () => {
      f.if(both(isZero(and(entry, PTE.accessed)), isZero(pdpte)), () => {
        f.call(updateEntry, place, or(entry, PTE.accessed));
      });
      f.set(table, and(entry, ADDRESS_MASK));
      f.set(shift, sub(shift, indexBits));
      f.set(topReserved, 0n);
      f.set(pdpte, 0);
      again();
    });
  });

  // Bits between a large page's PAT flag and its address are reserved; PSE-36 is not offered. [SDM 3 tables 4-4, 4-15]
  f.if(notEqual(shift, 12n), () => {
    f.if(hasAny(entry, sub(shiftLeft(1n, shift), 1n << 13n)), () => failWith(ERROR.present | ERROR.reserved));
  });

  // Rights [SDM 3 §4.6.1]. In 32-bit paging bit 63 of `noExecute` is always 0.
  f.set(canWrite, either(hasAny(rights, PTE.writable), both(isZero(user), isZero(and(state("cr0"), CR0_WP)))));
  f.if(both(writes, isZero(canWrite)), () => failWith(ERROR.present));
  f.if(both(fetches, low32(shiftRight(noExecute, 63n))), () => failWith(ERROR.present));
  f.if(
    user,
    () => f.if(isZero(and(rights, PTE.user)), () => failWith(ERROR.present)),
    () =>
      f.if(hasAny(rights, PTE.user), () => {
        const smep = both(hasAny(state("cr4"), CR4_SMEP), fetches);
        // AC lifts SMAP for what an instruction itself reads or writes, never for implicit accesses.
        const lifted = both(hasAny(state("flagsSystem"), EFLAGS_AC), isZero(and(access, ACCESS.system)));
        const smap = both(hasAny(state("cr4"), CR4_SMAP), isZero(fetches), isZero(lifted));
        f.if(either(smep, smap), () => failWith(ERROR.present));
      }),
  );

  // Accessed, and dirty for a write [SDM 3 §4.8].
  f.set(flags, choose(writes, PTE.accessed | PTE.dirty, PTE.accessed));
  f.if(notEqual(and(entry, flags), flags), () => {
    f.set(entry, or(entry, flags));
    f.call(updateEntry, place, entry);
  });

  // What the TLB may remember: the page's size, and whether it may be written without another walk.
  f.setState("walkShift", low32(shift));
  f.setState("walkWritable", both(canWrite, hasAny(entry, PTE.dirty)));
  f.setState("walkGlobal", both(hasAny(entry, PTE.global), hasAny(state("cr4"), CR4_PGE)));
  const offsetMask = xor(shiftLeft(-1n, shift), -1n);
  f.return(and(or(and(and(entry, ADDRESS_MASK), shiftLeft(-1n, shift)), and(linear, offsetMask)), wired));
  return f;
}
