/**
 * CPUID feature flags by name: where they stand, and what they need. [SDM 2 CPUID, tables 3-8, 3-10, 3-11]
 *
 * `Instruction.feature` names what an instruction belongs to, `Msr.feature` the same for a register, and
 * cpu/wasm/system/control-registers.ts for bits of CR4 and EFER. Which processors have which: cpu-models.ts.
 */

export type CpuidRegister = "eax" | "ebx" | "ecx" | "edx";

/** Where a feature's flag stands: leaf, sub-leaf, register, bit. */
export interface FeatureBit {
  readonly leaf: number;
  readonly subleaf: number;
  readonly register: CpuidRegister;
  readonly bit: number;
}

function flags<Name extends string>(
  leaf: number,
  subleaf: number,
  register: CpuidRegister,
  bits: Record<Name, number>,
): Record<Name, FeatureBit> {
  const entries = Object.entries<number>(bits).map(([name, bit]) => [name, { leaf, subleaf, register, bit }]);
  return Object.fromEntries(entries) as Record<Name, FeatureBit>;
}

export const FEATURES = {
  ...flags(1, 0, "edx", {
    fpu: 0,
    vme: 1,
    de: 2,
    pse: 3,
    tsc: 4,
    msr: 5,
    pae: 6,
    mce: 7,
    cx8: 8,
    apic: 9,
    sep: 11,
    mtrr: 12,
    pge: 13,
    mca: 14,
    cmov: 15,
    pat: 16,
    pse36: 17,
    clflush: 19,
    mmx: 23,
    fxsr: 24,
    sse: 25,
    sse2: 26,
    ss: 27,
    ht: 28,
  }),
  ...flags(1, 0, "ecx", {
    sse3: 0,
    pclmulqdq: 1,
    monitor: 3,
    ssse3: 9,
    fma: 12,
    cx16: 13,
    pcid: 17,
    sse4_1: 19,
    sse4_2: 20,
    x2apic: 21,
    movbe: 22,
    popcnt: 23,
    tsc_deadline: 24,
    aes: 25,
    xsave: 26,
    osxsave: 27,
    avx: 28,
    f16c: 29,
    rdrand: 30,
    hypervisor: 31,
  }),
  ...flags(6, 0, "eax", { arat: 2 }),
  ...flags(7, 0, "ebx", {
    fsgsbase: 0,
    tsc_adjust: 1,
    bmi1: 3,
    avx2: 5,
    smep: 7,
    bmi2: 8,
    erms: 9,
    invpcid: 10,
    zero_fcs_fds: 13,
    rdseed: 18,
    adx: 19,
    smap: 20,
    clflushopt: 23,
    clwb: 24,
    sha: 29,
  }),
  ...flags(7, 0, "ecx", { umip: 2, la57: 16, rdpid: 22 }),
  ...flags(7, 0, "edx", { fsrm: 4, spec_ctrl: 26, arch_capabilities: 29 }),
  ...flags(0xd, 1, "eax", { xsaveopt: 0, xsavec: 1, xgetbv1: 2, xsaves: 3 }),
  ...flags(0x80000001, 0, "ecx", { lahf_lm: 0, lzcnt: 5, sse4a: 6, prefetchw: 8 }),
  ...flags(0x80000001, 0, "edx", { syscall: 11, nx: 20, pdpe1gb: 26, rdtscp: 27, lm: 29 }),
  ...flags(0x80000007, 0, "edx", { invariant_tsc: 8 }),
} satisfies Record<string, FeatureBit>;

export type FeatureName = keyof typeof FEATURES;

/** Other spellings: Linux's in /proc/cpuinfo and QEMU's, where they differ from ours by more than "-" or "." for "_". */
const ALIASES: Readonly<Record<string, FeatureName>> = {
  "3dnowprefetch": "prefetchw",
  abm: "lzcnt",
  constant_tsc: "invariant_tsc",
  i64: "lm",
  invtsc: "invariant_tsc",
  nonstop_tsc: "invariant_tsc",
  pclmul: "pclmulqdq",
  pni: "sse3",
  sha_ni: "sha",
  tsc_deadline_timer: "tsc_deadline",
  xd: "nx",
};

/** What a feature cannot be without, beside what every processor has. */
export const NEEDS: Readonly<Partial<Record<FeatureName, readonly FeatureName[]>>> = {
  ssse3: ["sse3"],
  sse4_1: ["ssse3"],
  sse4_2: ["sse4_1"],
  xsaveopt: ["xsave"],
  xsavec: ["xsave"],
  xsaves: ["xsave"],
  xgetbv1: ["xsave"],
  avx: ["xsave"],
  avx2: ["avx"],
  fma: ["avx"],
  f16c: ["avx"],
  lm: ["syscall"],
  lahf_lm: ["lm"],
  cx16: ["lm"],
  fsgsbase: ["lm"],
  pdpe1gb: ["lm"],
  la57: ["lm"],
  invpcid: ["pcid"],
};

function isFeature(name: string): name is FeatureName {
  return Object.hasOwn(FEATURES, name);
}

/** The feature of this name in any spelling, or undefined. */
export function featureNamed(text: string): FeatureName | undefined {
  const name = text.toLowerCase().replaceAll(/[-.]/g, "_");
  return isFeature(name) ? name : Object.hasOwn(ALIASES, name) ? ALIASES[name] : undefined;
}
