/**
 * What the portable engine offers to the parts of it that are written in TypeScript: helpers that instructions call,
 * exception delivery, system registers.
 */

import type { FeatureName } from "../../isa/cpuid-features.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { VcpuHost } from "../vcpu.ts";

/** A guest exception on its way, thrown by helpers and caught where WebAssembly called them. */
export class GuestFault extends Error {
  readonly vector: number;
  /** Undefined for exceptions without an error code. */
  readonly errorCode: number | undefined;

  constructor(vector: number, errorCode?: number) {
    // Nobody reads its stack, which would take longer to write down than all else.
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super("guest exception");
    Error.stackTraceLimit = limit;
    this.vector = vector;
    this.errorCode = errorCode;
  }
}

export interface EngineHost extends VcpuHost {
  /** What the processor has, by CPUID's names. */
  readonly features: ReadonlySet<FeatureName>;
  readonly memory: GuestMemory;
  /** Byte offset in the memory of this vCPU's state [isa/state.ts]. */
  readonly stateBase: number;
  /** Loads from a linear address by the rights of CPL, or of the supervisor (`system`). Throws GuestFault. */
  load(address: bigint, bytes: 1 | 2 | 4 | 8, system?: boolean): bigint;
  /** Stores; a store that crosses pages is checked whole before it begins. Throws GuestFault. */
  store(address: bigint, bytes: 1 | 2 | 4 | 8, value: bigint, system?: boolean): void;
  /** Forgets translations: all, all but global ones, or one page. */
  flushTlb(scope: "all" | "non-global" | bigint): void;
  /** Forgets decoded code: breakpoints of instructions are elsewhere now. */
  forgetCode(): void;
  /** Must be called after CPL, CS/SS attributes, CR0, CR4, EFER or RFLAGS.AC/TF/VM changed: recomputes the derived
   * state (decodeContext, tlbBase, jumpContext). */
  viewChanged(): void;
  /** The same where 64-bit code goes on as 64-bit code, and of all these only CPL and flags changed: quicker. */
  privilegeChanged(): void;
  /** Asks the run loop to return after the present instruction: HLT, shutdown. */
  requestExit(reason: "halt" | "shutdown"): void;
}

/** Functions by the names that effects call (`m.call`, `m.helper`, `m.system`). i64 arguments arrive as bigint. */
export type Helpers = Record<string, (...args: never[]) => number | bigint | undefined | void>;
