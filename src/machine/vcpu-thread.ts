/**
 * The thread of a vCPU: runs guest code, serves timers, sleeps when the guest halts. It never returns to its event loop
 * while the guest lives, so all that reaches it from outside lies in shared memory.
 */

import { PortableVcpu } from "../cpu/wasm/portable-vcpu.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import { Board } from "./board.ts";
import { HostClock } from "./clock.ts";
import { CONTROL, type VcpuThreadMessage, type VcpuThreadStart } from "./vcpu-messages.ts";
import type { VmResult } from "./vm-contract.ts";

const NS_PER_MS = 1e6;
/** A halted vCPU with no timer looks up this often, in ms, in case a wake-up was for nothing. */
const LONGEST_SLEEP_MS = 60_000;

export function runVcpuThread(start: VcpuThreadStart, post: (message: VcpuThreadMessage) => void): void {
  post({ kind: "ended", result: run(start, post) });
}

function run(start: VcpuThreadStart, post: (message: VcpuThreadMessage) => void): VmResult {
  const control = new Int32Array(start.control);
  const clock = new HostClock(start.clock);
  const memory = GuestMemory.attach(start.memory, start.ramBytes);
  const board = new Board({ clock, ramBytes: start.ramBytes, vcpus: 1, shared: start.board });
  const vcpu = new PortableVcpu(
    memory,
    { bus: board.bus, interrupts: board.interrupts, clock },
    start.traceUnimplemented ? { onUndefined: (bytes, rip) => post({ kind: "undefined", bytes, rip }) } : {},
  );
  vcpu.state.load(start.state);
  for (let exits = 1; ; exits++) {
    const exit = vcpu.run();
    const now = clock.now();
    if (board.nextDeadline() <= now) board.runTimers(now);
    control[CONTROL.exits] = exits;
    const { retired } = vcpu;
    control[CONTROL.retiredLow] = Number(retired & 0xffff_ffffn);
    control[CONTROL.retiredHigh] = Number(retired >> 32n);
    if (Atomics.load(control, CONTROL.stop) !== 0) return { kind: "stopped" };
    const { powerOff, reset } = board.requests;
    if (powerOff) return { kind: "power-off" };
    if (reset) return { kind: "reset" };
    if (exit.kind === "shutdown") {
      return {
        kind: "triple-fault",
        message: `the guest's processor shut down (triple fault) at rip 0x${exit.rip.toString(16)}`,
      };
    }
    if (exit.kind === "internal-error") {
      return { kind: "internal-error", message: `${exit.message} at rip 0x${exit.rip.toString(16)}` };
    }
    if (exit.kind === "halt") sleep(board, clock, exit.masked);
  }
}

/** Waits for an interrupt, or for the next timer. Where interrupts are `masked`, those that are pending change nothing. */
function sleep(board: Board, clock: HostClock, masked: boolean): void {
  const ticket = board.wakeTicket();
  const { interrupts } = board;
  if ((interrupts.pending() && !masked) || interrupts.nmiPending() || board.requests.powerOff) return;
  const ms = (board.nextDeadline() - clock.now()) / NS_PER_MS;
  if (ms > 0) board.sleep(ticket, Math.min(ms, LONGEST_SLEEP_MS));
  const now = clock.now();
  if (board.nextDeadline() <= now) board.runTimers(now);
}
