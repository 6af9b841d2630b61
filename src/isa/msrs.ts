/**
 * Model-specific registers of the portable processor, as a table. [SDM 4 chapter 2, SDM 3 §11.11.2 (MTRRs),
 * Linux Documentation/virt/kvm/x86/msr.rst]
 *
 * A register lies in a field of the state where the engine uses it, else in a slot of the state's MSR area. Those with
 * behaviour of their own (`special`) are done in cpu/wasm/system; an index that is not here raises #GP.
 */

import type { FeatureName } from "./cpuid-features.ts";
import { MSR_SLOTS, type StateName } from "./state.ts";

export const IA32_TIME_STAMP_COUNTER = 0x10;
export const IA32_APIC_BASE = 0x1b;
export const IA32_TSC_ADJUST = 0x3b;
export const IA32_SYSENTER_CS = 0x174;
export const IA32_SYSENTER_ESP = 0x175;
export const IA32_SYSENTER_EIP = 0x176;
export const IA32_DEBUGCTL = 0x1d9;
export const IA32_MTRR_DEF_TYPE = 0x2ff;
export const IA32_PAT = 0x277;
export const IA32_TSC_DEADLINE = 0x6e0;
/** x2APIC registers, 0x100 of them. */
export const X2APIC_FIRST = 0x800;
export const X2APIC_LAST = 0x8ff;
export const MSR_KVM_WALL_CLOCK_NEW = 0x4b564d00;
export const MSR_KVM_SYSTEM_TIME_NEW = 0x4b564d01;
export const IA32_EFER = 0xc0000080;
export const IA32_STAR = 0xc0000081;
export const IA32_LSTAR = 0xc0000082;
export const IA32_CSTAR = 0xc0000083;
export const IA32_FMASK = 0xc0000084;
export const IA32_FS_BASE = 0xc0000100;
export const IA32_GS_BASE = 0xc0000101;
export const IA32_KERNEL_GS_BASE = 0xc0000102;
export const IA32_TSC_AUX = 0xc0000103;

export const EFER_SCE = 1 << 0;
export const EFER_LME = 1 << 8;
export const EFER_LMA = 1 << 10;
export const EFER_NXE = 1 << 11;

export type MsrBehaviour =
  | "efer"
  | "segment-base"
  | "timestamp"
  | "timestamp-adjust"
  | "interrupts"
  | "wall-clock"
  | "system-time";

export interface Msr {
  /** The manual's name. */
  readonly name: string;
  readonly index: number;
  /** Value after reset. */
  readonly reset: bigint;
  /** Bits that software may set; setting another raises #GP, unless `lenient`: then it keeps its value. */
  readonly writable: bigint;
  readonly lenient: boolean;
  /** What a value must be besides. */
  readonly check: "none" | "canonical" | "memory-types";
  readonly field: StateName | undefined;
  /** Slot in the state's MSR area, or -1. */
  readonly slot: number;
  readonly special: MsrBehaviour | undefined;
  /** The CPUID feature without which the register is not there. */
  readonly feature: FeatureName | undefined;
}

type MsrOptions = Partial<Omit<Msr, "name" | "index" | "slot">>;

const ALL = 0xffff_ffff_ffff_ffffn;
const table = new Map<number, Msr>();
let slots = 0;

function define(name: string, index: number, options: MsrOptions = {}): void {
  const { field, special, reset = 0n, writable = ALL, lenient = false, check = "none", feature } = options;
  const stored =
    field === undefined && (special === undefined || special === "system-time" || special === "wall-clock");
  const slot = stored ? slots++ : -1;
  if (slots > MSR_SLOTS) throw new Error("the state's MSR area is full");
  table.set(index, { name, index, reset, writable, lenient, check, field, slot, special, feature });
}

/** Addresses below 2^40 [PHYSICAL_ADDRESS_BITS], from bit 12 on. */
const PHYSICAL_PAGE = 0xff_ffff_f000n;
/** WB in entries 0 and 4, WT in 1 and 5, UC- in 2 and 6, UC in 3 and 7. [SDM 3 table 12-12] */
const PAT_RESET = 0x0007_0406_0007_0406n;

/**
 * What the processor is immune to, so that kernels choose no mitigations: RDCL_NO, RSBA absent, SKIP_L1DFL, SSB_NO,
 * MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO. [SDM 4 table 2-2]
 */
const IMMUNITIES = [0, 3, 4, 5, 6, 8, 13, 14, 15, 20, 24, 26, 27].reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);

define("IA32_TIME_STAMP_COUNTER", IA32_TIME_STAMP_COUNTER, { special: "timestamp" });
define("IA32_PLATFORM_ID", 0x17, { writable: 0n });
define("IA32_APIC_BASE", IA32_APIC_BASE, { special: "interrupts" });
define("IA32_TSC_ADJUST", IA32_TSC_ADJUST, { special: "timestamp-adjust", feature: "tsc_adjust" });
// The revision is in the upper half; software writes 0 and runs CPUID before it reads it.
define("IA32_BIOS_SIGN_ID", 0x8b, { reset: 1n << 32n, writable: 0n, lenient: true });
define("MSR_PLATFORM_INFO", 0xce, { writable: 0n });
/** Eight variable ranges, fixed ranges, write-combining. */
define("IA32_MTRRCAP", 0xfe, { reset: 0x508n, writable: 0n, feature: "mtrr" });
define("IA32_ARCH_CAPABILITIES", 0x10a, { reset: IMMUNITIES, writable: 0n, feature: "arch_capabilities" });
define("IA32_SYSENTER_CS", IA32_SYSENTER_CS, { field: "sysenterCs", feature: "sep" });
define("IA32_SYSENTER_ESP", IA32_SYSENTER_ESP, { field: "sysenterEsp", check: "canonical", feature: "sep" });
define("IA32_SYSENTER_EIP", IA32_SYSENTER_EIP, { field: "sysenterEip", check: "canonical", feature: "sep" });
/** No machine-check banks. */
define("IA32_MCG_CAP", 0x179, { writable: 0n });
define("IA32_MCG_STATUS", 0x17a, { writable: 7n });
// Fast strings on.
define("IA32_MISC_ENABLE", 0x1a0, { reset: 1n, writable: 1n, lenient: true });
// Last-branch recording and stepping on branches do nothing yet: the register keeps their bits.
define("IA32_DEBUGCTL", IA32_DEBUGCTL, { writable: 3n });
for (let i = 0; i < 8; i++) {
  define(`IA32_MTRR_PHYSBASE${i}`, 0x200 + 2 * i, { writable: PHYSICAL_PAGE | 0xffn, feature: "mtrr" });
  define(`IA32_MTRR_PHYSMASK${i}`, 0x201 + 2 * i, { writable: PHYSICAL_PAGE | 0x800n, feature: "mtrr" });
}
define("IA32_MTRR_FIX64K_00000", 0x250, { check: "memory-types", feature: "mtrr" });
define("IA32_MTRR_FIX16K_80000", 0x258, { check: "memory-types", feature: "mtrr" });
define("IA32_MTRR_FIX16K_A0000", 0x259, { check: "memory-types", feature: "mtrr" });
for (let i = 0; i < 8; i++) {
  const start = (0xc0 + 8 * i).toString(16).toUpperCase();
  define(`IA32_MTRR_FIX4K_${start}000`, 0x268 + i, { check: "memory-types", feature: "mtrr" });
}
define("IA32_PAT", IA32_PAT, { field: "pat", reset: PAT_RESET, check: "memory-types", feature: "pat" });
define("IA32_MTRR_DEF_TYPE", IA32_MTRR_DEF_TYPE, { writable: 0xcffn, feature: "mtrr" });
define("IA32_TSC_DEADLINE", IA32_TSC_DEADLINE, { special: "interrupts", feature: "tsc_deadline" });
define("MSR_KVM_WALL_CLOCK_NEW", MSR_KVM_WALL_CLOCK_NEW, { special: "wall-clock" });
define("MSR_KVM_SYSTEM_TIME_NEW", MSR_KVM_SYSTEM_TIME_NEW, { special: "system-time" });
define("IA32_EFER", IA32_EFER, { special: "efer", field: "efer" });
define("IA32_STAR", IA32_STAR, { field: "star", feature: "syscall" });
define("IA32_LSTAR", IA32_LSTAR, { field: "lstar", check: "canonical", feature: "lm" });
define("IA32_CSTAR", IA32_CSTAR, { field: "cstar", check: "canonical", feature: "lm" });
define("IA32_FMASK", IA32_FMASK, { field: "fmask", writable: 0xffff_ffffn, feature: "lm" });
define("IA32_FS_BASE", IA32_FS_BASE, { special: "segment-base", check: "canonical", feature: "lm" });
define("IA32_GS_BASE", IA32_GS_BASE, { special: "segment-base", check: "canonical", feature: "lm" });
define("IA32_KERNEL_GS_BASE", IA32_KERNEL_GS_BASE, { field: "kernelGsBase", check: "canonical", feature: "lm" });
define("IA32_TSC_AUX", IA32_TSC_AUX, { field: "tscAux", writable: 0xffff_ffffn, feature: "rdtscp" });

/** Every register but the x2APIC's, by index. */
export const MSRS: ReadonlyMap<number, Msr> = table;

/** Whether a 64-bit value (unsigned) is a canonical 48-bit address: bits 63:47 all alike. [SDM 1 §3.3.7.1] */
export function isCanonical(value: bigint): boolean {
  const top = BigInt.asIntN(64, value) >> 47n;
  return top === 0n || top === -1n;
}

/** Whether each byte is a memory type: UC 0, WC 1, WT 4, WP 5, WB 6, and for the PAT UC- 7. */
export function areMemoryTypes(value: bigint, highest: 6n | 7n): boolean {
  for (let rest = value; rest !== 0n; rest >>= 8n) {
    const type = rest & 0xffn;
    if (type > highest || type === 2n || type === 3n) return false;
  }
  return true;
}
