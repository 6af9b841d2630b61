/**
 * Register values after power-up or RESET, and the flat segments that boot protocols ask for.
 * [SDM 3 §10.1.1, table "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT"; AMD APM 2 §14.1.3]
 * The APIC base is not here: it belongs to the interrupt controller.
 */

import { type CpuState, GPR_NAMES, SEGMENT_NAMES, type GprName, type SegmentName, type SegmentState } from "./vcpu.ts";

/** EDX at reset holds the processor's signature (CPUID leaf 1, EAX); family 6 where the engine gives none. */
const DEFAULT_SIGNATURE = 0x0600n;

const CR0_RESET = 0x6000_0010n; // CD, NW, ET
const PAT_RESET = 0x0007_0406_0007_0406n;
/** Fast string operations on. [SDM 4, IA32_MISC_ENABLE] */
const MISC_ENABLE_RESET = 1n;

/** Offsets in the FXSAVE image. [SDM 1 §10.5.1] */
const FX_FCW = 0;
const FX_ABRIDGED_FTW = 4;
const FX_MXCSR = 24;

/** Architectural MSRs by index; every one has a value after reset. [SDM 4 §2.1] */
export const MSR = {
  IA32_SYSENTER_CS: 0x174,
  IA32_SYSENTER_ESP: 0x175,
  IA32_SYSENTER_EIP: 0x176,
  IA32_MISC_ENABLE: 0x1a0,
  IA32_PAT: 0x277,
  IA32_EFER: 0xc0000080,
  IA32_STAR: 0xc0000081,
  IA32_LSTAR: 0xc0000082,
  IA32_CSTAR: 0xc0000083,
  IA32_FMASK: 0xc0000084,
  IA32_KERNEL_GS_BASE: 0xc0000102,
  IA32_TSC_AUX: 0xc0000103,
} as const;

/** A real-mode segment at 0, and the system segments that LDTR and TR hold at reset; attributes as bits 55:40. */
const REAL_MODE_DATA = 0x0093;
const LDT = 0x0082;
const BUSY_TSS32 = 0x008b;

function segment(selector: number, base: bigint, limit: number, attributes: number): SegmentState {
  return { selector, base, limit, attributes };
}

/** The state after RESET, with no allocation shared between calls. */
export function resetState(signature = DEFAULT_SIGNATURE): CpuState {
  const gpr = Object.fromEntries(GPR_NAMES.map((name) => [name, 0n])) as Record<GprName, bigint>;
  gpr.rdx = signature;
  const segments = Object.fromEntries(
    SEGMENT_NAMES.map((name) => [name, segment(0, 0n, 0xffff, REAL_MODE_DATA)]),
  ) as Record<SegmentName, SegmentState>;
  // The first instruction lies 16 bytes below 4 GiB, though the selector says 0xf0000.
  segments.cs = segment(0xf000, 0xffff_0000n, 0xffff, REAL_MODE_DATA);
  segments.ldtr = segment(0, 0n, 0xffff, LDT);
  segments.tr = segment(0, 0n, 0xffff, BUSY_TSS32);
  const fx = new Uint8Array(512);
  const view = new DataView(fx.buffer);
  view.setUint16(FX_FCW, 0x0040, true);
  // Power-up tags every register as zero, hence as not empty: FTW is 0x5555.
  view.setUint8(FX_ABRIDGED_FTW, 0xff);
  view.setUint32(FX_MXCSR, 0x1f80, true);
  const msrs = new Map<number, bigint>(Object.values(MSR).map((index) => [index, 0n]));
  msrs.set(MSR.IA32_PAT, PAT_RESET).set(MSR.IA32_MISC_ENABLE, MISC_ENABLE_RESET);
  return {
    gpr,
    rip: 0xfff0n,
    rflags: 2n,
    segments,
    gdtr: { base: 0n, limit: 0xffff },
    idtr: { base: 0n, limit: 0xffff },
    cr0: CR0_RESET,
    cr2: 0n,
    cr3: 0n,
    cr4: 0n,
    xcr0: 1n,
    dr: [0n, 0n, 0n, 0n, 0xffff_0ff0n, 0x400n],
    msrs,
    fx,
    activity: "running",
    interruptShadow: false,
    nmiBlocked: false,
  };
}

/** Attributes of flat 4 GiB segments, bits 55:40 without the limit's nibble. */
export const FLAT_CODE64 = 0xa09b; // G, L, present, code, readable, accessed
export const FLAT_CODE32 = 0xc09b; // G, D
export const FLAT_DATA = 0xc093; // G, B, present, data, writable, accessed

export function flatSegment(selector: number, attributes: number): SegmentState {
  return segment(selector, 0n, 0xffff_ffff, attributes);
}

/** The descriptor of a flat segment as it lies in a descriptor table. [SDM 3 §3.4.5] */
export function flatDescriptor(attributes: number): bigint {
  // Limit 15:0, then the attributes at bit 40, then limit 19:16 at bit 48; all bases are zero.
  return 0xffffn | (BigInt(attributes) << 40n) | (0xfn << 48n);
}
