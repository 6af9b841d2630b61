/**
 * Whether the portable processor can go on from a state that another processor, or a file, gives. It takes what its own
 * guests could have brought about, and nothing else. [SDM 3 §2.3, §2.5, §9.7.2; SDM 4]
 */

import type { FeatureName } from "../../isa/cpuid-features.ts";
import { supportedXcr0 } from "../../isa/cpuid.ts";
import { VM } from "../../isa/flags.ts";
import {
  areMemoryTypes,
  EFER_LMA,
  EFER_LME,
  IA32_EFER,
  IA32_PAT,
  IA32_TIME_STAMP_COUNTER,
  isCanonical,
  type Msr,
  MSRS,
} from "../../isa/msrs.ts";
import type { CpuState } from "../vcpu.ts";
import { CR0, CR4, MXCSR_MASK } from "./state-view.ts";
import { CR0_BITS, cr4Bits, eferBits } from "./system/control-registers.ts";

/** Arithmetic, system and IOPL flags, and bit 1, which is always set. */
const RFLAGS_BITS = 0x3f_7fd7n;
const DR6_BITS = 0xffff_ffffn;
const MXCSR = 24;

/** What is in the way, as the end of a sentence; undefined: nothing. `first`: of the processor that starts the others. */
export function unloadable(state: CpuState, features: ReadonlySet<FeatureName>, first = true): string | undefined {
  const extra = (name: string, value: bigint, bits: number | bigint): string | undefined => {
    const beyond = value & ~(typeof bits === "bigint" ? bits : BigInt(bits >>> 0));
    return beyond === 0n ? undefined : `${name} has bits 0x${beyond.toString(16)}, which this processor lacks`;
  };
  const efer = state.msrs.get(IA32_EFER) ?? 0n;
  const mxcsr = new DataView(state.fx.buffer, state.fx.byteOffset, state.fx.length).getUint32(MXCSR, true);
  return (
    // ET is fixed to 1.
    extra("CR0", state.cr0, CR0_BITS | CR0.ET) ??
    extra("CR4", state.cr4, cr4Bits(features)) ??
    extra("EFER", efer, eferBits(features)) ??
    extra("XCR0", state.xcr0, supportedXcr0(features) | 1) ??
    extra("RFLAGS", state.rflags, RFLAGS_BITS) ??
    extra("MXCSR", BigInt(mxcsr), MXCSR_MASK) ??
    extra("DR6", state.dr[4], DR6_BITS) ??
    extra("DR7", state.dr[5], DR6_BITS) ??
    impossible(state, efer, first) ??
    unknownMsr(state)
  );
}

/** Modes that no sequence of instructions leads to. */
function impossible({ cr0, cr4, rflags, activity }: CpuState, efer: bigint, first: boolean): string | undefined {
  const paging = (cr0 & BigInt(CR0.PG)) !== 0n;
  const long = (efer & BigInt(EFER_LMA)) !== 0n;
  const wanted = paging && (efer & BigInt(EFER_LME)) !== 0n;
  if (paging && (cr0 & BigInt(CR0.PE)) === 0n) return "CR0 has paging without protection";
  if (long !== wanted) return "EFER.LMA is not what EFER.LME and CR0.PG make it";
  if (long && (cr4 & BigInt(CR4.PAE)) === 0n) return "long mode is on without PAE";
  if (long && (rflags & BigInt(VM)) !== 0n) return "virtual-8086 mode is on in long mode";
  if (first && activity === "wait-for-startup") return "the first processor waits for another to start it";
  return undefined;
}

/** A register that this processor lacks is no loss while it is zero. */
function unknownMsr({ msrs }: CpuState): string | undefined {
  for (const [index, value] of msrs) {
    if (index === IA32_TIME_STAMP_COUNTER) continue;
    const msr = MSRS.get(index);
    const name = msr?.name ?? `MSR 0x${index.toString(16)}`;
    if (msr === undefined ? value !== 0n : !takes(msr, value)) {
      return `${name} holds 0x${value.toString(16)}, which this processor cannot`;
    }
  }
  return undefined;
}

function takes({ index, writable, reset, check, special }: Msr, value: bigint): boolean {
  if (index === IA32_EFER || special === "interrupts") return true;
  if (check === "canonical" && !isCanonical(value)) return false;
  if (check === "memory-types" && !areMemoryTypes(value, index === IA32_PAT ? 7n : 6n)) return false;
  return (value & ~writable) === (reset & ~writable);
}
