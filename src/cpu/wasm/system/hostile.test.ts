/** Random tables, registers and arguments: helpers raise guest faults and nothing else, and a fault changes nothing. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATE } from "../../../isa/state.ts";
import { GuestFault } from "../engine-host.ts";
import { CR0, CS, SS, TR } from "../state-view.ts";
import { type Call, FakeHost } from "./fake-host.ts";
import { SystemUnit } from "./system-unit.ts";

const CASES = 4000;
const TABLES = 0x1000;
const TABLE_WORDS = 512;

/** Marsaglia's xorshift; unsigned 32 bits. */
function generator(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

const MODES = ["real", "protected", "virtual", "compatibility", "long"] as const;

/** Attributes that get past the first check often: code, data, gates, TSS, by all privileges. */
const TYPES = [
  0x9a, 0x92, 0xfa, 0xf2, 0x9e, 0xfe, 0x96, 0x8c, 0xec, 0x8e, 0xee, 0x8f, 0x86, 0x85, 0x89, 0x8b, 0x82, 0x12,
];

test("hostile tables and registers raise guest faults alone, and faults leave registers as they were", () => {
  const host = new FakeHost();
  const unit = new SystemUnit(host, host.view);
  const { view } = host;
  const helpers = unit.helpers as unknown as Record<string, Call>;
  const random = generator(0x1505a);
  const below = (n: number) => random() % n;
  const pick = <T>(values: readonly T[]): T => values[below(values.length)] as T;
  const long = () => (BigInt(random()) << 32n) | BigInt(random());
  const address = () =>
    pick([BigInt(below(0x8000)) & ~7n, BigInt(random()), long(), BigInt(host.faultFrom - below(64))]);

  const setUp = () => {
    unit.reset();
    const mode = pick(MODES);
    const ring = mode === "real" ? 0 : mode === "virtual" ? 3 : pick([0, 3]);
    for (let i = 0; i < TABLE_WORDS; i++) {
      const high = (random() & 0x00f0_00ff) | (pick(TYPES) << 8) | (pick([0x20, 0x40, 0, 0xc0]) << 16);
      host.write64(TABLES + i * 8, (BigInt(high >>> 0) << 32n) | BigInt(random()));
    }
    view.setLow("cr0", mode === "real" ? CR0.ET : CR0.PE | CR0.ET);
    view.setLow("efer", mode === "long" || mode === "compatibility" ? 0xd01 : pick([0, 1]));
    for (const table of ["gdt", "idt"] as const) {
      view.setLong(`${table}rBase`, BigInt(TABLES + below(64) * 8));
      view.setLow(`${table}rLimit`, pick([0xfff, below(0x1000), 0]));
    }
    const code = mode === "long" ? 0xa09b : pick([0xc09b, 0x009b]);
    view.setSegment(CS, (below(64) << 3) | ring, code | (ring << 5), pick([0xffff_ffff, below(0x10000)]), 0, 0);
    view.setSegment(
      SS,
      (below(64) << 3) | ring,
      pick([0xc093, 0x0093, 0x97]) | (ring << 5),
      pick([0xffff_ffff, below(0x10000)]),
      0,
      0,
    );
    view.setSegment(
      TR,
      0x40,
      pick([0x8b, 0x83]),
      pick([0x67, below(0x100), 0xfff]),
      pick([TABLES, 0x2000, host.faultFrom - 32]),
      0,
    );
    view.setSegment(6, 0x50, 0x82, below(0x1000), TABLES, 0);
    view.cpl = ring;
    for (let i = 0; i < 16; i++) view.setGpr(i, address());
    view.setLong("rip", long());
    view.rflags = (random() & 0x3f_7fd5 & ~(1 << 17)) | 2 | (mode === "virtual" ? 1 << 17 : 0);
    for (const name of ["star", "lstar", "sysenterCs", "sysenterEip", "sysenterEsp", "fmask"] as const)
      view.setLong(name, long());
    view.setLow("cr4", random() & 0x30_07ff);
    view.setLow("xcr0", pick([1, 3]));
  };

  const bits = () => pick([16, 32, 64]);
  const selector = () => below(0x10000) & pick([0xffff, 0x1ff]);
  const calls: Record<string, () => (number | bigint)[]> = {
    loadSegment: () => [pick([0, 2, 3, 4, 5]), selector()],
    loadLocalDescriptorTable: () => [selector()],
    loadTaskRegister: () => [selector()],
    verifyRead: () => [selector()],
    verifyWrite: () => [selector()],
    accessRights: () => [selector()],
    segmentLimit: () => [selector()],
    farJump: () => [selector(), address(), bits()],
    farCall: () => [selector(), address(), bits()],
    farReturn: () => [bits(), below(0x10000)],
    interruptReturn: () => [bits()],
    softwareInterrupt: () => [below(256), below(3)],
    syscall: () => [],
    sysret: () => [pick([32, 64])],
    sysenter: () => [],
    sysexit: () => [pick([32, 64])],
    writeControlRegister: () => [below(16), pick([long(), BigInt(random()), 1n << BigInt(below(64))])],
    writeDebugRegister: () => [below(8), long()],
    readMsr: () => [random() & pick([0xffff_ffff, 0xfff, 0xc000_01ff])],
    writeMsr: () => [
      random() & pick([0xffff_ffff, 0xfff, 0xc000_01ff]),
      pick([long(), BigInt(random()), BigInt.asIntN(64, long())]),
    ],
    cpuid: () => [random() & pick([0x1f, 0x8000_000f, -1]), below(4)],
    invalidatePcid: () => [pick([BigInt(below(5)), long()]), long(), long()],
    checkPort: () => [below(0x10000), pick([1, 2, 4])],
    fxsave: () => [address(), below(2)],
    fxrstor: () => [address(), below(2)],
    xsave: () => [address() & ~63n, long(), below(2), below(4)],
    xrstor: () => [address() & ~63n, long(), below(2), 0],
    enterNested: () => [1 + below(31), bits(), bits()],
  };
  const names = Object.keys(calls);

  /** The state but for what faults may change: CR2, DR6, the pending fault. */
  const snapshot = () => {
    const copy = view.bytes.slice();
    for (const { offset } of [STATE.cr2, STATE.dr6, STATE.fault, STATE.faultError]) copy.fill(0, offset, offset + 8);
    return copy;
  };

  let faults = 0;
  let done = 0;
  for (let i = 0; i < CASES; i++) {
    setUp();
    const name = pick(names);
    const args = calls[name]?.() ?? [];
    const before = snapshot();
    try {
      helpers[name]?.(...args);
      done++;
    } catch (error) {
      assert.ok(
        error instanceof GuestFault,
        `case ${i}: ${name}(${args.join()}): ${error instanceof Error ? error.stack : String(error)}`,
      );
      faults++;
      assert.ok(
        Buffer.compare(before, snapshot()) === 0,
        `case ${i}: ${name}(${args.join()}) faulted after it changed the state`,
      );
    }
    assert.ok(view.cpl >= 0 && view.cpl <= 3, `case ${i}: ${name} left CPL ${view.cpl}`);
    // Whatever happened, an event can be delivered, or ends in a shutdown.
    unit.deliver(below(256), pick([undefined, below(0x10000)]), { external: below(2) === 1 });
    assert.equal(view.rflags & 2, 2);
  }
  assert.ok(faults > CASES / 10 && done > CASES / 10, `${faults} faults, ${done} done: the cases are not varied`);
});
