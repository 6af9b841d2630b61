/** An EngineHost for unit tests: guest memory mapped one to one, no translation, recorded requests. */

import { DEFAULT_CPU_MODEL } from "../../../isa/cpu-models.ts";
import type { FeatureName } from "../../../isa/cpuid-features.ts";
import { STATE } from "../../../isa/state.ts";
import { GuestMemory, MIN_RAM_BYTES } from "../../../memory/guest-memory.ts";
import { type EngineHost, GuestFault } from "../engine-host.ts";
import { STATE_BASE, TLB } from "../layout.ts";
import { StateView } from "../state-view.ts";

const PF = 14;

export class FakeHost implements EngineHost {
  readonly memory = GuestMemory.create(MIN_RAM_BYTES);
  readonly stateBase = STATE_BASE;
  readonly features: ReadonlySet<FeatureName>;
  readonly view: StateView;
  readonly flushes: ("all" | "non-global" | bigint)[] = [];
  readonly exits: string[] = [];
  readonly apicMsrs = new Map<number, bigint>([
    [0x1b, 0xfee0_0900n],
    [0x6e0, 0n],
  ]);
  readonly ports: { port: number; size: number; value: number }[] = [];
  views = 0;
  now = 1_000_000;
  readonly clock: EngineHost["clock"];
  readonly interrupts: EngineHost["interrupts"];
  readonly bus: EngineHost["bus"];
  /** Addresses at and above it raise a page fault. */
  faultFrom = MIN_RAM_BYTES;

  constructor(features = DEFAULT_CPU_MODEL.features) {
    this.features = features;
    this.memory.bytes.fill(1, TLB.base, TLB.end);
    this.view = new StateView(this.memory, STATE_BASE);
    this.view.setLow("tlbBase", TLB.base);
    this.clock = { now: () => this.now, tscHz: 2_000_000_000, bootTime: 1_700_000_000_123_456_789n };
    const { apicMsrs } = this;
    this.interrupts = {
      pending: () => false,
      acknowledge: () => 0,
      readMsr: (index) => apicMsrs.get(index),
      writeMsr: (index, value) => {
        if (!apicMsrs.has(index)) return false;
        apicMsrs.set(index, value);
        return true;
      },
      taskPriority: 0,
    };
    this.bus = {
      readPort: (port) => port,
      writePort: (port, size, value) => {
        this.ports.push({ port, size, value });
      },
      readMmio: () => 0,
      writeMmio: () => {},
    };
  }

  #place(address: bigint, bytes: number, write: boolean): number {
    const linear = Number(address);
    const place = linear >= this.faultFrom ? -1 : this.memory.offsetOf(linear, bytes);
    if (place >= 0) return place;
    this.view.setLong("cr2", address);
    throw new GuestFault(PF, write ? 2 : 0);
  }
  load(address: bigint, bytes: 1 | 2 | 4 | 8): bigint {
    const place = this.#place(address, bytes, false);
    const { view } = this.memory;
    if (bytes === 8) return view.getBigUint64(place, true);
    return BigInt(
      bytes === 4 ? view.getUint32(place, true) : bytes === 2 ? view.getUint16(place, true) : view.getUint8(place),
    );
  }
  store(address: bigint, bytes: 1 | 2 | 4 | 8, value: bigint): void {
    const place = this.#place(address, bytes, true);
    for (let i = 0; i < bytes; i++) this.memory.view.setUint8(place + i, Number((value >> BigInt(8 * i)) & 0xffn));
  }
  flushTlb(scope: "all" | "non-global" | bigint): void {
    this.flushes.push(scope);
  }
  forgetCode(): void {}
  privilegeChanged(): void {
    this.viewChanged();
  }
  viewChanged(): void {
    this.views++;
  }
  requestExit(reason: "halt" | "shutdown"): void {
    this.exits.push(reason);
  }

  // --- for tests ---

  read64(address: number): bigint {
    return this.load(BigInt(address), 8);
  }
  read32(address: number): number {
    return Number(this.load(BigInt(address), 4));
  }
  read16(address: number): number {
    return Number(this.load(BigInt(address), 2));
  }
  write64(address: number, value: bigint): void {
    this.store(BigInt(address), 8, value);
  }
  write32(address: number, value: number): void {
    this.store(BigInt(address), 4, BigInt(value >>> 0));
  }
  write16(address: number, value: number): void {
    this.store(BigInt(address), 2, BigInt(value));
  }
  get rip(): bigint {
    return this.view.view.getBigUint64(STATE.rip.offset, true);
  }
}

/** A helper as tests call it. */
export type Call = (...args: (number | bigint)[]) => unknown;

/** The fault that `run` raises; fails where it raises none. */
export function faultOf(run: () => unknown): { vector: number; errorCode: number | undefined } {
  try {
    run();
  } catch (error) {
    if (!(error instanceof GuestFault)) throw error;
    return { vector: error.vector, errorCode: error.errorCode };
  }
  throw new Error("no fault was raised");
}
