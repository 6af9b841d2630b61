/**
 * The thread of a vCPU of the portable engine: runs guest code, serves timers, sleeps when the guest halts. It never
 * returns to its event loop while the guest lives, so all that reaches it from outside lies in shared memory.
 */

import type { CompileService } from "../cpu/wasm/compiler/compile-job.ts";
import type { CompilerOptions } from "../cpu/wasm/compiler/region-compiler.ts";
import { PortableVcpu } from "../cpu/wasm/portable-vcpu.ts";
import type { Vcpu } from "../cpu/vcpu.ts";
import { EVERY_FEATURE, parseCpuModel } from "../isa/cpu-models.ts";
import { ENGINE_BYTES, GuestMemory } from "../memory/guest-memory.ts";
import { Board } from "./board.ts";
import { HostClock } from "./clock.ts";
import { PAGE_BYTES } from "./code-notices.ts";
import type { EngineFigures } from "./engine-figures.ts";
import { CONTROL, type VcpuThreadMessage, type VcpuThreadStart } from "./vcpu-messages.ts";
import { VcpuGovernor } from "./vcpu-governor.ts";
import type { VmResult } from "./vm-contract.ts";

const NS_PER_MS = 1e6;
/** A halted vCPU with no timer looks up this often, in ms, in case a wake-up was for nothing. */
const LONGEST_SLEEP_MS = 60_000;
/** Compiled code at most, in bytes of WebAssembly; the host's code is some times as large. */
const COMPILED_BYTES = 16 * 2 ** 20;

/** What a vCPU's thread needs of the place where it runs. */
export interface VcpuThreadPlace {
  post(message: VcpuThreadMessage): void;
  /** µs of processor time that the whole process has used; absent where that is not known: then no budget holds. */
  readonly usedMicros?: () => number;
  /**
   * Called before the thread waits for its guest's next interrupt: time to put things in order. `trim` gives up what the
   * engine can do without.
   */
  readonly rest?: (trim: () => void) => void;
  /** Compiles beside the guest; absent: the guest waits while its code is compiled. */
  readonly compile?: (memory: WebAssembly.Memory, ramBytes: number, model: string) => CompileService;
}

export function runVcpuThread(start: VcpuThreadStart, place: VcpuThreadPlace): void {
  const busy = { ms: 0 };
  const { vcpu, result } = run(start, place, busy);
  place.post({ kind: "ended", result, figures: figuresOf(vcpu, busy.ms / 1000) });
}

function figuresOf(vcpu: PortableVcpu, seconds: number): EngineFigures {
  const stats = vcpu.compilerStats;
  return {
    instructions: Number(vcpu.retired),
    compiledInstructions: Number(vcpu.compiled),
    exits: { ...vcpu.exits },
    seconds,
    ...(stats === undefined ? {} : { compiler: { ...stats } }),
  };
}

/** `busy` sums up the milliseconds spent in the guest. */
function run(
  start: VcpuThreadStart,
  place: VcpuThreadPlace,
  busy: { ms: number },
): { vcpu: PortableVcpu; result: VmResult } {
  const control = new Int32Array(start.control);
  const clock = new HostClock(start.clock);
  const memory = GuestMemory.attach(start.memory, start.config.ramBytes);
  const board = new Board({
    ...start.config,
    clock,
    memory,
    shared: start.board,
    onGateA20: (open) => vcpu.gateA20(open),
    onDeviceWrites: ({ byteOffset, byteLength }) => vcpu.deviceWrote(byteOffset, byteLength),
  });
  const vcpu: PortableVcpu = new PortableVcpu(
    memory,
    { bus: board.bus, interrupts: board.interrupts, clock },
    {
      features: parseCpuModel(start.model, EVERY_FEATURE).features,
      ...(start.traceUnimplemented
        ? { onUndefined: (bytes, rip) => place.post({ kind: "undefined", bytes, rip }) }
        : {}),
      ...(start.compileAfter > 0 ? { compiler: compilerOptions(start, place) } : {}),
    },
  );
  if (!board.a20Open) vcpu.gateA20(false);
  if (start.state !== undefined) vcpu.state.load(start.state);
  const governor = new VcpuGovernor(start, {
    board,
    between: () => forgetCode(board, vcpu, memory.ramBytes),
    report: () => place.post({ kind: "state", cpu: start.cpu, state: vcpu.state.save() }),
    ...(place.usedMicros === undefined ? {} : { usedMicros: place.usedMicros }),
  });
  const trim = (): void => vcpu.trim();
  governor.begin();
  for (let exits = 1; ; exits++) {
    const began = performance.now();
    const exit = vcpu.run();
    busy.ms += performance.now() - began;
    const now = clock.now();
    if (board.nextDeadline() <= now) board.runTimers(now);
    control[CONTROL.exits] = exits;
    const { retired } = vcpu;
    control[CONTROL.retiredLow] = Number(retired & 0xffff_ffffn);
    control[CONTROL.retiredHigh] = Number(retired >> 32n);
    const result = governor.settle(exit);
    if (result !== undefined) return { vcpu, result };
    if (exit.kind === "halt" && !governor.pausing) {
      place.rest?.(trim);
      sleep(board, clock, exit.masked);
    }
  }
}

function compilerOptions(start: VcpuThreadStart, { compile }: VcpuThreadPlace): CompilerOptions {
  const options = { threshold: start.compileAfter, maxBytes: COMPILED_BYTES };
  // What is compiled at once is to be there at once.
  if (compile === undefined || start.compileAfter === 1) return options;
  return { ...options, service: compile(start.memory, start.config.ramBytes, start.model) };
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
