/**
 * Memory types as firmware leaves them: everything write-back, but for the devices' window below 4 GiB. Kernels that find
 * the MTRRs off use no page attribute table either. [SDM 3 §12.11.2.1, §12.11.2.3]
 */

import type { CpuState } from "../../cpu/vcpu.ts";
import { HIGH_RAM_START, LOW_RAM_LIMIT } from "../../memory/guest-memory.ts";

const IA32_MTRR_PHYSBASE0 = 0x200;
const IA32_MTRR_PHYSMASK0 = 0x201;
const IA32_MTRR_DEF_TYPE = 0x2ff;
const ENABLE = 1n << 11n;
const VALID = 1n << 11n;
const UNCACHEABLE = 0n;
const WRITE_BACK = 6n;
/** As CPUID tells: 40 bits. */
const PHYSICAL_ADDRESSES = 1n << 40n;

/** Sets the MTRRs in a boot processor's first state, and gives it back. */
export function withMemoryTypes(state: CpuState): CpuState {
  const windowBytes = BigInt(HIGH_RAM_START - LOW_RAM_LIMIT);
  state.msrs.set(IA32_MTRR_PHYSBASE0, BigInt(LOW_RAM_LIMIT) | UNCACHEABLE);
  state.msrs.set(IA32_MTRR_PHYSMASK0, (PHYSICAL_ADDRESSES - windowBytes) | VALID);
  state.msrs.set(IA32_MTRR_DEF_TYPE, ENABLE | WRITE_BACK);
  return state;
}
