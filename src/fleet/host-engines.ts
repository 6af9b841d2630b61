/** Which engines a server's host has, and which one each of its VMs gets. */

import type { KvmReport } from "../cpu/kvm/probe.ts";
import { kvmReport, kvmUnfit, type ProcessorWanted } from "./engine-choice.ts";
import { FleetError } from "./fleet-error.ts";
import type { EngineFact } from "./host-facts.ts";
import type { VmSpec } from "./vm-spec.ts";

/** How often a KVM that did not open is tried again, in ms. One that did is as it is: finding out runs a guest. */
const AGAIN_MS = 5000;

/** Whether /dev/kvm could be asked anything. */
const opened = ({ maxCpus }: KvmReport): boolean => maxCpus !== undefined;

export interface HostEnginesPlace {
  readonly report: () => KvmReport;
  readonly unfit: (wanted: ProcessorWanted) => string | undefined;
}

export class HostEngines {
  readonly #place: HostEnginesPlace;
  #known: { readonly at: number; readonly report: KvmReport } | undefined;

  constructor(place: HostEnginesPlace = { report: kvmReport, unfit: kvmUnfit }) {
    this.#place = place;
  }

  #report(): KvmReport {
    const now = performance.now();
    const known = this.#known;
    if (known !== undefined && (opened(known.report) || now - known.at < AGAIN_MS)) return known.report;
    const report = this.#place.report();
    this.#known = { at: now, report };
    return report;
  }

  facts(): EngineFact[] {
    const { usable, reason = "", maxCpus = 0 } = this.#report();
    const kvm = usable ? `runs kernels at the host's own speed, up to ${maxCpus} processors a VM` : reason;
    return [
      { name: "wasm", available: true, reason: "runs anywhere" },
      { name: "kvm", available: usable, reason: kvm },
    ];
  }

  /**
   * The engine of a VM that is to start: `auto` is KVM where that runs kernels as they are; one that is asked for by
   * name is tried wherever it opens. @throws FleetError `no-resources`
   */
  choose({ name, engine, cpu }: VmSpec): EngineFact["name"] {
    if (engine === "wasm") return "wasm";
    const report = this.#report();
    const { usable, reason = "it does not run kernels" } = report;
    const refuse = (what: string, wayOut: string): never => {
      throw new FleetError({ code: "no-resources", message: `cannot start ${name}: ${what}: ${reason}; ${wayOut}` });
    };
    if (engine === "kvm") {
      return opened(report) ? "kvm" : refuse("this host has no engine kvm", "wanted: the engine auto or wasm");
    }
    if (usable) return "kvm";
    if (cpu.count === 1) return "wasm";
    return refuse(`${cpu.count} processors need the engine kvm`, "wanted: one processor, or a host with KVM");
  }

  /** The engine of a VM that goes on from a saved state: `auto` stays away from a KVM that cannot take it. */
  chooseFor(spec: VmSpec, saved: ProcessorWanted): EngineFact["name"] {
    const engine = this.choose(spec);
    if (engine === "wasm" || spec.engine === "kvm" || spec.cpu.count > 1) return engine;
    return this.#place.unfit(saved) === undefined ? "kvm" : "wasm";
  }
}
