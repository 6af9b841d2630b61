/** The generated walker against the reference one, over random tables, controls and accesses [SDM 3 §4]. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  CoreFixture,
  CR0_WP,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  EFER_NXE,
  LIFTED_VIEW,
  SUPERVISOR_VIEW,
  USER_VIEW,
} from "./core-fixture.ts";
import { ACCESS } from "./page-walk.ts";
import { type PhysicalMemory, referenceWalk, type WalkRequest, type WalkResult } from "./reference-walk.ts";

/** Pages that tables may lie in; few, so that levels share tables and entries. */
const POOL = [0x10000n, 0x11000n, 0x12000n, 0x13000n];
const RUNS = 6000;
const VIEWS = [SUPERVISOR_VIEW, LIFTED_VIEW, USER_VIEW] as const;

const fixture = new CoreFixture();
const { core } = fixture;

/** A copy of the pool for the reference. The rest of RAM is read in the fixture; no entry is present there. */
class PoolCopy implements PhysicalMemory {
  readonly bytes: DataView;
  constructor() {
    this.bytes = new DataView(poolBytes().slice().buffer);
  }
  read(address: bigint, bytes: 4 | 8): bigint {
    const at = Number(address - (POOL[0] ?? 0n));
    if (at >= 0 && at < this.bytes.byteLength) {
      return bytes === 8 ? this.bytes.getBigUint64(at, true) : BigInt(this.bytes.getUint32(at, true));
    }
    const inRam = fixture.memory.offsetOf(Number(address), bytes) >= 0;
    return inRam ? fixture.ram(Number(address), bytes) : (1n << BigInt(bytes * 8)) - 1n;
  }
  write(address: bigint, bytes: 4 | 8, value: bigint): void {
    const at = Number(address - (POOL[0] ?? 0n));
    if (at < 0 || at >= this.bytes.byteLength) return;
    if (bytes === 8) this.bytes.setBigUint64(at, value, true);
    else this.bytes.setUint32(at, Number(value), true);
  }
}
function poolBytes(): Uint8Array {
  const slice = fixture.memory.slice(Number(POOL[0]), POOL.length * 0x1000);
  if (slice === undefined) throw new Error("the pool lies in RAM");
  return slice;
}

/** True in most cases, so that walks get far. */
const mostly = fc.integer({ min: 0, max: 15 }).map((n) => n !== 0);
const seldom = mostly.map((value) => !value);
const often = fc.integer({ min: 0, max: 3 }).map((n) => n !== 0);

/** One entry: where it points, its flags, and now and then a bit that may be reserved. */
const ENTRY = fc
  .record({
    target: fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom(...POOL) },
      { weight: 2, arbitrary: fc.constantFrom(0x20_0000n, 0x40_0000n, 0x4000_0000n, 0x30_1000n) },
      { weight: 1, arbitrary: fc.constantFrom(0xa0000n, 0xfec0_0000n, 0xff_ffff_f000n) },
    ),
    present: mostly,
    writable: often,
    user: often,
    accessed: fc.boolean(),
    dirty: fc.boolean(),
    large: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
    noExecute: fc.integer({ min: 0, max: 7 }).map((n) => n === 0),
    stray: fc.oneof(
      { weight: 12, arbitrary: fc.constant(0n) },
      { weight: 1, arbitrary: fc.integer({ min: 3, max: 62 }).map((n) => 1n << BigInt(n)) },
    ),
  })
  .map((e) => {
    const flags: [boolean, bigint][] = [
      [e.present, 0n],
      [e.writable, 1n],
      [e.user, 2n],
      [e.accessed, 5n],
      [e.dirty, 6n],
      [e.large, 7n],
      [e.noExecute, 63n],
    ];
    return flags.reduce((entry, [on, bit]) => (on ? entry | (1n << bit) : entry), e.target | e.stray);
  });

/** PDPTEs of PAE, which have fewer flags: otherwise nearly all of them were reserved. */
const PDPTE = fc
  .tuple(mostly, fc.constantFrom(...POOL), seldom, fc.integer({ min: 1, max: 63 }))
  .map(([present, target, strays, stray]) => target | (present ? 1n : 0n) | (strays ? 1n << BigInt(stray) : 0n));

const LINEAR = fc.oneof(
  { weight: 6, arbitrary: fc.bigInt({ min: 0n, max: 0xffff_ffffn }) },
  { weight: 6, arbitrary: fc.bigInt({ min: -(1n << 47n), max: (1n << 47n) - 1n }) },
  { weight: 1, arbitrary: fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }) },
);
const MODE = fc.constantFrom("none", "twoLevel", "pae", "fourLevel", "fourLevel", "pae", "twoLevel" as const);

const ACCESS_KIND = fc.record({
  kind: fc.constantFrom("read", "write", "fetch"),
  implicit: fc.boolean(),
  view: fc.constantFrom(...VIEWS),
});
const CONTROLS = fc.record({ wp: fc.boolean(), pse: fc.boolean(), smep: fc.boolean(), smap: fc.boolean(), nxe: often });

type Scenario = typeof SCENARIO extends fc.Arbitrary<infer T> ? T : never;
const SCENARIO = fc.record({
  mode: MODE,
  linear: LINEAR,
  cr3: fc.constantFrom(...POOL),
  cr3Noise: fc.bigInt({ min: 0n, max: 0xfffn }),
  entries: fc.array(ENTRY, { minLength: 4, maxLength: 4 }),
  pdpte: PDPTE,
  controls: CONTROLS,
  accesses: fc.array(ACCESS_KIND, { minLength: 1, maxLength: 4 }),
});

/** Writes one entry a level along the path that the linear address takes. */
function build({ mode, linear, cr3, entries, pdpte }: Scenario, top: bigint): void {
  const shifts = { none: [], twoLevel: [22n, 12n], pae: [30n, 21n, 12n], fourLevel: [39n, 30n, 21n, 12n] }[mode];
  const wide = mode === "fourLevel" ? BigInt.asUintN(64, linear) : BigInt.asUintN(32, linear);
  let table = mode === "pae" ? top : cr3;
  for (const [i, shift] of shifts.entries()) {
    const entry = mode === "pae" && i === 0 ? pdpte : (entries[i] ?? 0n);
    const bytes = mode === "twoLevel" ? 4n : 8n;
    const index = Number((wide >> shift) & (mode === "twoLevel" ? 0x3ffn : 0x1ffn));
    const at = table + BigInt(index) * bytes;
    // Elsewhere RAM stays zero: nothing is present there.
    if (at < (POOL[0] ?? 0n) || at >= (POOL[0] ?? 0n) + BigInt(POOL.length * 0x1000)) return;
    if (bytes === 4n) fixture.put32(Number(table), index, BigInt.asUintN(32, entry));
    else fixture.put(Number(table), index, entry);
    table = entry & 0xff_ffff_f000n;
  }
}

function request(scenario: Scenario, cr3: bigint, access: Scenario["accesses"][number]): WalkRequest {
  return {
    ...scenario.controls,
    mode: scenario.mode,
    pdptes: (["pdpte0", "pdpte1", "pdpte2", "pdpte3"] as const).map((name) => fixture.get(name)),
    cr3,
    linear: scenario.linear,
    write: access.kind === "write",
    fetch: access.kind === "fetch",
    implicit: access.implicit && access.kind !== "fetch",
    cpl: access.view === USER_VIEW ? 3 : 0,
    ac: access.view === LIFTED_VIEW,
  };
}

function generatedWalk(wanted: WalkRequest): WalkResult {
  const access =
    (wanted.write ? ACCESS.write : 0) | (wanted.fetch ? ACCESS.fetch : 0) | (wanted.implicit ? ACCESS.system : 0);
  const physical = core.translate(BigInt.asIntN(64, wanted.linear), access);
  const fault = fixture.takeFault();
  if (fault === undefined) return { physical };
  assert.equal(physical, -1n);
  return fault.vector === 14 ? { vector: 14, error: fault.error, cr2: fault.cr2 } : { vector: 13 };
}

/** Sets the fixture to a scenario; the value of CR3. */
function enter(scenario: Scenario): bigint {
  const { mode, controls } = scenario;
  poolBytes().fill(0);
  // PAE's PDPTEs may lie anywhere on a boundary of 32 bytes.
  const cr3 = scenario.cr3 | (mode === "pae" ? scenario.cr3Noise & 0xfffn : scenario.cr3Noise & 0x18n);
  build(scenario, mode === "pae" ? cr3 & ~0x1fn : cr3);
  fixture.set("cr0", controls.wp ? CR0_WP : 0n);
  fixture.set("cr4", (controls.pse ? CR4_PSE : 0n) | (controls.smep ? CR4_SMEP : 0n) | (controls.smap ? CR4_SMAP : 0n));
  fixture.set("efer", controls.nxe ? EFER_NXE : 0n);
  fixture.paging(mode, cr3);
  return cr3;
}

describe("page walker", () => {
  test("gives the reference's address or fault, and leaves the same A and D flags", () => {
    const seen = { address: 0, fault: 0, reserved: 0 };
    fc.assert(
      fc.property(SCENARIO, (scenario) => {
        const cr3 = enter(scenario);
        const copy = new PoolCopy();
        for (const access of scenario.accesses) {
          fixture.useView(access.view);
          const wanted = request(scenario, cr3, access);
          const expected = referenceWalk(wanted, copy);
          assert.deepEqual(generatedWalk(wanted), expected);
          assert.deepEqual(poolBytes().slice(), new Uint8Array(copy.bytes.buffer));
          if ("physical" in expected) seen.address++;
          else if (expected.vector === 14 && (expected.error & 8) !== 0) seen.reserved++;
          else seen.fault++;
        }
      }),
      { numRuns: RUNS },
    );
    // The property says nothing if the tables hardly ever translate, or always do.
    for (const [kind, count] of Object.entries(seen)) assert.ok(count > RUNS / 20, `${kind}: only ${count} walks`);
  });

  test("what the TLB holds afterwards, the reference allows without a change of flags", () => {
    let held = 0;
    fc.assert(
      fc.property(SCENARIO, (scenario) => {
        const cr3 = enter(scenario);
        for (const { kind, implicit, view } of scenario.accesses) {
          fixture.useView(view);
          if (kind === "write") core[implicit ? "storeSystem" : "store"](pageOf(scenario.linear), 4, 0n);
          else core[implicit ? "loadSystem" : "load"](pageOf(scenario.linear), 4);
          fixture.takeFault();
        }
        const linear = pageOf(scenario.linear);
        for (const view of VIEWS) {
          for (const table of ["read", "write"] as const) {
            const place = fixture.tlb(linear, table, view);
            if (place === undefined) continue;
            held++;
            // A store may have changed the very tables that it went through: no flush, so no promise.
            if (place >= Number(POOL[0]) && place < Number(POOL[0]) + POOL.length * 0x1000) return;
            const copy = new PoolCopy();
            const before = new Uint8Array(copy.bytes.buffer.slice(0));
            const access = { kind: table, implicit: false, view } as const;
            const expected = referenceWalk({ ...request(scenario, cr3, access), linear }, copy);
            assert.deepEqual(expected, { physical: BigInt(place) });
            assert.deepEqual(new Uint8Array(copy.bytes.buffer), before);
          }
        }
      }),
      { numRuns: RUNS },
    );
    assert.ok(held > RUNS / 20, `only ${held} entries`);
  });
});

function pageOf(linear: bigint): bigint {
  return linear & ~0xfffn;
}
