import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_CPU_MODEL, parseCpuModel, PORTABLE_FEATURES } from "./cpu-models.ts";
import { FEATURES, type FeatureName } from "./cpuid-features.ts";
import { type CpuidResult, cpuid, supportedXcr0, xsaveAreaBytes } from "./cpuid.ts";
import { MSRS } from "./msrs.ts";
import { STATE } from "./state.ts";

const CONTEXT = { apicId: 0, processors: 1, tscHz: 2_000_000_000, osxsave: false, apicEnabled: true, xcr0: 3 };
const ask = (leaf: number, subleaf = 0, change: Partial<typeof CONTEXT> = {}, { features } = DEFAULT_CPU_MODEL) =>
  cpuid(leaf, subleaf, { ...CONTEXT, ...change }, features);

function text(...words: number[]): string {
  const bytes = new Uint8Array(Uint32Array.from(words).buffer);
  return String.fromCharCode(...bytes).replace(/\0+$/, "");
}

test("names", () => {
  const { ebx, ecx, edx } = ask(0);
  assert.equal(text(ebx, edx, ecx), "GenuineIntel");
  const kvm = ask(0x40000000);
  assert.equal(text(kvm.ebx, kvm.ecx, kvm.edx), "KVMKVMKVM");
  const brand = [2, 3, 4].flatMap((leaf) => Object.values(ask(0x80000000 + leaf)) as number[]);
  assert.equal(text(...brand), "isola vCPU (x86-64-v2)");
});

test("every feature of a model is named where it belongs, and no other", () => {
  for (const text of ["x86-64-v1", "x86-64-v2", "max", "x86-64-v2,-lm,-nx", "x86-64-v1,+sha"]) {
    const model = parseCpuModel(text);
    for (const [name, { leaf, subleaf, register, bit }] of Object.entries(FEATURES)) {
      const word = ask(leaf, subleaf, {}, model)[register as keyof CpuidResult];
      assert.equal(((word >>> bit) & 1) === 1, model.features.has(name as FeatureName), `${name} of ${text}`);
    }
  }
});

test("the brand names the level", () => {
  const brandOf = (model: string) =>
    text(
      ...[2, 3, 4].flatMap((leaf) => Object.values(ask(0x80000000 + leaf, 0, {}, parseCpuModel(model))) as number[]),
    );
  assert.equal(brandOf("x86-64-v1"), "isola vCPU (x86-64-v1)");
  assert.equal(brandOf("max,-ssse3"), "isola vCPU (x86-64-v1)");
  assert.equal(brandOf("x86-64-v2,-lm"), "isola vCPU (32-bit)");
});

test("what depends on state", () => {
  assert.equal((ask(1, 0, { osxsave: true }).ecx >>> 27) & 1, 1);
  assert.equal((ask(1, 0, { apicEnabled: false }).edx >>> 9) & 1, 0);
  assert.equal(ask(1, 0, { apicId: 3 }).ebx >>> 24, 3);
  assert.equal((ask(1, 0, { processors: 2 }).edx >>> 28) & 1, 1);
  assert.deepEqual(ask(0xb, 1, { processors: 3, apicId: 2 }), { eax: 2, ebx: 3, ecx: 0x201, edx: 2 });
  assert.deepEqual(ask(0xd, 0), { eax: 3, ebx: 576, ecx: 576, edx: 0 });
  const { eax, ebx, ecx } = ask(0x15);
  assert.equal((ecx * ebx) / eax, 2_000_000_000);
  assert.deepEqual(ask(0x40000010), { eax: 2_000_000, ebx: 1_000_000, ecx: 0, edx: 0 });
});

test("ECX counts in the leaves that have sub-leaves, and in no other", () => {
  for (const leaf of [0, 1, 6, 0x80000001, 0x80000007]) assert.deepEqual(ask(leaf, 0xdead), ask(leaf, 0));
  assert.deepEqual(ask(7, 0xdead), { eax: 0, ebx: 0, ecx: 0, edx: 0 });
});

test("leaves beyond the highest answer as the highest basic one", () => {
  assert.deepEqual(ask(0x17), ask(0x16));
  assert.deepEqual(ask(0x80000009), ask(0x16));
  assert.deepEqual(ask(0xffffffff), ask(0x16));
  for (const value of Object.values(ask(0x4000_0055))) assert.equal(value, 0);
});

test("XSAVE sizes follow the components", () => {
  assert.equal(supportedXcr0(new Set([...PORTABLE_FEATURES, "avx"])), 7);
  assert.equal(supportedXcr0(new Set(["sse"])), 0);
  assert.equal(xsaveAreaBytes(7), 832);
  assert.equal(xsaveAreaBytes(3), 576);
});

test("each MSR has one place, and a reset value that it accepts", () => {
  const slots = new Set<number>();
  for (const { name, field, slot, special, reset, writable } of MSRS.values()) {
    assert.ok(field === undefined || field in STATE, name);
    assert.ok(!(field !== undefined && slot >= 0), name);
    assert.ok(field !== undefined || slot >= 0 || special !== undefined, `${name} is kept nowhere`);
    if (slot >= 0) {
      assert.ok(!slots.has(slot), name);
      slots.add(slot);
    }
    assert.ok(writable === 0n || (reset & ~writable) === 0n || name === "IA32_BIOS_SIGN_ID", name);
  }
});
