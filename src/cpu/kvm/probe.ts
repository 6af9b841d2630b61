/** Whether this host's KVM runs unmodified kernels: what it offers, and what a guest of its own finds. */

import { IsolaError } from "../../base/errors.ts";
import type { Sys } from "../../sys/sys.ts";
import { KVM_EXIT, KVM_RUN_IO, type KvmCapability, kvmExitName } from "./abi.ts";
import { flatSegment, resetState } from "../reset-state.ts";
import { Kvm } from "./kvm.ts";
import { PROBE_BYTES, PROBE_INSTRUCTIONS, PROBE_PORT, PROBE_STATE, writeProbe } from "./probe-program.ts";
import { loadState } from "./state.ts";

/** What isola cannot do without. */
const NEEDED: readonly KvmCapability[] = [
  "IRQCHIP",
  "USER_MEMORY",
  "SET_TSS_ADDR",
  "EXT_CPUID",
  "MP_STATE",
  "IRQ_ROUTING",
  "PIT2",
  "DEBUGREGS",
  "GET_TSC_KHZ",
  "SIGNAL_MSI",
  "IMMEDIATE_EXIT",
];

/**
 * A processor that executes ring 0 takes far less than a tenth of this for a round, even an emulated one with nested
 * paging; a KVM that emulates every instruction takes 0.3 µs each. One undisturbed round is enough.
 */
const ROUND_LIMIT_MS = 12;
const ROUNDS = 5;
/** The whole probe is ended after this. */
const PATIENCE_MS = 2000;

export interface KvmReport {
  /** Whether `--engine auto` takes it. */
  readonly usable: boolean;
  /** Why not, in one line. */
  readonly reason?: string;
  /** Processors of one VM at the most. */
  readonly maxCpus?: number;
  readonly missing: readonly KvmCapability[];
  /** Ring-0 instructions a second that the probe's guest ran, in its best round. */
  readonly ring0PerSecond?: number;
}

/** Never throws for what a host can be like. Takes a few milliseconds, where ring 0 is emulated a few hundred. */
export function probeKvm(sys: Sys): KvmReport {
  let kvm: Kvm;
  try {
    kvm = Kvm.open(sys);
  } catch (error) {
    return { usable: false, missing: [], reason: lineOf(error) };
  }
  using host = kvm;
  const missing = NEEDED.filter((name) => host.capability(name) === 0);
  const maxCpus = host.capability("MAX_VCPUS");
  if (missing.length > 0) {
    return { usable: false, missing, maxCpus, reason: `/dev/kvm lacks ${missing.join(", ")}` };
  }
  try {
    const bestMs = runProbe(host);
    const ring0PerSecond = Math.round((PROBE_INSTRUCTIONS / bestMs) * 1000);
    if (bestMs <= ROUND_LIMIT_MS) return { usable: true, missing, maxCpus, ring0PerSecond };
    const millions = (ring0PerSecond / 1e6).toFixed(1);
    const reason = `/dev/kvm emulates ring 0: ${millions} million instructions a second`;
    return { usable: false, missing, maxCpus, ring0PerSecond, reason };
  } catch (error) {
    return { usable: false, missing, maxCpus, reason: lineOf(error) };
  }
}

const lineOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Milliseconds of the best round. @throws IsolaError `kvm-unavailable` where the guest does not get so far */
function runProbe(kvm: Kvm): number {
  const { sys } = kvm;
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const bytes = new Uint8Array(memory.buffer, 0, PROBE_BYTES);
  writeProbe(bytes);
  using vm = kvm.createVm();
  // SAFETY: `memory` lives until this function's end, after the VM is closed.
  vm.setMemory({ slot: 0, guestPhysical: 0, sizeBytes: PROBE_BYTES, address: sys.addressOf(bytes) });
  using vcpu = vm.createVcpu(0);
  vcpu.setCpuid(kvm.supportedCpuid());
  const { code, data } = PROBE_STATE;
  const state = resetState();
  state.gpr.rsp = PROBE_STATE.rsp;
  state.rip = PROBE_STATE.rip;
  state.cr0 = PROBE_STATE.cr0;
  state.cr3 = PROBE_STATE.cr3;
  state.cr4 = PROBE_STATE.cr4;
  state.msrs.set(0xc000_0080, PROBE_STATE.efer);
  state.segments.cs = flatSegment(code.selector, code.attributes);
  for (const name of ["ss", "ds", "es", "fs", "gs"] as const) {
    state.segments[name] = flatSegment(data.selector, data.attributes);
  }
  state.idtr = { base: 0n, limit: 0 };
  loadState(vcpu, state);
  let best = Infinity;
  const deadline = performance.now() + PATIENCE_MS;
  sys.alarm(PATIENCE_MS);
  try {
    for (let round = 0; round < ROUNDS && best > ROUND_LIMIT_MS; round++) {
      const began = performance.now();
      let reason = vcpu.enter();
      // Any signal of this process ends a KVM_RUN early.
      while (reason === undefined && performance.now() < deadline) reason = vcpu.enter();
      if (reason !== KVM_EXIT.IO || vcpu.run.getUint16(KVM_RUN_IO.port, true) !== PROBE_PORT) {
        const what =
          reason === undefined ? `did not get there in ${PATIENCE_MS} ms` : `ended by ${kvmExitName(reason)}`;
        throw new IsolaError({
          code: "kvm-unavailable",
          message: `/dev/kvm does not run ring 0 as a kernel needs it: the probe's guest ${what}`,
        });
      }
      best = Math.min(best, performance.now() - began);
    }
  } finally {
    sys.alarm(0);
  }
  return best;
}
