/** A feature that the CPU model lacks: its bits and registers raise #GP, as CPUID announces. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCpuModel } from "../../../isa/cpu-models.ts";
import { CR4 } from "../state-view.ts";
import { type Call, FakeHost, faultOf } from "./fake-host.ts";
import { SystemUnit } from "./system-unit.ts";

const GP0 = { vector: 13, errorCode: 0 };

function helpersOf(model: string): Record<string, Call> {
  const host = new FakeHost(parseCpuModel(model).features);
  const unit = new SystemUnit(host, host.view);
  unit.reset();
  return unit.helpers as unknown as Record<string, Call>;
}

/** Both: taken by the whole model, refused by the one without. */
function refusedWithout(feature: string, attempt: (call: Record<string, Call>) => unknown): void {
  const whole = helpersOf("max");
  attempt(whole);
  const masked = helpersOf(`max,-${feature}`);
  assert.deepEqual(
    faultOf(() => attempt(masked)),
    GP0,
    feature,
  );
}

test("CR4's bits", () => {
  for (const [feature, bit] of [
    ["de", CR4.DE],
    ["pse", CR4.PSE],
    ["pge", CR4.PGE],
    ["umip", CR4.UMIP],
    ["fsgsbase", CR4.FSGSBASE],
    ["xsave", CR4.OSXSAVE],
    ["smep", CR4.SMEP],
    ["smap", CR4.SMAP],
  ] as const) {
    refusedWithout(feature, (call) => call.writeControlRegister?.(4, BigInt(bit)));
  }
});

test("EFER's bits", () => {
  refusedWithout("nx", (call) => call.writeMsr?.(0xc0000080, 0x800n));
  refusedWithout("lm", (call) => call.writeMsr?.(0xc0000080, 0x100n));
  refusedWithout("syscall,-lm", (call) => call.writeMsr?.(0xc0000080, 1n));
});

test("model-specific registers", () => {
  for (const [feature, index] of [
    ["tsc_adjust", 0x3b],
    ["mtrr", 0xfe],
    ["arch_capabilities", 0x10a],
    ["sep", 0x174],
    ["mtrr", 0x200],
    ["pat", 0x277],
    ["mtrr", 0x2ff],
    ["tsc_deadline", 0x6e0],
    ["syscall,-lm", 0xc0000081],
    ["lm", 0xc0000082],
    ["lm", 0xc0000100],
    ["lm", 0xc0000102],
    ["rdtscp", 0xc0000103],
  ] as const) {
    refusedWithout(feature, (call) => call.readMsr?.(index));
  }
  refusedWithout("tsc_adjust", (call) => call.writeMsr?.(0x3b, 0n));
  refusedWithout("x2apic", (call) => call.writeMsr?.(0x1b, 0xfee0_0d00n));
});

test("XCR0 follows XSAVE, CPUID follows the model", () => {
  refusedWithout("xsave", (call) => call.writeExtendedControl?.(0, 3n));
  const popcnt = (model: string): number => {
    const host = new FakeHost(parseCpuModel(model).features);
    const unit = new SystemUnit(host, host.view);
    (unit.helpers as unknown as Record<string, Call>).cpuid?.(1, 0);
    return (host.view.gprLow(1) >>> 23) & 1;
  };
  assert.deepEqual([popcnt("x86-64-v2"), popcnt("x86-64-v2,-popcnt")], [1, 0]);
});
