/** VERR, VERW, LAR, LSL, and the loading of LDTR and TR. [SDM 2; SDM 3 §5.10, §7.2.4] */

import { EXCEPTION } from "../../../isa/semantics.ts";
import { GuestFault } from "../engine-host.ts";
import { ATTRIBUTE, LDTR, TR } from "../state-view.ts";
import { canonical } from "./linear-memory.ts";
import type { SystemParts } from "./parts.ts";
import { dplOf, isCode, isConforming, isWritableData, SYSTEM_TYPE, selectorError } from "./segments.ts";

/** Finds a selector's descriptor for a query: false for null ones, those beyond the table, and without privilege. */
function findVisible({ view, segments }: SystemParts, value: number): boolean {
  const selector = value & 0xffff;
  if ((selector & 0xfffc) === 0 || !segments.find(selector)) return false;
  const { attributes } = segments;
  if (isCode(attributes) && isConforming(attributes)) return true;
  return dplOf(attributes) >= Math.max(view.cpl, selector & 3);
}

export function verifyRead(parts: SystemParts, selector: number): number {
  const { segments } = parts;
  return findVisible(parts, selector) && segments.readable(segments.attributes, selector & 3) ? 1 : 0;
}

export function verifyWrite(parts: SystemParts, selector: number): number {
  return findVisible(parts, selector) && isWritableData(parts.segments.attributes) ? 1 : 0;
}

/** System types that LAR and LSL know, by mode. [SDM 2 LAR table 3-53, LSL table 3-60] */
const LAR_LEGACY: readonly number[] = [1, 2, 3, 4, 5, 9, 11, 12];
const LAR_LONG: readonly number[] = [2, 9, 11, 12];
const LSL_LEGACY: readonly number[] = [1, 2, 3, 9, 11];
const LSL_LONG: readonly number[] = [2, 9, 11];

function isKnown({ view, segments }: SystemParts, legacy: readonly number[], long: readonly number[]): boolean {
  const { attributes } = segments;
  if ((attributes & ATTRIBUTE.memory) !== 0) return true;
  return (view.longModeActive ? long : legacy).includes(attributes & ATTRIBUTE.type);
}

/** LAR's value, or -1. */
export function accessRights(parts: SystemParts, selector: number): bigint {
  if (!findVisible(parts, selector) || !isKnown(parts, LAR_LEGACY, LAR_LONG)) return -1n;
  return BigInt(parts.segments.high & 0x00f0_ff00);
}

/** LSL's limit in bytes, or -1. */
export function segmentLimit(parts: SystemParts, selector: number): bigint {
  if (!findVisible(parts, selector) || !isKnown(parts, LSL_LEGACY, LSL_LONG)) return -1n;
  return BigInt(parts.segments.limit);
}

/** Fetches the descriptor of an LDT or TSS from the GDT; gives the upper half of its base. */
function fetchSystem({ view, segments }: SystemParts, selector: number, types: readonly number[]): number {
  const error = selectorError(selector, 0);
  const long = view.longModeActive;
  if ((selector & 4) !== 0 || !segments.find(selector, long ? 16 : 8)) throw new GuestFault(EXCEPTION.GP, error);
  const { attributes } = segments;
  if ((attributes & ATTRIBUTE.memory) !== 0 || !types.includes(attributes & ATTRIBUTE.type)) {
    throw new GuestFault(EXCEPTION.GP, error);
  }
  if ((attributes & ATTRIBUTE.present) === 0) throw new GuestFault(EXCEPTION.NP, error);
  if (!long) return 0;
  const upper = segments.fetchUpperBase();
  if (segments.upperType !== 0 || !canonical(upper)) throw new GuestFault(EXCEPTION.GP, error);
  return upper;
}

export function loadLocalDescriptorTable(parts: SystemParts, value: number): void {
  const { view, segments } = parts;
  const selector = value & 0xffff;
  if (!view.usesDescriptors) throw new GuestFault(EXCEPTION.UD);
  if ((selector & 0xfffc) === 0) {
    view.setSegment(LDTR, selector, 0, 0, 0, 0);
    return;
  }
  const upper = fetchSystem(parts, selector, [SYSTEM_TYPE.ldt]);
  view.setSegment(LDTR, selector, segments.attributes, segments.limit, segments.base, upper);
}

export function loadTaskRegister(parts: SystemParts, value: number): void {
  const { view, segments } = parts;
  const selector = value & 0xffff;
  if (!view.usesDescriptors) throw new GuestFault(EXCEPTION.UD);
  if ((selector & 0xfffc) === 0) throw new GuestFault(EXCEPTION.GP, 0);
  const available = view.longModeActive ? [SYSTEM_TYPE.tss32] : [SYSTEM_TYPE.tss16, SYSTEM_TYPE.tss32];
  const upper = fetchSystem(parts, selector, available);
  const { limit, base } = segments;
  // Bit 1 of the type is the busy flag.
  segments.mark(2);
  view.setSegment(TR, selector, segments.attributes, limit, base, upper);
}
