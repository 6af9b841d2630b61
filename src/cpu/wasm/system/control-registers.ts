/**
 * Control registers, XCR0, EFER and debug registers: what may be written, and what changes with it.
 * [SDM 3 §2.5, §2.6, §4.10.4, §10.8.5, §18.2]
 */

import type { FeatureName } from "../../../isa/cpuid-features.ts";
import { supportedXcr0 } from "../../../isa/cpuid.ts";
import { EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE } from "../../../isa/msrs.ts";
import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { type EngineHost, GuestFault } from "../engine-host.ts";
import { CR0, CR4, CS, type StateView, TR } from "../state-view.ts";
import { loadDirectoryPointers, loadPageDirectory } from "./page-directory.ts";
import type { SystemParts } from "./parts.ts";

/** Bits of CR0 that are there; the others read as 0 and writes of their low half are ignored. */
export const CR0_BITS = (CR0.PE | CR0.MP | CR0.EM | CR0.TS | CR0.NE | CR0.WP | CR0.AM | CR0.NW | CR0.CD | CR0.PG) >>> 0;

/** Bits of CR4 by the feature without which they are reserved. */
const CR4_BITS = [
  [CR4.VME | CR4.PVI, "vme"],
  [CR4.TSD, "tsc"],
  [CR4.DE, "de"],
  [CR4.PSE, "pse"],
  [CR4.PAE, "pae"],
  [CR4.MCE, "msr"],
  [CR4.PGE, "pge"],
  [CR4.PCE, "msr"],
  [CR4.OSFXSR, "fxsr"],
  [CR4.OSXMMEXCPT, "sse"],
  [CR4.UMIP, "umip"],
  [CR4.FSGSBASE, "fsgsbase"],
  [CR4.PCIDE, "pcid"],
  [CR4.OSXSAVE, "xsave"],
  [CR4.SMEP, "smep"],
  [CR4.SMAP, "smap"],
] as const;
/** The same for EFER. */
const EFER_BITS = [
  [EFER_SCE, "syscall"],
  [EFER_LME | EFER_LMA, "lm"],
  [EFER_NXE, "nx"],
] as const;

/** The bits that may be set where these features are there. */
export const cr4Bits = (features: ReadonlySet<FeatureName>): number => bitsOf(CR4_BITS, features);
export const eferBits = (features: ReadonlySet<FeatureName>): number => bitsOf(EFER_BITS, features);

function bitsOf(table: readonly (readonly [number, FeatureName])[], features: ReadonlySet<FeatureName>): number {
  return table.reduce((mask, [bits, feature]) => (features.has(feature) ? mask | bits : mask), 0);
}

/** Changes of CR0 and CR4 that load PAE's directory pointers anew. [SDM 3 §4.4.1] */
const CR0_LOADS_PDPTES = (CR0.PG | CR0.CD | CR0.NW) >>> 0;
const CR4_LOADS_PDPTES = CR4.PSE | CR4.PAE | CR4.PGE | CR4.SMEP;

/** CR3 above MAXPHYADDR, 40. */
const CR3_RESERVED_HIGH = 0xffff_ff00;
const TSS_WIDE = 8;

const DR6_FIXED = 0xffff_0ff0;
const DR6_WRITABLE = 0xe00f;
const DR7_FIXED = 0x400;
const DR7_WRITABLE = 0xffff_2bff;
const DR7_GD = 1 << 13;
const DR6_BD = 1 << 13;

/** By number; DR4 and DR5 are DR6 and DR7. */
const DEBUG_FIELDS = ["dr0", "dr1", "dr2", "dr3", "dr6", "dr7", "dr6", "dr7"] as const;

function low32(value: bigint): number {
  return Number(BigInt.asUintN(32, value));
}
function refuse(): never {
  throw new GuestFault(EXCEPTION.GP, 0);
}

/** Computes what FPU and SSE instructions raise before anything else; part of every change of view. */
export function deriveAvailability(view: StateView): void {
  const cr0 = view.low(STATE.cr0);
  const switched = (cr0 & CR0.TS) !== 0;
  const emulated = (cr0 & CR0.EM) !== 0;
  const sse = emulated || (view.low(STATE.cr4) & CR4.OSFXSR) === 0;
  view.setLow(STATE.sseState, sse ? EXCEPTION.UD : switched ? EXCEPTION.NM : 0);
  view.setLow(STATE.x87State, emulated || switched ? EXCEPTION.NM : 0);
}

export class ControlRegisters {
  readonly #host: EngineHost;
  readonly #view: StateView;
  readonly #parts: SystemParts;
  readonly #cr4Bits: number;
  readonly #eferBits: number;

  constructor(parts: SystemParts) {
    this.#cr4Bits = bitsOf(CR4_BITS, parts.host.features);
    this.#eferBits = bitsOf(EFER_BITS, parts.host.features);
    this.#parts = parts;
    this.#host = parts.host;
    this.#view = parts.view;
  }

  read(number: number): bigint {
    switch (number) {
      case 0:
        return this.#view.long(STATE.cr0);
      case 2:
        return this.#view.long(STATE.cr2);
      case 3:
        return this.#view.long(STATE.cr3);
      case 4:
        return this.#view.long(STATE.cr4);
      case 8:
        return BigInt(this.#host.interrupts.taskPriority & 15);
      default:
        throw new GuestFault(EXCEPTION.UD);
    }
  }

  write(number: number, value: bigint): void {
    const unsigned = BigInt.asUintN(64, value);
    switch (number) {
      case 0:
        this.#writeCr0(unsigned);
        break;
      case 2:
        this.#view.setLong(STATE.cr2, unsigned);
        break;
      case 3:
        this.#writeCr3(unsigned);
        break;
      case 4:
        this.#writeCr4(unsigned);
        break;
      case 8:
        if (unsigned > 15n) refuse();
        this.#host.interrupts.taskPriority = Number(unsigned);
        break;
      default:
        throw new GuestFault(EXCEPTION.UD);
    }
  }

  #writeCr0(value: bigint): void {
    const view = this.#view;
    if (value > 0xffff_ffffn) refuse();
    const next = ((low32(value) & CR0_BITS) | CR0.ET) >>> 0;
    const before = view.low(STATE.cr0);
    const has = (bit: number) => (next & bit) !== 0;
    if (has(CR0.PG) && !has(CR0.PE)) refuse();
    if (has(CR0.NW) && !has(CR0.CD)) refuse();
    const changed = next ^ before;
    const efer = view.low(STATE.efer);
    if ((changed & CR0.PG) !== 0) {
      if (!has(CR0.PG)) {
        if (view.mode64) refuse();
        view.setLow(STATE.efer, efer & ~EFER_LMA);
      } else if ((efer & EFER_LME) !== 0) {
        this.#checkActivation();
        view.setLow(STATE.efer, efer | EFER_LMA);
      }
    }
    const pae = (view.low(STATE.cr4) & CR4.PAE) !== 0 && (view.low(STATE.efer) & EFER_LMA) === 0;
    if (pae && has(CR0.PG) && (changed & CR0_LOADS_PDPTES) !== 0) this.#reloadDirectoryPointers();
    view.setHalves(STATE.cr0, next, 0);
    if ((changed & (CR0.PG | CR0.PE | CR0.WP)) !== 0) this.#host.flushTlb("all");
    // Leaving protected mode leaves ring 0 only: CPL is 0 already. Entering it keeps CPL 0.
    if ((changed & (CR0.PG | CR0.PE)) !== 0) view.refreshContexts();
    if (changed !== 0) this.#host.viewChanged();
  }
  /** Paging goes on with EFER.LME set: PAE must be on, CS not 64-bit code, TR not a 16-bit TSS. [SDM 3 §10.8.5.4] */
  #checkActivation(): void {
    const view = this.#view;
    if ((view.low(STATE.cr4) & CR4.PAE) === 0) refuse();
    if ((view.attributes(CS) & (1 << 13)) !== 0) refuse();
    if ((view.attributes(TR) & 0x80) !== 0 && (view.attributes(TR) & TSS_WIDE) === 0) refuse();
  }

  #writeCr3(value: bigint): void {
    const high = Number(value >> 32n);
    if ((high & CR3_RESERVED_HIGH) !== 0) refuse();
    loadPageDirectory(this.#parts, low32(value), high);
  }

  #writeCr4(value: bigint): void {
    const view = this.#view;
    const next = low32(value);
    if (value > 0xffff_ffffn || (next & ~this.#cr4Bits) !== 0) refuse();
    if (view.longModeActive && (next & CR4.PAE) === 0) refuse();
    const changed = next ^ view.low(STATE.cr4);
    const paging = (view.low(STATE.cr0) & CR0.PG) !== 0;
    const pae = (next & CR4.PAE) !== 0 && !view.longModeActive;
    if (paging && pae && (changed & CR4_LOADS_PDPTES) !== 0) this.#reloadDirectoryPointers();
    view.setHalves(STATE.cr4, next, 0);
    if ((changed & CR4.DE) !== 0) this.#parts.breakpoints.update();
    if ((changed & (CR4.PGE | CR4.PSE | CR4.PAE | CR4.SMEP | CR4.SMAP)) !== 0) this.#host.flushTlb("all");
    if (changed !== 0) this.#host.viewChanged();
  }

  #reloadDirectoryPointers(): void {
    if (!loadDirectoryPointers(this.#parts, this.#view.low(STATE.cr3))) refuse();
  }

  clearTaskSwitched(): void {
    const view = this.#view;
    const cr0 = view.low(STATE.cr0);
    if ((cr0 & CR0.TS) === 0) return;
    view.setLow(STATE.cr0, cr0 & ~CR0.TS);
    this.#host.viewChanged();
  }

  /** EFER: LMA follows LME and PG, and is not software's to write. */
  writeEfer(value: bigint): void {
    const view = this.#view;
    const next = low32(value);
    if (value > 0xffff_ffffn || (next & ~this.#eferBits) !== 0) refuse();
    const before = view.low(STATE.efer);
    const changed = (next ^ before) & ~EFER_LMA;
    if ((changed & EFER_LME) !== 0 && (view.low(STATE.cr0) & CR0.PG) !== 0) refuse();
    view.setHalves(STATE.efer, (next & ~EFER_LMA) | (before & EFER_LMA), 0);
    if ((changed & EFER_NXE) !== 0) this.#host.flushTlb("all");
    this.#host.viewChanged();
  }

  // --- XCR0 ---

  readExtended(index: number): bigint {
    if (index !== 0) refuse();
    return this.#view.long(STATE.xcr0);
  }
  writeExtended(index: number, value: bigint): void {
    const supported = supportedXcr0(this.#host.features);
    const next = low32(value);
    const tooWide = BigInt.asUintN(64, value) > 0xffff_ffffn;
    if (index !== 0 || tooWide || (next & ~supported) !== 0 || (next & 1) === 0) refuse();
    // AVX state needs SSE state.
    if ((next & 4) !== 0 && (next & 2) === 0) refuse();
    this.#view.setHalves(STATE.xcr0, next, 0);
    this.#host.viewChanged();
  }

  // --- debug registers ---

  /** #UD for DR4 and DR5 under CR4.DE; #DB by DR7.GD. */
  #checkDebug(number: number): void {
    const view = this.#view;
    if (number > 7 || ((number === 4 || number === 5) && (view.low(STATE.cr4) & CR4.DE) !== 0)) {
      throw new GuestFault(EXCEPTION.UD);
    }
    if ((view.low(STATE.dr7) & DR7_GD) !== 0) {
      view.setLow(STATE.dr6, view.low(STATE.dr6) | DR6_BD);
      throw new GuestFault(EXCEPTION.DB);
    }
  }
  readDebug(number: number): bigint {
    this.#checkDebug(number);
    return this.#view.long(DEBUG_FIELDS[number] ?? "dr7");
  }
  writeDebug(number: number, value: bigint): void {
    this.#checkDebug(number);
    const unsigned = BigInt.asUintN(64, value);
    const field = DEBUG_FIELDS[number] ?? "dr7";
    if (number < 4) {
      this.#view.setLong(field, unsigned);
      this.#parts.breakpoints.update();
      return;
    }
    if (unsigned > 0xffff_ffffn) refuse();
    const word = Number(unsigned);
    const fixed = field === "dr6" ? (word & DR6_WRITABLE) | DR6_FIXED : (word & DR7_WRITABLE) | DR7_FIXED;
    this.#view.setHalves(field, fixed, 0);
    this.#parts.breakpoints.update();
  }
}
