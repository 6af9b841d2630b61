/**
 * Hardware task switches: JMP and CALL to a TSS or through a task gate, events through task gates, IRET with NT; TSS of
 * 16 and 32 bits. [SDM 3 §7]
 *
 * Up to the point of no return (the old task is saved) a fault is the old task's, and nothing but busy bits may have
 * changed. From there on it is the new task's: it is raised as a TaskFault, with STATE.rip at the new task's first
 * instruction, segment registers that were not reached unusable. [SDM 3 §7.3, table 7-1]
 *
 * Where the manual says nothing: a 16-bit TSS leaves FS and GS null, and the upper halves of the registers as they were.
 */

import { ARITHMETIC, AC, DF, ID, IF, IOPL, NT, RF, TF, VIF, VIP, VM } from "../../../isa/flags.ts";
import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { GuestFault } from "../engine-host.ts";
import { ATTRIBUTE, CR0, CS, LDTR, SS, TR } from "../state-view.ts";
import { loadPageDirectory } from "./page-directory.ts";
import type { SystemParts } from "./parts.ts";
import { dplOf, isCode, isConforming, isWritableData, SYSTEM_TYPE, selectorError } from "./segments.ts";

/** A fault in the new task's context: STATE.rip is the new task's. */
export class TaskFault extends GuestFault {}

export type TaskCause = "jump" | "call" | "return" | "event";

/** Bytes of the type field: busy; 32 bits. */
const BUSY = 2;
const WIDE = 8;
const LINK = 0;
const TASK_FLAGS = ARITHMETIC | TF | IF | DF | IOPL | NT | RF | VM | AC | VIF | VIP | ID;
/** DR7.L0-L3, which a task switch clears. [SDM 3 §7.3, §18.2.4] */
const DR7_LOCAL = 0x55;
const SEGMENT_COUNT = 6;

/** Offsets in a TSS; registers and segments follow one another in encoding order. [SDM 3 figures 7-2, 7-10] */
const TSS32 = { cr3: 0x1c, ip: 0x20, flags: 0x24, gpr: 0x28, segments: 0x48, ldt: 0x60, trap: 0x64, last: 0x67 };
const TSS16 = { ip: 0x0e, flags: 0x10, gpr: 0x12, segments: 0x22, ldt: 0x2a, last: 0x2b };
/** ES to DS. */
const SEGMENTS16 = 4;

/** What a new task starts from. */
interface Image {
  readonly cr3: number | undefined;
  readonly ip: number;
  readonly flags: number;
  readonly gprs: readonly number[];
  readonly selectors: readonly number[];
  readonly ldt: number;
  readonly trap: boolean;
}

/**
 * Switches to the task that a selector names. `rf`: whether the saved flags have RF set, as faults do; `ext`: bit 0 of
 * error codes. Gives whether the new TSS is one of 32 bits, which is the width of an error code to push.
 */
export function switchTask(
  parts: SystemParts,
  value: number,
  cause: TaskCause,
  { ext = 0, rf = 0 }: { ext?: number; rf?: number } = {},
): boolean {
  const { view, segments } = parts;
  const selector = value & 0xffff;
  const wide = fetchTask(parts, selector, cause, ext);
  const { base, limit, attributes } = segments;
  const image = wide ? readTask32(parts, base) : readTask16(parts, base);

  const oldSelector = view.selector(TR);
  const nests = cause === "call" || cause === "event";
  touchOldTask(parts);
  if (nests) touch(parts, base + LINK);
  if (!nests && segments.find(oldSelector)) segments.unmark(BUSY);
  segments.find(selector);
  if (cause !== "return") segments.mark(BUSY);

  // The point of no return.
  saveTask(parts, (view.rflags & ~RF & (cause === "return" ? ~NT : -1)) | rf);
  if (nests) parts.memory.store16((base + LINK) >>> 0, 0, oldSelector, true);
  view.setSegment(TR, selector, attributes | BUSY, limit, base, 0);
  view.setLow(STATE.cr0, view.low(STATE.cr0) | CR0.TS);
  view.setLow(STATE.dr7, view.low(STATE.dr7) & ~DR7_LOCAL);
  parts.breakpoints.update();
  try {
    loadTask(parts, image, nests, ext);
  } catch (fault) {
    if (!(fault instanceof GuestFault)) throw fault;
    throw new TaskFault(fault.vector, fault.errorCode);
  } finally {
    parts.host.viewChanged();
  }
  if (image.trap) parts.pending.taskTrap = true;
  return wide;
}

/** Fetches the descriptor of the TSS to switch to, checked; whether it is one of 32 bits. */
function fetchTask({ segments }: SystemParts, selector: number, cause: TaskCause, ext: number): boolean {
  const error = selectorError(selector, ext);
  const bad = cause === "return" ? EXCEPTION.TS : EXCEPTION.GP;
  if ((selector & 4) !== 0 || (selector & 0xfffc) === 0 || !segments.find(selector)) throw new GuestFault(bad, error);
  const type = segments.attributes & (ATTRIBUTE.memory | ATTRIBUTE.type);
  const { tss16, tss32 } = SYSTEM_TYPE;
  const wanted: readonly number[] = cause === "return" ? [tss16 | BUSY, tss32 | BUSY] : [tss16, tss32];
  if (!wanted.includes(type)) throw new GuestFault(bad, error);
  if ((segments.attributes & ATTRIBUTE.present) === 0) throw new GuestFault(EXCEPTION.NP, error);
  const wide = (type & WIDE) !== 0;
  if (segments.limit < (wide ? TSS32.last : TSS16.last)) throw new GuestFault(EXCEPTION.TS, error);
  return wide;
}

function readTask32({ view, memory }: SystemParts, base: number): Image {
  const at = (offset: number) => memory.load32((base + offset) >>> 0, 0, true);
  const half = (offset: number) => memory.load16((base + offset) >>> 0, 0, true);
  return {
    cr3: (view.low(STATE.cr0) & CR0.PG) === 0 ? undefined : at(TSS32.cr3),
    ip: at(TSS32.ip),
    flags: at(TSS32.flags),
    gprs: eight((i) => at(TSS32.gpr + i * 4)),
    selectors: Array.from({ length: SEGMENT_COUNT }, (_, i) => half(TSS32.segments + i * 4)),
    ldt: half(TSS32.ldt),
    trap: (half(TSS32.trap) & 1) !== 0,
  };
}
function readTask16({ view, memory }: SystemParts, base: number): Image {
  const at = (offset: number) => memory.load16((base + offset) >>> 0, 0, true);
  return {
    cr3: undefined,
    ip: at(TSS16.ip),
    flags: at(TSS16.flags),
    gprs: eight((i) => ((view.gprLow(i) & ~0xffff) | at(TSS16.gpr + i * 2)) >>> 0),
    selectors: Array.from({ length: SEGMENT_COUNT }, (_, i) => (i < SEGMENTS16 ? at(TSS16.segments + i * 2) : 0)),
    ldt: at(TSS16.ldt),
    trap: false,
  };
}
function eight(value: (i: number) => number): number[] {
  return Array.from({ length: 8 }, (_, i) => value(i));
}

/** Raises what a store of a byte there would raise. */
function touch({ memory }: SystemParts, at: number): void {
  memory.store8(at >>> 0, 0, memory.load8(at >>> 0, 0, true), true);
}
/** A TSS lies in two pages at most. */
function touchOldTask(parts: SystemParts): void {
  const base = parts.view.baseLow(TR);
  const fields = (parts.view.attributes(TR) & WIDE) !== 0 ? TSS32 : TSS16;
  touch(parts, base + fields.ip);
  touch(parts, base + fields.ldt - 1);
}

/** Saves the present task in its TSS: all but the static fields (stacks, LDT, CR3, link). */
function saveTask({ view, memory }: SystemParts, flags: number): void {
  const base = view.baseLow(TR);
  const wide = (view.attributes(TR) & WIDE) !== 0;
  const fields = wide ? TSS32 : TSS16;
  const bytes = wide ? 4 : 2;
  const put = (offset: number, value: number) => {
    if (wide) memory.store32((base + offset) >>> 0, 0, value, true);
    else memory.store16((base + offset) >>> 0, 0, value, true);
  };
  put(fields.ip, view.low(STATE.rip));
  put(fields.flags, flags);
  for (let i = 0; i < 8; i++) put(fields.gpr + i * bytes, view.gprLow(i));
  for (let i = 0; i < (wide ? SEGMENT_COUNT : SEGMENTS16); i++) {
    memory.store16((base + fields.segments + i * bytes) >>> 0, 0, view.selector(i), true);
  }
}

/** Loads the new task's registers; segments last, each checked. */
function loadTask(parts: SystemParts, image: Image, nests: boolean, ext: number): void {
  const { view } = parts;
  view.setHalves(STATE.rip, image.ip, 0);
  for (const [i, value] of image.gprs.entries()) view.setGprHalves(i, value, 0);
  view.rflags = (image.flags & TASK_FLAGS) | (nests ? NT : 0);
  const virtual = view.virtual8086;
  const [, code = 0] = image.selectors;
  view.cpl = virtual ? 3 : code & 3;
  for (const [segment, selector] of image.selectors.entries()) {
    if (virtual) view.setSegment(segment, selector, 0xf3, 0xffff, selector << 4, 0);
    else view.setSegment(segment, selector, segment === SS ? view.cpl << ATTRIBUTE.dplShift : 0, 0, 0, 0);
  }
  view.setSegment(LDTR, image.ldt, 0, 0, 0, 0);
  if (image.cr3 !== undefined) loadPageDirectory(parts, image.cr3, 0);
  // The segments are fetched by the new task's rights and translations.
  parts.host.viewChanged();
  loadTable(parts, image.ldt, ext);
  if (!virtual) {
    for (const segment of [CS, SS, 0, 3, 4, 5]) loadTaskSegment(parts, segment, image.selectors[segment] ?? 0, ext);
  }
  if (image.ip > view.limit(CS) >>> 0) throw new GuestFault(EXCEPTION.GP, ext);
}

function loadTable({ view, segments }: SystemParts, selector: number, ext: number): void {
  if ((selector & 0xfffc) === 0) return;
  const fault = new GuestFault(EXCEPTION.TS, selectorError(selector, ext));
  if ((selector & 4) !== 0 || !segments.find(selector)) throw fault;
  const { attributes } = segments;
  const type = attributes & (ATTRIBUTE.memory | ATTRIBUTE.type);
  if (type !== SYSTEM_TYPE.ldt || (attributes & ATTRIBUTE.present) === 0) throw fault;
  view.setSegment(LDTR, selector, attributes, segments.limit, segments.base, 0);
}

/** One of ES to GS for the new task: #TS(selector) where it is unfit, #NP or #SS where it is absent. */
function loadTaskSegment({ view, segments }: SystemParts, segment: number, selector: number, ext: number): void {
  const error = selectorError(selector, ext);
  const unfit = new GuestFault(EXCEPTION.TS, error);
  const needed = segment === CS || segment === SS;
  if ((selector & 0xfffc) === 0) {
    if (needed) throw unfit;
    segments.assignNull(segment, selector);
    return;
  }
  if (!segments.find(selector)) throw unfit;
  const { attributes } = segments;
  const dpl = dplOf(attributes);
  const rpl = selector & 3;
  const fits =
    segment === CS
      ? isCode(attributes) && (isConforming(attributes) ? dpl <= rpl : dpl === rpl)
      : segment === SS
        ? isWritableData(attributes) && dpl === view.cpl && rpl === view.cpl
        : segments.readable(attributes, rpl);
  if (!fits) throw unfit;
  if ((attributes & ATTRIBUTE.present) === 0) throw new GuestFault(segment === SS ? EXCEPTION.SS : EXCEPTION.NP, error);
  segments.assign(segment, selector);
}
