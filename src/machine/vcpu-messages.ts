/**
 * What a VM and its vCPU's thread tell each other. It stands apart from the thread's own code, which brings the whole
 * engine: the VM's side must not load that into its thread as well.
 */

import type { CpuState } from "../cpu/vcpu.ts";
import type { ClockOrigin } from "./clock.ts";
import type { VmResult } from "./vm-contract.ts";

/** What the VM hands to its vCPU's thread. */
export interface VcpuThreadStart {
  readonly memory: WebAssembly.Memory;
  readonly ramBytes: number;
  readonly board: SharedArrayBuffer;
  /** CONTROL_BYTES long; its words are named by CONTROL. */
  readonly control: SharedArrayBuffer;
  readonly clock: ClockOrigin;
  readonly state: CpuState;
  readonly traceUnimplemented: boolean;
}

/** What comes back, in order; `ended` is the last. */
export type VcpuThreadMessage =
  | { readonly kind: "undefined"; readonly bytes: Uint8Array; readonly rip: bigint }
  | { readonly kind: "ended"; readonly result: VmResult };

/** Words of the control buffer. */
export const CONTROL = {
  /** Non-zero: end at once. */
  stop: 0,
  exits: 1,
  /** Instructions retired, low and high word. */
  retiredLow: 2,
  retiredHigh: 3,
} as const;
export const CONTROL_BYTES = 64;
