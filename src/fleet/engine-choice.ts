/** Which engine a VM gets on this host, and why. */

import type { EngineName } from "../machine/vm-contract.ts";
import { type KvmReport, probeKvm } from "../cpu/kvm/probe.ts";
import { kvmUnfit, type ProcessorWanted } from "./kvm-engine.ts";
import { linuxSys } from "../sys/linux.ts";

export { kvmUnfit, type ProcessorWanted };

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

/** `auto`: KVM where it runs unmodified kernels, and a guest as is `wanted`; the portable engine elsewhere. */
export function chooseEngine(wanted?: ProcessorWanted): EngineChoice {
  const { usable, reason: unusable } = kvmReport();
  const reason = usable ? wanted && kvmUnfit(wanted) : unusable;
  if (usable && reason === undefined) return { engine: "kvm" };
  return { engine: "wasm", ...(reason === undefined ? {} : { reason }) };
}
