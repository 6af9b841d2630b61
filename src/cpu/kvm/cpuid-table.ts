/**
 * CPUID of a KVM guest: the answers of isola's processor model, without the features that this host's KVM cannot offer.
 * [kvm api §4.20, §4.46; Linux Documentation/virt/kvm/x86/cpuid.rst]
 */

import { type CpuidContext, type CpuidResult, cpuid, KVM_LEAF } from "../../isa/cpuid.ts";
import { EVERY_FEATURE } from "../../isa/cpu-models.ts";
import { FEATURES, type FeatureName } from "../../isa/cpuid-features.ts";
import { KVM_CPUID2, KVM_CPUID_ENTRY2 } from "./abi.ts";

const SIGNIFICANT_INDEX = 1;
/** Leaves whose answers depend on ECX, and how many subleaves are listed. */
const SUBLEAVES: ReadonlyMap<number, number> = new Map([
  [4, 4],
  [7, 1],
  [0xb, 3],
  [0xd, 3],
]);
/**
 * What KVM does not list and guests have all the same: OSXSAVE follows CR4; that there is a hypervisor is plain; whether
 * FXSAVE keeps FCS and FDS is for nobody to rely on.
 */
const NOT_LISTED: ReadonlySet<FeatureName> = new Set<FeatureName>(["osxsave", "hypervisor", "zero_fcs_fds"]);

interface Entry extends CpuidResult {
  readonly leaf: number;
  readonly subleaf: number;
  readonly flags: number;
}

function readEntries(table: Uint8Array): Entry[] {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const { offset, size } = KVM_CPUID_ENTRY2;
  const count = view.getUint32(KVM_CPUID2.offset.count, true);
  return Array.from({ length: count }, (_, index) => {
    const at = KVM_CPUID2.size + index * size;
    const word = (field: number) => view.getUint32(at + field, true);
    return {
      leaf: word(offset.function),
      subleaf: word(offset.index),
      flags: word(offset.flags),
      eax: word(offset.eax),
      ebx: word(offset.ebx),
      ecx: word(offset.ecx),
      edx: word(offset.edx),
    };
  });
}

function writeEntries(entries: readonly Entry[]): Uint8Array {
  const { offset, size } = KVM_CPUID_ENTRY2;
  const table = new Uint8Array(KVM_CPUID2.size + entries.length * size);
  const view = new DataView(table.buffer);
  view.setUint32(KVM_CPUID2.offset.count, entries.length, true);
  for (const [index, entry] of entries.entries()) {
    const at = KVM_CPUID2.size + index * size;
    view.setUint32(at + offset.function, entry.leaf, true);
    view.setUint32(at + offset.index, entry.subleaf, true);
    view.setUint32(at + offset.flags, entry.flags, true);
    for (const register of ["eax", "ebx", "ecx", "edx"] as const) {
      view.setUint32(at + offset[register], entry[register], true);
    }
  }
  return table;
}

/** The features that guests can have of a host whose struct kvm_cpuid2 is `supported`. */
export function hostFeatures(supported: Uint8Array, tscDeadline: boolean): Set<FeatureName> {
  const entries = readEntries(supported);
  return new Set(
    [...EVERY_FEATURE].filter((name) => {
      if (name === "tsc_deadline") return tscDeadline;
      if (NOT_LISTED.has(name)) return true;
      const { leaf, subleaf, register, bit } = FEATURES[name];
      const entry = entries.find((one) => one.leaf === leaf && one.subleaf === subleaf);
      return entry !== undefined && ((entry[register] >>> bit) & 1) !== 0;
    }),
  );
}

/** struct kvm_cpuid2 for one vCPU. */
export function cpuidTable(context: CpuidContext, features: ReadonlySet<FeatureName>): Uint8Array {
  const entries: Entry[] = [];
  const add = (leaf: number): CpuidResult => {
    const subleaves = SUBLEAVES.get(leaf);
    for (let subleaf = 0; subleaf < (subleaves ?? 1); subleaf++) {
      const flags = subleaves === undefined ? 0 : SIGNIFICANT_INDEX;
      entries.push({ leaf, subleaf, flags, ...cpuid(leaf, subleaf, context, features) });
    }
    return cpuid(leaf, 0, context, features);
  };
  for (const first of [0, KVM_LEAF, 0x8000_0000]) {
    const { eax: last } = add(first);
    for (let leaf = first + 1; leaf <= last; leaf++) add(leaf);
  }
  return writeEntries(entries);
}
