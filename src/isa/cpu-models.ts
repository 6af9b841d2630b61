/**
 * CPU models: sets of CPUID features with a name, as a person writes them (`x86-64-v2,+aes,-rdrand`) and as a saved state
 * names them. The levels are those of the x86-64 psABI, each with what kernels expect beside it; a level never changes,
 * since a guest that was saved on it must find the same processor again.
 */

import { IsolaError } from "../base/errors.ts";
import { FEATURES, featureNamed, type FeatureName, NEEDS } from "./cpuid-features.ts";

export interface CpuModel {
  /** Canonical: the nearest level, then differences from it in the alphabet's order. Equal models have equal names. */
  readonly name: string;
  readonly features: ReadonlySet<FeatureName>;
}

/** What no processor is without: the engine does not model its absence. */
const ALWAYS: readonly FeatureName[] = [
  "fpu",
  "tsc",
  "msr",
  "pae",
  "cx8",
  "apic",
  "cmov",
  "mmx",
  "fxsr",
  "sse",
  "sse2",
  "zero_fcs_fds",
];

const V1: readonly FeatureName[] = [
  ...ALWAYS,
  ...(["de", "pse", "sep", "mtrr", "pge", "pat", "clflush", "syscall", "nx", "pdpe1gb", "rdtscp", "lm"] as const),
  ...(["x2apic", "tsc_deadline", "tsc_adjust", "invariant_tsc", "arat", "arch_capabilities", "hypervisor"] as const),
];
/** What the psABI's levels ask for beyond the one before. */
const ABI2 = ["sse3", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "lahf_lm"] as const;
const ABI3 = ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"] as const;
const V2: readonly FeatureName[] = [
  ...V1,
  ...ABI2,
  ...(["movbe", "rdrand", "fsgsbase", "smep", "smap", "xsave", "xsaveopt"] as const),
];
const V3: readonly FeatureName[] = [...V2, ...ABI3];

/** The lowest first. */
const LEVELS = { "x86-64-v1": new Set(V1), "x86-64-v2": new Set(V2), "x86-64-v3": new Set(V3) } as const;
type Level = keyof typeof LEVELS;
const LEVEL_NAMES = Object.keys(LEVELS) as Level[];

/** All that the portable engine has instructions and register bits for. ERMS and FSRM are hints about REP MOVSB. */
export const PORTABLE_FEATURES: ReadonlySet<FeatureName> = new Set<FeatureName>([
  ...V2,
  ...(["adx", "aes", "bmi1", "bmi2", "clflushopt", "erms", "fsrm", "lzcnt"] as const),
  ...(["pclmulqdq", "prefetchw", "rdseed", "sha", "umip"] as const),
]);

/** The same processor on every engine and host. */
export const DEFAULT_CPU_MODEL: CpuModel = { name: "x86-64-v2", features: LEVELS["x86-64-v2"] };

/** The highest of the psABI's levels that software finds, whatever else is there; "32-bit" without long mode. */
export function levelOf(features: ReadonlySet<FeatureName>): Level | "32-bit" {
  const has = (feature: FeatureName) => features.has(feature);
  if (!has("lm")) return "32-bit";
  if (!ABI2.every(has)) return "x86-64-v1";
  return ABI3.every(has) ? "x86-64-v3" : "x86-64-v2";
}

const names = (features: Iterable<string>): string => [...features].sort().join(", ");

function refuse(text: string, problem: string): never {
  throw new IsolaError({ code: "cpu-model-invalid", message: `CPU model "${text}": ${problem}` });
}

/** The features that `available` holds and that a person may add or take away. */
function choosable(available: ReadonlySet<FeatureName>): string {
  return names([...available].filter((feature) => !ALWAYS.includes(feature)));
}

/** A feature and all that it needs, or all that needs it. */
function closure(feature: FeatureName, next: (of: FeatureName) => readonly FeatureName[]): Set<FeatureName> {
  const found = new Set([feature]);
  // A set's iteration reaches what is added on the way.
  for (const each of found) for (const other of next(each)) found.add(other);
  return found;
}
const needs = (feature: FeatureName): readonly FeatureName[] => NEEDS[feature] ?? [];
const ALL = Object.keys(FEATURES) as FeatureName[];
/** What a model may name at all, whichever engine has it. */
export const EVERY_FEATURE: ReadonlySet<FeatureName> = new Set(ALL);
const neededBy = (feature: FeatureName): FeatureName[] => ALL.filter((other) => needs(other).includes(feature));

/** One `+feature`, `-feature`, `feature=on` or `feature=off`. */
function readChange(text: string, part: string, available: ReadonlySet<FeatureName>) {
  const match = /^(?:([+-])([\w.-]+)|([\w.-]+)=(on|off))$/.exec(part);
  if (match === null) refuse(text, `"${part}" is no change; wanted: +FEATURE or -FEATURE`);
  const feature = featureNamed(match[2] ?? match[3] ?? "");
  if (feature === undefined) {
    refuse(text, `there is no feature "${match[2] ?? match[3]}"; wanted: ${choosable(available)}`);
  }
  const added = (match[1] ?? match[4]) === "+" || match[4] === "on";
  if (added) {
    const missing = [...closure(feature, needs)].find((each) => !available.has(each));
    if (missing !== undefined) {
      refuse(text, `the engine lacks ${missing}; wanted: ${choosable(available)}`);
    }
  } else if (ALWAYS.includes(feature)) {
    refuse(text, `no processor is without ${feature}; wanted: ${choosable(available)}`);
  }
  return { feature, added };
}

/** The features of a model without changes. */
function named(text: string, model: string, available: ReadonlySet<FeatureName>): ReadonlySet<FeatureName> {
  const known = [...LEVEL_NAMES.filter((level) => LEVELS[level].isSubsetOf(available)), "max", "host"].join(", ");
  if (model === "max" || model === "host") return available;
  const level = LEVEL_NAMES.find((name) => name === model);
  if (level === undefined) refuse(text, `there is no model "${model}"; wanted: ${known}`);
  const missing = LEVELS[level].difference(available);
  if (missing.size > 0) refuse(text, `the engine lacks its ${names(missing)}; wanted: ${known}`);
  return LEVELS[level];
}

/**
 * Reads `MODEL[,+FEATURE][,-FEATURE]...`. MODEL is a level, or `max` and `host`: all that the engine has. A feature that
 * is added brings what it needs; one that is taken away takes with it what needs it, but never long mode. Features are
 * named as in /proc/cpuinfo or by QEMU. Throws IsolaError `cpu-model-invalid`. `available`: what the engine has.
 */
export function parseCpuModel(text: string, available: ReadonlySet<FeatureName> = PORTABLE_FEATURES): CpuModel {
  const [model = "", ...parts] = text.split(",").map((part) => part.trim());
  const features = new Set(named(text, model, available));
  const changes = parts.map((part) => readChange(text, part, available));
  for (const { feature, added } of changes) {
    if (added) for (const each of closure(feature, needs)) features.add(each);
  }
  const without = new Set(changes.filter(({ added }) => !added).map(({ feature }) => feature));
  for (const feature of without) {
    const taken = closure(feature, neededBy);
    const wanted = changes.find((change) => change.added && taken.has(change.feature));
    if (wanted !== undefined) refuse(text, `+${wanted.feature} needs ${feature}; wanted: one without the other`);
    if (taken.has("lm") && !without.has("lm")) {
      refuse(text, `long mode needs ${feature}; wanted: -lm as well, for a 32-bit processor`);
    }
    for (const each of taken) features.delete(each);
  }
  return { name: canonicalName(features, available), features };
}

/** The model of those features of `wanted` that an engine has, and whose own needs it has. Read it by EVERY_FEATURE. */
export function offeredModel(wanted: CpuModel, available: ReadonlySet<FeatureName>): CpuModel {
  const features = new Set(wanted.features);
  for (const feature of wanted.features) {
    if (!available.has(feature)) for (const each of closure(feature, neededBy)) features.delete(each);
  }
  return { name: canonicalName(features, EVERY_FEATURE), features };
}

/** A model that an engine must have whole. @throws IsolaError `cpu-model-unfit` */
export function wholeModel(wanted: CpuModel, available: ReadonlySet<FeatureName>, engine: string): CpuModel {
  const missing = wanted.features.difference(available);
  if (missing.size === 0) return offeredModel(wanted, available);
  throw new IsolaError({
    code: "cpu-model-unfit",
    message: `the processor ${wanted.name} needs ${names(missing)}, which ${engine} lacks; wanted: an engine and host that have it`,
  });
}

/** The nearest level among those that the engine has, and what is added to it or taken away. */
function canonicalName(features: ReadonlySet<FeatureName>, available: ReadonlySet<FeatureName>): string {
  const candidates = LEVEL_NAMES.filter((level) => LEVELS[level].isSubsetOf(available)).map((level) => {
    const added = [...features.difference(LEVELS[level])].sort().map((feature) => `,+${feature}`);
    const taken = [...LEVELS[level].difference(features)].sort().map((feature) => `,-${feature}`);
    return [level, ...added, ...taken];
  });
  const [first = [], ...others] = candidates;
  return others.reduce((best, other) => (other.length < best.length ? other : best), first).join("");
}
