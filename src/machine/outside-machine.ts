/**
 * What of a machine an engine may have in its own place: interrupt controllers, interval timer, the processors' clocks.
 * A machine that is saved has them as the board's own devices would be, so that any engine can go on with it.
 */

import type { CpuState } from "../cpu/vcpu.ts";
import type { OutsideInterrupts } from "../devices/interrupts/outside.ts";
import type { SavedBoard } from "./board.ts";

/** Everything beyond OutsideInterrupts is called while no processor runs. */
export interface OutsideMachine extends OutsideInterrupts {
  /** The processors stand still from now on; gives the latest time, in guest ns, that any of them can have seen. */
  stopClock(): number;
  /** The guest's clocks go on from `now`, guest ns: the time-stamp counter is that time and IA32_TSC_ADJUST. */
  startClock(now: number): void;
  /** Its devices, after `stopClock`. `levels`: those of the interrupt lines, a bit a GSI. */
  save(now: number, levels: number): SavedBoard;
  /** Takes its devices out of a saved board. @throws IsolaError `state-invalid`, `state-version` */
  restore(saved: SavedBoard): OutsideParts;
}

export interface OutsideParts {
  /** What is the board's own. */
  readonly others: SavedBoard;
  /** Puts the rest in place, once the board's lines have their levels. @throws IsolaError where the engine refuses it */
  settle(machine: { readonly vcpus: readonly CpuState[]; readonly levels: number; readonly now: number }): void;
}
