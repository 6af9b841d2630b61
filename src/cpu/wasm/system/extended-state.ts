/**
 * FXSAVE, FXRSTOR and the XSAVE family: x87, SSE and, where offered, AVX state in memory. [SDM 1 §10.5, §13; SDM 2]
 *
 * Every component counts as in use, so XSAVE's header names all that were asked for, and XSAVEOPT writes as XSAVE does.
 */

import { supportedXcr0, XSAVE_HEADER_END, xsaveAreaBytes } from "../../../isa/cpuid.ts";
import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE, XMM, YMM_HIGH } from "../../../isa/state.ts";
import { GuestFault } from "../engine-host.ts";
import { CR4, MXCSR_MASK, type StateView } from "../state-view.ts";
import type { LinearMemory } from "./linear-memory.ts";
import type { SystemParts } from "./parts.ts";

const X87 = 1;
const SSE = 2;
const AVX = 4;
const AREA_BYTES = 512;
const XSTATE_BV = 512;
const XCOMP_BV = 520;
const MXCSR = 24;
const XMM_AREA = { offset: 160, bytes: 256 } as const;
const YMM_AREA = { offset: XSAVE_HEADER_END, bytes: 256 } as const;
/** Where FXSAVE's image keeps the selectors of the last x87 instruction, in its 32-bit form. */
const FCS = 12;
const FDS = 20;

export class ExtendedState {
  readonly #view: StateView;
  readonly #memory: LinearMemory;
  /** XCR0 bits that may be set. */
  readonly #supported: number;
  readonly #area = new Uint8Array(XSAVE_HEADER_END + YMM_AREA.bytes);
  readonly #words = new DataView(this.#area.buffer);

  constructor({ host, view, memory }: SystemParts) {
    this.#supported = supportedXcr0(host.features);
    this.#view = view;
    this.#memory = memory;
  }

  #read(address: bigint, bytes: number): void {
    const [low, high] = halves(address);
    this.#memory.read(low, high, this.#area.subarray(0, bytes));
  }
  #write(address: bigint, from: number, to: number): void {
    const [low, high] = halves(BigInt.asUintN(64, address + BigInt(from)));
    this.#memory.write(low, high, this.#area.subarray(from, to));
  }
  /** Without REX.W the pointers are 32-bit offsets with selectors, which this processor keeps as 0. */
  #narrowPointers(): void {
    this.#words.setUint32(FCS, 0, true);
    this.#words.setUint32(FDS, 0, true);
  }

  fxsave(address: bigint, wide: boolean): void {
    checkAlignment(address, 15n);
    // Bytes 464 to 511 are software's: they are not written.
    this.#view.saveFx(this.#area);
    if (!wide) this.#narrowPointers();
    const sse = this.#hasSse();
    this.#write(address, 0, sse ? XMM_AREA.offset + XMM_AREA.bytes : XMM_AREA.offset);
  }
  /** Whether FXSAVE carries XMM registers: CR4.OSFXSR. */
  #hasSse(): boolean {
    return (this.#view.low(STATE.cr4) & CR4.OSFXSR) !== 0;
  }

  fxrstor(address: bigint, wide: boolean): void {
    checkAlignment(address, 15n);
    this.#read(address, AREA_BYTES);
    if (!wide) this.#narrowPointers();
    if (this.#hasSse()) {
      checkMxcsr(this.#words.getUint32(MXCSR, true));
    } else {
      this.#keepSse();
    }
    this.#view.loadFx(this.#area);
  }
  /** Puts the registers' present SSE state into the area, so that loading it changes nothing. */
  #keepSse(): void {
    this.#words.setUint32(MXCSR, this.#view.low(STATE.mxcsr), true);
    this.#area.set(this.#view.bytes.subarray(XMM, XMM + XMM_AREA.bytes), XMM_AREA.offset);
  }

  /** XSAVE and XSAVEOPT in the standard format; `form` 2 and 3 are not offered. */
  xsave(address: bigint, requested: bigint, wide: boolean, form: number): void {
    if (form > 1) throw new GuestFault(EXCEPTION.UD);
    checkAlignment(address, 63n);
    const mask = this.#enabled(requested);
    const [low, high] = halves(address + BigInt(XSTATE_BV));
    // The header keeps what was there for components that are not asked for; the fields after it are not touched.
    this.#memory.load64(low, high, false);
    const header = (this.#memory.low & ~mask) | mask;
    const headerHigh = this.#memory.high;
    this.#view.saveFx(this.#area);
    if (!wide) this.#narrowPointers();
    if ((mask & (X87 | SSE)) === (X87 | SSE)) this.#write(address, 0, XMM_AREA.offset + XMM_AREA.bytes);
    else this.#saveParts(address, mask);
    if ((mask & AVX) !== 0) {
      this.#area.set(this.#view.bytes.subarray(YMM_HIGH, YMM_HIGH + YMM_AREA.bytes), YMM_AREA.offset);
      this.#write(address, YMM_AREA.offset, YMM_AREA.offset + YMM_AREA.bytes);
    }
    this.#memory.store64(low, high, header, headerHigh, false);
  }

  /** Legacy parts of an area that lacks one of x87 and SSE. MXCSR goes with SSE and AVX. */
  #saveParts(address: bigint, mask: number): void {
    if ((mask & X87) !== 0) {
      this.#write(address, 0, MXCSR);
      this.#write(address, 32, XMM_AREA.offset);
    }
    if ((mask & (SSE | AVX)) !== 0) this.#write(address, MXCSR, 32);
    if ((mask & SSE) !== 0) this.#write(address, XMM_AREA.offset, XMM_AREA.offset + XMM_AREA.bytes);
  }

  xrstor(address: bigint, requested: bigint, wide: boolean, form: number): void {
    if (form !== 0) throw new GuestFault(EXCEPTION.UD);
    checkAlignment(address, 63n);
    const mask = this.#enabled(requested);
    this.#read(address, (mask & AVX) !== 0 ? xsaveAreaBytes(mask) : XSAVE_HEADER_END);
    const present = this.#words.getUint32(XSTATE_BV, true);
    // A bit that XCR0 lacks, the compacted format, or reserved bytes in the header.
    const foreign = present & ~this.#view.low(STATE.xcr0);
    let reserved = this.#words.getUint32(XSTATE_BV + 4, true);
    for (let i = XCOMP_BV; i < XCOMP_BV + 16; i += 4) reserved |= this.#words.getUint32(i, true);
    if (foreign !== 0 || reserved !== 0) throw new GuestFault(EXCEPTION.GP, 0);
    const mxcsr = this.#words.getUint32(MXCSR, true);
    if ((mask & (SSE | AVX)) !== 0) checkMxcsr(mxcsr);
    if (!wide) this.#narrowPointers();
    const whole = (mask & present & (X87 | SSE)) === (X87 | SSE);
    if (!whole) this.#arrange(mask, present, mxcsr);
    this.#view.loadFx(this.#area);
    if ((mask & AVX) !== 0) {
      const upper = this.#view.bytes.subarray(YMM_HIGH, YMM_HIGH + YMM_AREA.bytes);
      if ((present & AVX) !== 0) upper.set(this.#area.subarray(YMM_AREA.offset, YMM_AREA.offset + YMM_AREA.bytes));
      else upper.fill(0);
    }
  }

  /** Makes the area's legacy part what the registers are to hold: the image's where it is present, initial values where
   * it is not, and the present ones where the component is not asked for. */
  #arrange(mask: number, present: number, mxcsr: number): void {
    const xmm = this.#area.slice(XMM_AREA.offset, XMM_AREA.offset + XMM_AREA.bytes);
    if ((mask & X87) === 0) this.#view.saveFx(this.#area);
    else if ((present & X87) === 0) {
      this.#area.fill(0, 0, XMM_AREA.offset);
      this.#words.setUint16(0, 0x37f, true);
    }
    if ((mask & SSE) === 0) this.#keepSse();
    else if ((present & SSE) === 0) this.#area.fill(0, XMM_AREA.offset, XMM_AREA.offset + XMM_AREA.bytes);
    else this.#area.set(xmm, XMM_AREA.offset);
    // MXCSR belongs to SSE and AVX together, and is loaded whatever XSTATE_BV says [SDM 1 §13.8.1].
    const loaded = (mask & (SSE | AVX)) !== 0;
    this.#words.setUint32(MXCSR, loaded ? mxcsr : this.#view.low(STATE.mxcsr), true);
  }

  #enabled(requested: bigint): number {
    return Number(BigInt.asUintN(32, requested)) & this.#view.low(STATE.xcr0) & this.#supported;
  }
}

function halves(address: bigint): [low: number, high: number] {
  const unsigned = BigInt.asUintN(64, address);
  return [Number(unsigned & 0xffff_ffffn), Number(unsigned >> 32n)];
}
function checkAlignment(address: bigint, mask: bigint): void {
  if ((address & mask) !== 0n) throw new GuestFault(EXCEPTION.GP, 0);
}
function checkMxcsr(value: number): void {
  if ((value & ~MXCSR_MASK) !== 0) throw new GuestFault(EXCEPTION.GP, 0);
}
