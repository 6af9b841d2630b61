/** For tests: a board with nothing on it. No interrupt comes, no port or device answers, the clock stands still. */

import type { VcpuHost } from "./vcpu.ts";

/** `writePort` hears of what the guest writes to ports. */
export function quietHost(writePort: VcpuHost["bus"]["writePort"] = () => {}): VcpuHost {
  return {
    bus: { readPort: () => 0, writePort, readMmio: () => 0, writeMmio: () => {} },
    interrupts: {
      pending: () => false,
      acknowledge: () => 0,
      readMsr: () => undefined,
      writeMsr: () => false,
      taskPriority: 0,
    },
    clock: { now: () => 0, tscHz: 1e9, bootTime: 0n },
  };
}
