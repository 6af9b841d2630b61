/** What a vCPU's thread does whenever its engine returns: keep to the budget, stand still when told, and see the end. */

import type { VcpuExit } from "../cpu/vcpu.ts";
import type { Board } from "./board.ts";
import { CpuLimiter } from "./cpu-limiter.ts";
import { CONTROL, type VcpuThreadStart } from "./vcpu-messages.ts";
import type { VmResult } from "./vm-contract.ts";

export interface VcpuGovernorOptions {
  readonly board: Board;
  /** µs of processor time that the whole process has used; absent: no budget holds. */
  readonly usedMicros?: () => number;
  /** What the thread owes the rest of the machine between two slices, standing still or not. */
  readonly between?: () => void;
  /** Tells the vCPU's state to whoever saves the machine; called only while it stands still. */
  readonly report: () => void;
}

export class VcpuGovernor {
  readonly #control: Int32Array;
  readonly #board: Board;
  readonly #cpu: number;
  readonly #between: (() => void) | undefined;
  readonly #report: () => void;
  #reported = 0;
  readonly #limiter: CpuLimiter | undefined;

  constructor({ control, cpu }: VcpuThreadStart, options: VcpuGovernorOptions) {
    const { board, usedMicros, between, report } = options;
    this.#report = report;
    this.#control = new Int32Array(control);
    this.#board = board;
    this.#cpu = cpu;
    this.#between = between;
    this.#limiter = usedMicros && new CpuLimiter(this.#control, { now: () => performance.now(), usedMicros });
  }

  /** Whether the VM is to stand still: then the thread must not sleep anywhere else. */
  get pausing(): boolean {
    return Atomics.load(this.#control, CONTROL.pause) !== 0;
  }

  /** To be called before the first run: a machine that is restored begins standing still. */
  begin(): void {
    if (this.pausing) this.#park();
  }

  /** The VM's result, or undefined where the vCPU is to run on. */
  settle(exit: VcpuExit): VmResult | undefined {
    const control = this.#control;
    this.#limiter?.limit();
    this.#between?.();
    if (Atomics.load(control, CONTROL.stop) !== 0) return { kind: "stopped" };
    const { powerOff, reset, debugExit } = this.#board.requests;
    if (debugExit !== undefined) return { kind: "debug-exit", value: debugExit };
    if (powerOff) return { kind: "power-off" };
    if (reset) return { kind: "reset" };
    if (exit.kind === "shutdown") {
      return {
        kind: "triple-fault",
        message: `the guest's processor shut down (triple fault) at rip 0x${exit.rip.toString(16)}`,
      };
    }
    if (exit.kind === "internal-error") {
      const { details } = exit;
      const message = `${exit.message} at rip 0x${exit.rip.toString(16)}`;
      return { kind: "internal-error", message, ...(details === undefined ? {} : { details }) };
    }
    // What ends the guest is no part of a saved state, so it was looked at before.
    if (this.pausing) this.#park();
    return Atomics.load(control, CONTROL.stop) === 0 ? undefined : { kind: "stopped" };
  }

  /** Stands still until the pause, or the VM, is over. */
  #park(): void {
    const control = this.#control;
    const parked = CONTROL.parked + this.#cpu;
    for (;;) {
      const ticket = Atomics.load(control, CONTROL.signal);
      this.#between?.();
      const pause = Atomics.load(control, CONTROL.pause);
      Atomics.store(control, parked, pause);
      Atomics.notify(control, parked);
      if (pause === 0 || Atomics.load(control, CONTROL.stop) !== 0) return;
      const wanted = Atomics.load(control, CONTROL.report);
      if (wanted !== this.#reported) {
        this.#reported = wanted;
        this.#report();
      }
      Atomics.wait(control, CONTROL.signal, ticket);
    }
  }
}
