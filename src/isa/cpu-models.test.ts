import assert from "node:assert/strict";
import { test } from "node:test";
import {
  DEFAULT_CPU_MODEL,
  EVERY_FEATURE,
  offeredModel,
  parseCpuModel,
  PORTABLE_FEATURES,
  wholeModel,
} from "./cpu-models.ts";
import { FEATURES, featureNamed, type FeatureName, NEEDS } from "./cpuid-features.ts";
import { Decoder } from "./decode.ts";
import { INSTRUCTIONS } from "./table.ts";

const nameOf = (text: string) => parseCpuModel(text).name;

function refusal(text: string): string {
  try {
    parseCpuModel(text);
  } catch (error) {
    assert.ok(error instanceof Error);
    assert.equal((error as { code?: string }).code, "cpu-model-invalid");
    assert.ok(!error.message.includes("\n"));
    return error.message;
  }
  return assert.fail(`${text} is taken`);
}

test("a model has one name", () => {
  for (const [text, name] of [
    ["x86-64-v2", "x86-64-v2"],
    ["x86-64-v2,+aes", "x86-64-v2,+aes"],
    ["x86-64-v2,+sha,+aes", "x86-64-v2,+aes,+sha"],
    ["x86-64-v2,-rdrand,+aes,+aes", "x86-64-v2,+aes,-rdrand"],
    ["x86-64-v2,+popcnt", "x86-64-v2"],
    ["x86-64-v2, aes=on, rdrand=off", "x86-64-v2,+aes,-rdrand"],
    ["x86-64-v1,+aes", "x86-64-v1,+aes"],
    ["x86-64-v2,-sse4.2", nameOf("x86-64-v2,-sse4_2")],
    ["x86-64-v1,+sse4.1", nameOf("x86-64-v1,+sse4_1,+ssse3,+pni")],
  ] as const) {
    assert.equal(nameOf(text), name);
  }
  assert.equal(nameOf("max"), nameOf("host"));
  assert.deepEqual(parseCpuModel("max").features, PORTABLE_FEATURES);
  assert.deepEqual(parseCpuModel("x86-64-v2"), DEFAULT_CPU_MODEL);
});

test("a canonical name leads back to the same features, whatever is added or taken away", () => {
  const models = ["x86-64-v1", "x86-64-v2", "max"];
  let accepted = 0;
  for (const model of models) {
    for (const first of Object.keys(FEATURES)) {
      for (const sign of ["+", "-"]) {
        for (const rest of ["", ",-sse4_1", ",-lm", ",+sha,-xsave"]) {
          let made: ReturnType<typeof parseCpuModel>;
          try {
            made = parseCpuModel(`${model},${sign}${first}${rest}`);
          } catch {
            continue;
          }
          accepted++;
          const again = parseCpuModel(made.name);
          assert.equal(again.name, made.name);
          assert.deepEqual([...again.features].sort(), [...made.features].sort(), made.name);
          for (const feature of made.features) {
            for (const need of NEEDS[feature] ?? []) assert.ok(made.features.has(need), `${feature} without ${need}`);
          }
        }
      }
    }
  }
  assert.ok(accepted > 300, String(accepted));
});

test("what is added brings what it needs, what is taken away takes what needs it", () => {
  const v1 = parseCpuModel("x86-64-v1,+sse4_2").features;
  for (const name of ["sse3", "ssse3", "sse4_1", "sse4_2"] as const) assert.ok(v1.has(name), name);
  const v2 = parseCpuModel("x86-64-v2,-ssse3").features;
  for (const name of ["ssse3", "sse4_1", "sse4_2"] as const) assert.ok(!v2.has(name), name);
  assert.ok(v2.has("sse3"));
  const without = parseCpuModel("x86-64-v2,-lm").features;
  for (const name of ["lm", "cx16", "lahf_lm", "pdpe1gb", "fsgsbase"] as const) assert.ok(!without.has(name), name);
});

test("features by Linux's and QEMU's names", () => {
  for (const [text, name] of [
    ["pni", "sse3"],
    ["abm", "lzcnt"],
    ["sha-ni", "sha"],
    ["SHA_NI", "sha"],
    ["sse4.2", "sse4_2"],
    ["sse4-2", "sse4_2"],
    ["tsc-deadline", "tsc_deadline"],
    ["tsc_deadline_timer", "tsc_deadline"],
    ["invtsc", "invariant_tsc"],
    ["constructor", undefined],
    ["", undefined],
  ] as const) {
    assert.equal(featureNamed(text), name, text);
  }
});

test("what cannot be is refused in one line that tells what can", () => {
  for (const [text, wanted] of [
    ["", /there is no model "".*x86-64-v2, max, host/],
    ["pentium", /there is no model "pentium"; wanted: x86-64-v1, x86-64-v2, max, host$/],
    ["x86-64-v3", /lacks its avx, avx2, f16c, fma; wanted: x86-64-v1, x86-64-v2, max, host$/],
    ["x86-64-v2,+nosuch", /there is no feature "nosuch"; wanted: .*\baes\b.*\bxsave\b/],
    ["x86-64-v2,+avx2", /the engine lacks avx2; wanted: .*\baes\b/],
    ["x86-64-v2,+la57", /the engine lacks la57/],
    ["x86-64-v2,-sse2", /no processor is without sse2/],
    ["x86-64-v2,-syscall", /long mode needs syscall; wanted: -lm as well/],
    ["x86-64-v2,+sse4_2,-ssse3", /\+sse4_2 needs ssse3/],
    ["x86-64-v2,+aes,-aes", /\+aes needs aes/],
    ["x86-64-v2,aes", /"aes" is no change; wanted: \+FEATURE or -FEATURE/],
    ["x86-64-v2,", /"" is no change/],
    ["x86-64-v2,+__proto__", /there is no feature/],
  ] as const) {
    assert.match(refusal(text), wanted);
  }
  assert.equal(nameOf("x86-64-v2,-syscall,-lm").includes("-syscall"), true);
});

test("every feature that the engine has is behind an instruction, a register or a fact about the processor", () => {
  const known: ReadonlySet<string> = new Set(Object.keys(FEATURES));
  for (const feature of PORTABLE_FEATURES) assert.ok(known.has(feature), feature);
  // An instruction is there for nothing if no model can have its feature: those that raise #UD by themselves.
  const unreachable = new Set(
    INSTRUCTIONS.flatMap(({ feature }) => (feature === undefined ? [] : [feature])).filter(
      (feature) => !PORTABLE_FEATURES.has(feature as FeatureName),
    ),
  );
  assert.deepEqual([...unreachable].sort(), ["invpcid", "xsavec", "xsaves"]);
  const all = new Decoder(INSTRUCTIONS, PORTABLE_FEATURES);
  assert.equal(typeof all.decode(Uint8Array.of(0xc4, 0xe2, 0x78, 0xf2, 0xc1), 1), "object");
});

test("what a host has of a model has a name that leads back to it; a whole model is had whole, or refused", () => {
  let seed = 4711;
  const random = (): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed >>> 8;
  };
  const optional = [...EVERY_FEATURE].filter((name) => name !== "lm" && name !== "syscall");
  for (let round = 0; round < 200; round++) {
    const lacking = new Set<FeatureName>([1, 2, 3, 4].flatMap(() => optional[random() % optional.length] ?? []));
    const always = parseCpuModel("x86-64-v1").features;
    const host = EVERY_FEATURE.difference(lacking.difference(always));
    const { name, features } = offeredModel(DEFAULT_CPU_MODEL, host);
    assert.deepEqual(parseCpuModel(name, EVERY_FEATURE).features.symmetricDifference(features), new Set(), name);
    assert.ok(features.isSubsetOf(host), name);
    assert.equal(wholeModel({ name, features }, host, "it").name, name);
    const missing = DEFAULT_CPU_MODEL.features.difference(host);
    if (missing.size === 0) continue;
    assert.throws(() => wholeModel(DEFAULT_CPU_MODEL, host, "it"), {
      code: "cpu-model-unfit",
      message: /^the processor x86-64-v2 needs .*, which it lacks; wanted: /,
    });
  }
});
