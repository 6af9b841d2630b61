import assert from "node:assert/strict";
import { test } from "node:test";
import type { KvmReport } from "../cpu/kvm/probe.ts";
import { parseCpuModel } from "../isa/cpu-models.ts";
import type { FleetError } from "./fleet-error.ts";
import { HostEngines } from "./host-engines.ts";
import { vmSpecSchema, type VmSpecInput } from "./vm-spec.ts";

const GOOD: KvmReport = { usable: true, missing: [], maxCpus: 288 };
const WEAK: KvmReport = { usable: false, missing: [], maxCpus: 64, reason: "/dev/kvm emulates ring 0" };
const NONE: KvmReport = { usable: false, missing: [], reason: "open /dev/kvm: ENOENT" };
const saved = { cpu: parseCpuModel("x86-64-v2"), tscHz: 1e9 };

const spec = (change: Partial<VmSpecInput>) => vmSpecSchema.parse({ name: "one", image: "debian", ...change });
const host = (report: KvmReport, unfit?: string) => new HostEngines({ report: () => report, unfit: () => unfit });
const refusal = (message: RegExp) => (error: unknown) => {
  assert.equal((error as FleetError).code, "no-resources");
  assert.match((error as FleetError).message, message);
  return true;
};

test("auto takes KVM where it runs kernels, kvm wherever it opens, wasm anywhere", () => {
  for (const [report, auto] of [[GOOD, "kvm"] as const, [WEAK, "wasm"] as const, [NONE, "wasm"] as const]) {
    assert.equal(host(report).choose(spec({})), auto);
    assert.equal(host(report).choose(spec({ engine: "wasm" })), "wasm");
  }
  assert.equal(host(WEAK).choose(spec({ engine: "kvm" })), "kvm");
  const message = /^cannot start one: this host has no engine kvm: open \/dev\/kvm: ENOENT; wanted: /;
  assert.throws(() => host(NONE).choose(spec({ engine: "kvm" })), refusal(message));
});

test("several processors need KVM, and are refused where auto would be wasm", () => {
  const two = spec({ cpu: { count: 2 } });
  assert.equal(host(GOOD).choose(two), "kvm");
  assert.throws(() => host(WEAK).choose(two), refusal(/2 processors need the engine kvm: \/dev\/kvm emulates ring 0;/));
  assert.throws(() => spec({ engine: "wasm", cpu: { count: 2 } }), /the engine wasm runs one processor/);
});

test("a saved state stays with wasm where this KVM cannot take it", () => {
  assert.equal(host(GOOD).chooseFor(spec({}), saved), "kvm");
  assert.equal(host(GOOD, "its counter runs at 1000 MHz").chooseFor(spec({}), saved), "wasm");
  // Asked for by name, it is tried, and its refusal is the VM's.
  assert.equal(host(GOOD, "its counter runs at 1000 MHz").chooseFor(spec({ engine: "kvm" }), saved), "kvm");
});

test("a KVM that opened is asked once", () => {
  let asked = 0;
  const engines = new HostEngines({ report: () => (asked++, GOOD), unfit: () => undefined });
  engines.facts();
  assert.deepEqual(
    engines.facts().map(({ name, available }) => [name, available]),
    [
      ["wasm", true],
      ["kvm", true],
    ],
  );
  assert.equal(asked, 1);
});
