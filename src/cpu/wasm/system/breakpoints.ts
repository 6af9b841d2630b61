/**
 * The breakpoints of DR0 to DR3. [SDM 3 §18.2, §18.3.1]
 *
 * Without any enabled they cost nothing. With one, code is decoded in a context of its own (DECODE.debug), one
 * instruction a trace; pages that hold a data breakpoint stay out of the TLB, so that each access to them is told here.
 *
 * Data breakpoints are those of instructions' own operands and stacks; the processor's accesses to descriptor tables,
 * TSS and exceptions' frames are not watched.
 */

import { STATE } from "../../../isa/state.ts";
import type { EngineHost } from "../engine-host.ts";
import { CR4, type StateView } from "../state-view.ts";

const KIND = { execute: 0, write: 1, port: 2, access: 3 } as const;
/** By DR7.LEN. */
const LENGTHS = [1, 2, 8, 4] as const;
const COUNT = 4;
const DR6_CONDITIONS = 0xf;
/** No page's address. */
const NO_PAGE = 1n;
const PAGE_MASK = ~0xfffn;
const PAGE_OFFSET = 0xfffn;

interface Breakpoint {
  /** Its bit in DR6. */
  readonly bit: number;
  readonly kind: number;
  readonly address: bigint;
  readonly bytes: number;
}

const FIELDS = [STATE.dr0, STATE.dr1, STATE.dr2, STATE.dr3] as const;
const PAGES = [STATE.watchPage0, STATE.watchPage1, STATE.watchPage2, STATE.watchPage3] as const;

export class Breakpoints {
  readonly #host: EngineHost;
  readonly #view: StateView;
  #enabled: readonly Breakpoint[] = [];
  #places = "";

  constructor(host: EngineHost, view: StateView) {
    this.#host = host;
    this.#view = view;
  }

  /** Whether any breakpoint is enabled. */
  get armed(): boolean {
    return this.#enabled.length > 0;
  }

  /** To be called when DR0 to DR3, DR7 or CR4.DE may have changed. */
  update(): void {
    const before = this.#enabled;
    const enabled = this.#read();
    if (before.length === 0 && enabled.length === 0) return;
    this.#enabled = enabled;
    const data = enabled.filter(({ kind }) => kind === KIND.write || kind === KIND.access);
    this.#view.setLow(STATE.watching, data.length > 0 ? 1 : 0);
    for (const [i, field] of PAGES.entries()) {
      const { address } = data[i] ?? {};
      this.#view.setLong(field, address === undefined ? NO_PAGE : BigInt.asUintN(64, address & PAGE_MASK));
    }
    if (data.length > 0) this.#host.flushTlb("all");
    // Traces of the debugging context know at which offsets to stop.
    const places = enabled.filter(({ kind }) => kind === KIND.execute).map(({ address }) => address & PAGE_OFFSET);
    if (enabled.length > 0 && places.join() !== this.#places) {
      this.#places = places.join();
      this.#host.forgetCode();
    }
    this.#host.viewChanged();
  }

  #read(): Breakpoint[] {
    const view = this.#view;
    const dr7 = view.low(STATE.dr7);
    if ((dr7 & 0xff) === 0) return [];
    const ports = (view.low(STATE.cr4) & CR4.DE) !== 0;
    const found: Breakpoint[] = [];
    for (const [i, field] of FIELDS.entries()) {
      const settings = dr7 >>> (16 + i * COUNT);
      const kind = settings & 3;
      if (((dr7 >>> (i * 2)) & 3) === 0 || (kind === KIND.port && !ports)) continue;
      const bytes = LENGTHS[(settings >> 2) & 3] ?? 1;
      // Addresses are those of the area that holds them [SDM 3 §18.2.5].
      const address = BigInt.asIntN(64, view.long(field)) & (kind === KIND.execute ? -1n : -BigInt(bytes));
      found.push({ bit: 1 << i, kind, address, bytes });
    }
    return found;
  }

  /** Whether an enabled one lies at this offset of some page. */
  mayBreak(offset: number): boolean {
    return this.#enabled.some(({ kind, address }) => kind === KIND.execute && Number(address & PAGE_OFFSET) === offset);
  }

  /** DR6's bits for an instruction about to run at a linear address; 0 for none. */
  atInstruction(linear: bigint): number {
    return this.#bits(({ kind, address }) => kind === KIND.execute && BigInt.asIntN(64, linear) === address);
  }

  /** Notes an instruction's access to memory. */
  accessed(linear: bigint, bytes: number, write: boolean): void {
    const wide = this.#view.mode64 ? linear : BigInt.asUintN(32, linear);
    const hit = (breakpoint: Breakpoint) => {
      if (breakpoint.kind !== KIND.access && !(write && breakpoint.kind === KIND.write)) return false;
      const distance = BigInt.asIntN(64, wide - breakpoint.address);
      return distance < BigInt(breakpoint.bytes) && distance > -BigInt(bytes);
    };
    this.#note(this.#bits(hit));
  }

  /** Notes an access to ports. */
  portAccessed(port: number, bytes: number): void {
    if (this.#enabled.length === 0) return;
    const hit = (breakpoint: Breakpoint) => {
      const distance = port - Number(breakpoint.address & 0xffffn);
      return breakpoint.kind === KIND.port && distance < breakpoint.bytes && distance > -bytes;
    };
    this.#note(this.#bits(hit));
  }

  #bits(hit: (breakpoint: Breakpoint) => boolean): number {
    return this.#enabled.reduce((bits, breakpoint) => (hit(breakpoint) ? bits | breakpoint.bit : bits), 0);
  }
  #note(bits: number): void {
    if (bits !== 0) this.#view.setLow(STATE.debugTrap, this.#view.low(STATE.debugTrap) | bits);
  }

  /** Shows conditions in DR6; those of earlier exceptions go. */
  show(bits: number): void {
    if (bits === 0) return;
    this.#view.setLow(STATE.dr6, (this.#view.low(STATE.dr6) & ~DR6_CONDITIONS) | bits);
  }
  /** Shows in DR6 what the last instruction met, and forgets it; whether there was anything. */
  take(): boolean {
    const bits = this.#view.low(STATE.debugTrap);
    this.#view.setLow(STATE.debugTrap, 0);
    this.show(bits);
    return bits !== 0;
  }
}
