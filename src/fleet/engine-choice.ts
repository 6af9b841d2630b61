/** Which engine a VM gets on this host, and why. */

import type { EngineName } from "../machine/vm-contract.ts";
import { type KvmReport, probeKvm } from "../cpu/kvm/probe.ts";
import { linuxSys } from "../sys/linux.ts";

export interface EngineChoice {
  readonly engine: EngineName;
  /** Why not KVM, in one line, where the portable engine was chosen for want of it. */
  readonly reason?: string;
}

/** What the host's KVM is worth; for choices and for reports. Never throws. */
export function kvmReport(): KvmReport {
  try {
    return probeKvm(linuxSys());
  } catch (error) {
    return { usable: false, missing: [], reason: error instanceof Error ? error.message : String(error) };
  }
}

/** `auto`: KVM where it runs unmodified kernels, and the portable engine elsewhere. */
export function chooseEngine(): EngineChoice {
  const { usable, reason } = kvmReport();
  if (usable) return { engine: "kvm" };
  return { engine: "wasm", ...(reason === undefined ? {} : { reason }) };
}
