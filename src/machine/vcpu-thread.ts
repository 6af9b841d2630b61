/**
 * The thread of a vCPU: runs guest code, serves timers, sleeps when the guest halts. It never returns to its event loop
 * while the guest lives, so all that reaches it from outside lies in shared memory.
 */

import { PortableVcpu } from "../cpu/wasm/portable-vcpu.ts";
import type { Vcpu } from "../cpu/vcpu.ts";
import { ENGINE_BYTES, GuestMemory } from "../memory/guest-memory.ts";
import { Board } from "./board.ts";
import { HostClock } from "./clock.ts";
import { PAGE_BYTES } from "./code-notices.ts";
import { CpuLimiter } from "./cpu-limiter.ts";
import { CONTROL, type VcpuThreadMessage, type VcpuThreadStart } from "./vcpu-messages.ts";
import type { VmResult } from "./vm-contract.ts";

const NS_PER_MS = 1e6;
/** A halted vCPU with no timer looks up this often, in ms, in case a wake-up was for nothing. */
const LONGEST_SLEEP_MS = 60_000;

/** What a vCPU's thread needs of the place where it runs. */
export interface VcpuThreadPlace {
  post(message: VcpuThreadMessage): void;
  /** µs of processor time that the whole process has used; absent where that is not known: then no budget holds. */
  readonly usedMicros?: () => number;
}

export function runVcpuThread(start: VcpuThreadStart, place: VcpuThreadPlace): void {
  place.post({ kind: "ended", result: run(start, place) });
}

function run(start: VcpuThreadStart, place: VcpuThreadPlace): VmResult {
  const control = new Int32Array(start.control);
  const clock = new HostClock(start.clock);
  const memory = GuestMemory.attach(start.memory, start.config.ramBytes);
  const board = new Board({ ...start.config, clock, memory, shared: start.board });
  const vcpu = new PortableVcpu(
    memory,
    { bus: board.bus, interrupts: board.interrupts, clock },
    start.traceUnimplemented ? { onUndefined: (bytes, rip) => place.post({ kind: "undefined", bytes, rip }) } : {},
  );
  vcpu.state.load(start.state);
  const { usedMicros } = place;
  const forget = (): void => forgetCode(board, vcpu, memory.ramBytes);
  const limiter = usedMicros && new CpuLimiter(control, { now: () => performance.now(), usedMicros });
  for (let exits = 1; ; exits++) {
    const exit = vcpu.run();
    const now = clock.now();
    if (board.nextDeadline() <= now) board.runTimers(now);
    control[CONTROL.exits] = exits;
    const { retired } = vcpu;
    control[CONTROL.retiredLow] = Number(retired & 0xffff_ffffn);
    control[CONTROL.retiredHigh] = Number(retired >> 32n);
    limiter?.limit();
    if (Atomics.load(control, CONTROL.pause) !== 0) park(control, forget);
    forget();
    if (Atomics.load(control, CONTROL.stop) !== 0) return { kind: "stopped" };
    const { powerOff, reset, debugExit } = board.requests;
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
      return { kind: "internal-error", message: `${exit.message} at rip 0x${exit.rip.toString(16)}` };
    }
    if (exit.kind === "halt" && Atomics.load(control, CONTROL.pause) === 0) sleep(board, clock, exit.masked);
  }
}

/** Forgets the code that devices have overwritten. */
function forgetCode(board: Board, vcpu: Vcpu, ramBytes: number): void {
  const { codeNotices } = board;
  if (!codeNotices.waiting) return;
  board.enter(() => {
    const pages = codeNotices.take();
    if (pages === "all") vcpu.deviceWrote(ENGINE_BYTES, ramBytes);
    else for (const page of pages) vcpu.deviceWrote(ENGINE_BYTES + page * PAGE_BYTES, PAGE_BYTES);
    codeNotices.finish();
  });
}

/** Stands still until the pause, or the VM, is over. Devices that end their work meanwhile are served by `forget`. */
function park(control: Int32Array, forget: () => void): void {
  for (;;) {
    const ticket = Atomics.load(control, CONTROL.signal);
    forget();
    const pause = Atomics.load(control, CONTROL.pause);
    Atomics.store(control, CONTROL.parked, pause);
    Atomics.notify(control, CONTROL.parked);
    if (pause === 0 || Atomics.load(control, CONTROL.stop) !== 0) return;
    Atomics.wait(control, CONTROL.signal, ticket);
  }
}

/** Waits for an interrupt, or for the next timer. Where interrupts are `masked`, those that are pending change nothing. */
function sleep(board: Board, clock: HostClock, masked: boolean): void {
  const ticket = board.wakeTicket();
  const { interrupts } = board;
  if ((interrupts.pending() && !masked) || interrupts.nmiPending() || board.requests.powerOff) return;
  if (board.codeNotices.waiting) return;
  const ms = (board.nextDeadline() - clock.now()) / NS_PER_MS;
  if (ms > 0) board.sleep(ticket, Math.min(ms, LONGEST_SLEEP_MS));
  const now = clock.now();
  if (board.nextDeadline() <= now) board.runTimers(now);
}
