/**
 * What a VM and its vCPU's thread tell each other. It stands apart from the thread's own code, which brings the whole
 * engine: the VM's side must not load that into its thread as well.
 */

import type { CpuState } from "../cpu/vcpu.ts";
import type { BoardConfig } from "./board.ts";
import type { ClockOrigin } from "./clock.ts";
import type { EngineFigures } from "./engine-figures.ts";
import { MOST_CPUS, type VmResult } from "./vm-contract.ts";

/** What the VM hands to a vCPU's thread. */
export interface VcpuThreadStart {
  /** Which processor this is; 0 is the one that boots. */
  readonly cpu: number;
  readonly memory: WebAssembly.Memory;
  readonly config: BoardConfig;
  readonly board: SharedArrayBuffer;
  /** CONTROL_BYTES long; its words are named by CONTROL. */
  readonly control: SharedArrayBuffer;
  readonly clock: ClockOrigin;
  /** The boot processor's first state, or any one's saved state; absent: it is reset, and waits to be started. */
  readonly state: CpuState | undefined;
  /** The CPU model by its canonical name. */
  readonly model: string;
  readonly traceUnimplemented: boolean;
  /** Executions of a place before it is compiled; 0: everything is interpreted. */
  readonly compileAfter: number;
}

/** What comes back, in order; `ended` is the last. */
export type VcpuThreadMessage =
  | { readonly kind: "undefined"; readonly bytes: Uint8Array; readonly rip: bigint }
  /** Asked for by CONTROL.report. */
  | { readonly kind: "state"; readonly cpu: number; readonly state: CpuState }
  | { readonly kind: "ended"; readonly result: VmResult; readonly figures?: EngineFigures };

/** Words of the control buffer. */
export const CONTROL = {
  /** Non-zero: end at once. */
  stop: 0,
  exits: 1,
  /** Instructions retired, low and high word. */
  retiredLow: 2,
  retiredHigh: 3,
  /** Non-zero, and another number each time: stand still between two instructions. */
  pause: 4,
  /** Processor time that the whole process may use, in millionths of one processor; 0: as much as it wants. */
  budget: 6,
  /** Time for which the budget held the guest back, in µs; wraps. */
  throttled: 7,
  /** Changes whenever another thread has changed a word above or below: what a waiting thread waits on. */
  signal: 8,
  /** Has changed: each thread that stands still tells its vCPU's state. */
  report: 9,
  /** The threads' answers to a pause, a word for each processor: the number under which it stands still. */
  parked: 16,
} as const;
export const CONTROL_BYTES = 4 * (CONTROL.parked + MOST_CPUS);
