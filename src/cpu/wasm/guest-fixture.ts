/** A small guest for tests of the engine: 4 MiB, 64-bit mode in ring 0, no interrupts. */

import { GuestMemory } from "../../memory/guest-memory.ts";
import { quietHost } from "../quiet-host.ts";
import { FLAT_CODE64, FLAT_DATA, flatSegment, MSR, resetState } from "../reset-state.ts";
import type { CpuState } from "../vcpu.ts";
import { type PortableOptions, PortableVcpu } from "./portable-vcpu.ts";

const MIB = 1024 * 1024;
export const CODE = 0x10_0000;
/** The same RAM once more, as another mapping. */
export const ALIAS = 0x4000_0000;
const TABLES = 0x1000;
/** What waits to be compiled is compiled between two slices: of so many instructions here, for a slice by the clock may
 * see a whole program to its end on a fast machine. */
const SLICE_INSTRUCTIONS = 200;
const MOST_SLICES = 1_000_000;

/** A 64-bit guest in ring 0: the first GiB mapped to itself, and again at ALIAS. */
export class Guest {
  readonly memory = GuestMemory.create(4 * MIB);
  readonly undefined: string[] = [];
  readonly vcpu: PortableVcpu;

  constructor(options: PortableOptions = {}) {
    this.vcpu = new PortableVcpu(this.memory, quietHost(), {
      onUndefined: (bytes) =>
        this.undefined.push(Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")),
      ...(options.compiler === undefined
        ? {}
        : { pace: () => ({ instructions: SLICE_INSTRUCTIONS, looks: true, exact: false }) }),
      ...options,
    });
    const table = new DataView(
      this.memory.slice(TABLES, 0x2000)?.buffer ?? new ArrayBuffer(0),
      this.memory.offsetOf(TABLES, 1),
    );
    table.setBigUint64(0, BigInt(TABLES + 0x1000) | 3n, true);
    table.setBigUint64(0x1000, 0x83n, true);
    table.setBigUint64(0x1008, 0x83n, true);
  }

  /** Runs code at CODE until it halts; `change` alters the state in which it begins. */
  run(code: Uint8Array, change: (state: CpuState) => void = () => undefined): CpuState {
    this.memory.slice(CODE, code.length)?.set(code);
    const state = resetState();
    state.segments.cs = flatSegment(8, FLAT_CODE64);
    for (const name of ["ss", "ds", "es"] as const) state.segments[name] = flatSegment(16, FLAT_DATA);
    state.cr0 = 0x8000_0011n;
    state.cr3 = BigInt(TABLES);
    state.cr4 = 0x620n;
    state.msrs.set(MSR.IA32_EFER, 0x500n);
    state.rip = BigInt(CODE);
    state.gpr.rsp = 0x20_0000n;
    state.rflags = 2n;
    change(state);
    this.vcpu.state.load(state);
    for (let i = 0; i < MOST_SLICES; i++) {
      const exit = this.vcpu.run();
      if (exit.kind === "halt") return this.vcpu.state.save();
      if (exit.kind !== "slice") {
        const shown = JSON.stringify(exit, (_, v: unknown) => (typeof v === "bigint" ? `0x${v.toString(16)}` : v));
        throw new Error(`the guest ended: ${shown}`);
      }
    }
    throw new Error("the guest did not halt");
  }
}
