/**
 * What SSE effects call for: exact floating point where WebAssembly's own would not do, and byte-masked stores
 * [SDM 1 §11.5, SDM 2 MASKMOVDQU]. Operands lie in the vCPU's state and are named by their offsets in it.
 */

import { unmasked } from "../../../isa/float/sse.ts";
import { ssePacked } from "../../../isa/float/sse-packed.ts";
import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { type EngineHost, GuestFault, type Helpers } from "../engine-host.ts";
import { sse42Helpers } from "./sse42.ts";

const CR4_OSXMMEXCPT = 1 << 10;
const FLAGS = 0x3f;

export function sseHelpers(host: EngineHost): Helpers {
  const { view } = host.memory;
  const base = host.stateBase;
  const mxcsrAt = base + STATE.mxcsr.offset;

  /** Runs one instruction and merges its exceptions into MXCSR. @returns EFLAGS bits of compares */
  const run = (code: number, destination: number, source: number): number => {
    const mxcsr = view.getUint32(mxcsrAt, true);
    const raised = ssePacked(code, view, base + destination, base + destination, base + source, mxcsr);
    const flags = raised & FLAGS;
    if (flags !== 0) {
      view.setUint32(mxcsrAt, mxcsr | flags, true);
      if (unmasked(flags, mxcsr) !== 0) {
        const supported = (view.getUint32(base + STATE.cr4.offset, true) & CR4_OSXMMEXCPT) !== 0;
        throw new GuestFault(supported ? EXCEPTION.XM : EXCEPTION.UD);
      }
    }
    return raised >> 8;
  };

  return {
    ...sse42Helpers(host),
    /** (operation [sse-packed.ts], destination, source): the destination is the first source too. */
    sseExact(code: number, destination: number, source: number): void {
      run(code, destination, source);
    },
    /** (operation, first, second): ZF, PF and CF at their places in EFLAGS. */
    sseCompare(code: number, first: number, second: number): number {
      return run(code, first, second);
    },
    /** (linear address, data, mask, bytes): stores the bytes whose mask byte has bit 7 set. */
    sseMaskMove(address: bigint, data: number, mask: number, bytes: number): void {
      for (let i = 0; i < bytes; i++) {
        if (view.getInt8(base + mask + i) < 0) {
          host.store(address + BigInt(i), 1, BigInt(view.getUint8(base + data + i)));
        }
      }
    },
  };
}
