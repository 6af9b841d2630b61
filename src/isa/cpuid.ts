/**
 * What CPUID answers. [SDM 2 CPUID; KVM's paravirtual leaves: Linux Documentation/virt/kvm/x86/cpuid.rst]
 *
 * The processor names itself GenuineIntel, family 6, model 0x36: an in-order Atom. The reasons: Intel's start-up code in
 * operating systems reads few vendor registers, and all of those by access that tolerates #GP, where AMD's families
 * write HWCR, SYSCFG and DE_CFG; and this model truly does not speculate, as our engine does not, so that a kernel
 * chooses no mitigations (retpolines, return-stack stuffing), which would cost every indirect branch. What works is told
 * by feature flags alone; software that goes by flags never looks at the model.
 */

import { levelOf } from "./cpu-models.ts";
import { FEATURES, type FeatureName } from "./cpuid-features.ts";

/** CPUID's four results as unsigned numbers. */
export interface CpuidResult {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

/** What the answers depend on besides the model. */
export interface CpuidContext {
  /** x2APIC id of this processor. */
  readonly apicId: number;
  /** Logical processors of the one package, 1 or more. */
  readonly processors: number;
  /** Frequency of the time-stamp counter in Hz. */
  readonly tscHz: number;
  /** CR4.OSXSAVE as it is now. */
  readonly osxsave: boolean;
  /** Whether IA32_APIC_BASE enables the local APIC now. */
  readonly apicEnabled: boolean;
  /** XCR0 as it is now. */
  readonly xcr0: number;
}

/** Input frequency of the local APIC timer in Hz, the "core crystal clock" of leaf 0x15: devices/interrupts/lapic-timer.ts. */
const APIC_TIMER_HZ = 1_000_000_000;
export const PHYSICAL_ADDRESS_BITS = 40;
export const LINEAR_ADDRESS_BITS = 48;

const VENDOR = "GenuineIntel";
/** Family 6, extended model 3, model 6, stepping 1. */
const SIGNATURE = 0x00030661;
const HIGHEST_BASIC = 0x16;
const HIGHEST_EXTENDED = 0x80000008;

export const KVM_LEAF = 0x40000000;
const KVM_HIGHEST = 0x40000010;
const KVM_SIGNATURE = "KVMKVMKVM\0\0\0";
/** KVM_FEATURE_CLOCKSOURCE2 and KVM_FEATURE_CLOCKSOURCE_STABLE_BIT. */
const KVM_FEATURES = (1 << 3) | (1 << 24);

/** XSAVE state components: bit in XCR0, offset and size in the standard format in bytes, and the feature that adds it.
 * x87 and SSE lie in the legacy region. [SDM 1 §13.4] */
export const XSAVE_COMPONENTS = [
  { bit: 0, feature: "xsave", offset: 0, size: 160 },
  { bit: 1, feature: "sse", offset: 160, size: 256 },
  { bit: 2, feature: "avx", offset: 576, size: 256 },
] as const satisfies readonly { bit: number; feature: FeatureName; offset: number; size: number }[];

/** Bytes of the legacy region and the header. */
export const XSAVE_HEADER_END = 576;

/** The XCR0 bits that may be set. */
export function supportedXcr0(offered: ReadonlySet<FeatureName>): number {
  if (!offered.has("xsave")) return 0;
  return XSAVE_COMPONENTS.filter((c) => offered.has(c.feature)).reduce((mask, c) => mask | (1 << c.bit), 0);
}

/** Bytes of an XSAVE area in the standard format for the components in `xcr0`. */
export function xsaveAreaBytes(xcr0: number): number {
  return XSAVE_COMPONENTS.reduce(
    (bytes, c) => (((xcr0 >> c.bit) & 1) === 1 && c.bit >= 2 ? Math.max(bytes, c.offset + c.size) : bytes),
    XSAVE_HEADER_END,
  );
}

/** Four characters as the little-endian number that holds them. */
function text4(text: string, at: number): number {
  let value = 0;
  for (let i = 3; i >= 0; i--) value = value * 256 + (text.charCodeAt(at + i) || 0);
  return value;
}

/** Words of feature flags by leaf, subleaf and register: every start of a program asks for some. */
const featureWords = new WeakMap<ReadonlySet<FeatureName>, ReadonlyMap<string, number>>();

function featureWordsOf(offered: ReadonlySet<FeatureName>): ReadonlyMap<string, number> {
  const known = featureWords.get(offered);
  if (known !== undefined) return known;
  const words = new Map<string, number>();
  for (const name of offered) {
    const { leaf, subleaf, register, bit } = FEATURES[name];
    const key = `${leaf}/${subleaf}/${register}`;
    words.set(key, ((words.get(key) ?? 0) | (1 << bit)) >>> 0);
  }
  featureWords.set(offered, words);
  return words;
}

/** The static part of a leaf: its feature flags. */
function featureLeaf(leaf: number, subleaf: number, offered: ReadonlySet<FeatureName>): CpuidResult {
  const words = featureWordsOf(offered);
  const word = (register: string) => words.get(`${leaf}/${subleaf}/${register}`) ?? 0;
  return { eax: word("eax"), ebx: word("ebx"), ecx: word("ecx"), edx: word("edx") };
}

interface Cache {
  /** 1 data, 2 instruction, 3 unified. */
  readonly type: 1 | 2 | 3;
  readonly level: number;
  readonly ways: number;
  readonly sets: number;
}
const LINE_BYTES = 64;
/** Plausible sizes, so that software which blocks by cache size works sensibly: 32 + 32 KiB, 1 MiB. */
const CACHES: readonly Cache[] = [
  { type: 1, level: 1, ways: 8, sets: 64 },
  { type: 2, level: 1, ways: 8, sets: 64 },
  { type: 3, level: 2, ways: 16, sets: 1024 },
];
const L2_KIB = (16 * 1024 * LINE_BYTES) / 1024;

function cacheLeaf(subleaf: number, processors: number): CpuidResult {
  const cache = CACHES[subleaf];
  if (cache === undefined) return { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  return {
    eax: (((processors - 1) << 26) | (1 << 8) | (cache.level << 5) | cache.type) >>> 0,
    ebx: ((cache.ways - 1) << 22) | (LINE_BYTES - 1),
    ecx: cache.sets - 1,
    edx: 0,
  };
}

/** Extended topology: one thread a core, all cores in one package. [SDM 3 §9.9] */
function topologyLeaf(subleaf: number, { apicId, processors }: CpuidContext): CpuidResult {
  if (subleaf === 0) return { eax: 0, ebx: 1, ecx: 0x100, edx: apicId };
  if (subleaf === 1) return { eax: Math.ceil(Math.log2(processors)), ebx: processors, ecx: 0x201, edx: apicId };
  return { eax: 0, ebx: 0, ecx: subleaf & 0xff, edx: apicId };
}

function xsaveLeaf(subleaf: number, context: CpuidContext, offered: ReadonlySet<FeatureName>): CpuidResult {
  const supported = supportedXcr0(offered);
  if (subleaf === 0) {
    return { eax: supported, ebx: xsaveAreaBytes(context.xcr0), ecx: xsaveAreaBytes(supported), edx: 0 };
  }
  if (subleaf === 1) return featureLeaf(0xd, 1, offered);
  const component = XSAVE_COMPONENTS[subleaf];
  if (component === undefined || ((supported >> subleaf) & 1) === 0) return { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  return { eax: component.size, ebx: component.offset, ecx: 0, edx: 0 };
}

/** Basic leaves whose flags depend on ECX; 4, 0xb and 0xd have functions of their own. */
const LEAVES_WITH_SUBLEAVES: ReadonlySet<number> = new Set([7]);

function basicLeaf(
  leaf: number,
  subleaf: number,
  context: CpuidContext,
  offered: ReadonlySet<FeatureName>,
): CpuidResult {
  // Most leaves do not look at ECX, and software leaves anything there.
  const flags = featureLeaf(leaf, LEAVES_WITH_SUBLEAVES.has(leaf) ? subleaf : 0, offered);
  const megahertz = Math.round(context.tscHz / 1e6);
  switch (leaf) {
    case 0:
      return { eax: HIGHEST_BASIC, ebx: text4(VENDOR, 0), edx: text4(VENDOR, 4), ecx: text4(VENDOR, 8) };
    case 1: {
      const count = Math.min(context.processors, 255);
      flags.eax = SIGNATURE;
      flags.ebx = (((context.apicId & 0xff) << 24) | (count << 16) | ((LINE_BYTES / 8) << 8)) >>> 0;
      if (context.osxsave) flags.ecx = (flags.ecx | (1 << FEATURES.osxsave.bit)) >>> 0;
      if (!context.apicEnabled) flags.edx = (flags.edx & ~(1 << FEATURES.apic.bit)) >>> 0;
      if (context.processors > 1) flags.edx = (flags.edx | (1 << FEATURES.ht.bit)) >>> 0;
      return flags;
    }
    case 2:
      // Descriptor 0xFF: see leaf 4. The low byte is the number of calls needed: 1.
      return { eax: 0x0000ff01, ebx: 0, ecx: 0, edx: 0 };
    case 4:
      return cacheLeaf(subleaf, Math.min(context.processors, 64));
    case 0xb:
      return topologyLeaf(subleaf, context);
    case 0xd:
      return xsaveLeaf(subleaf, context, offered);
    case 0x15:
      return { eax: 1000, ebx: megahertz, ecx: APIC_TIMER_HZ, edx: 0 };
    case 0x16:
      return { eax: megahertz, ebx: megahertz, ecx: 100, edx: 0 };
    default:
      return flags;
  }
}

function extendedLeaf(leaf: number, offered: ReadonlySet<FeatureName>): CpuidResult {
  const brand = `isola vCPU (${levelOf(offered)})`.padEnd(48, "\0");
  switch (leaf) {
    case 0x80000000:
      return { eax: HIGHEST_EXTENDED, ebx: 0, ecx: 0, edx: 0 };
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
      const at = (leaf - 0x80000002) * 16;
      return {
        eax: text4(brand, at),
        ebx: text4(brand, at + 4),
        ecx: text4(brand, at + 8),
        edx: text4(brand, at + 12),
      };
    }
    case 0x80000006:
      // L2: size in KiB, 16 ways (code 8), 64-byte lines.
      return { eax: 0, ebx: 0, ecx: ((L2_KIB << 16) | (8 << 12) | LINE_BYTES) >>> 0, edx: 0 };
    case 0x80000008:
      return { eax: (LINEAR_ADDRESS_BITS << 8) | PHYSICAL_ADDRESS_BITS, ebx: 0, ecx: 0, edx: 0 };
    default:
      return featureLeaf(leaf, 0, offered);
  }
}

function paravirtualLeaf(leaf: number, { tscHz }: CpuidContext): CpuidResult {
  if (leaf === KVM_LEAF) {
    const [ebx, ecx, edx] = [0, 4, 8].map((at) => text4(KVM_SIGNATURE, at)) as [number, number, number];
    return { eax: KVM_HIGHEST, ebx, ecx, edx };
  }
  if (leaf === KVM_LEAF + 1) return { eax: KVM_FEATURES, ebx: 0, ecx: 0, edx: 0 };
  if (leaf === KVM_HIGHEST) return { eax: Math.round(tscHz / 1000), ebx: APIC_TIMER_HZ / 1000, ecx: 0, edx: 0 };
  return { eax: 0, ebx: 0, ecx: 0, edx: 0 };
}

/** What CPUID gives for EAX = `leaf` and ECX = `subleaf`, both unsigned. A basic or extended leaf above the highest one
 * answers as the highest basic leaf [SDM 2 CPUID]. */
export function cpuid(
  leaf: number,
  subleaf: number,
  context: CpuidContext,
  offered: ReadonlySet<FeatureName>,
): CpuidResult {
  if (leaf <= HIGHEST_BASIC) return basicLeaf(leaf, subleaf, context, offered);
  if (leaf >= KVM_LEAF && leaf <= KVM_LEAF + 0xff) return paravirtualLeaf(leaf, context);
  if (leaf >= 0x80000000 && leaf <= HIGHEST_EXTENDED) return extendedLeaf(leaf, offered);
  return basicLeaf(HIGHEST_BASIC, subleaf, context, offered);
}
