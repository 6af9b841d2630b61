/** Between CpuState and KVM's structures: what both engines share against what KVM takes. [kvm api §4.11-4.13] */

import { IsolaError } from "../../base/errors.ts";
import { IA32_DEBUGCTL, IA32_EFER, IA32_FS_BASE, IA32_GS_BASE, IA32_TSC_ADJUST, MSRS } from "../../isa/msrs.ts";
import {
  type CpuState,
  GPR_NAMES,
  type GprName,
  type PendingEvent,
  SEGMENT_NAMES,
  type SegmentName,
  type SegmentState,
  type VcpuActivity,
} from "../vcpu.ts";
import {
  KVM_DEBUGREGS,
  KVM_DTABLE,
  KVM_FPU,
  KVM_MP_STATE,
  KVM_REGS,
  KVM_SEGMENT,
  KVM_SREGS,
  KVM_VCPU_EVENTS,
  KVM_VCPUEVENT_VALID,
  KVM_X86_SHADOW_INT_STI,
  KVM_XCRS,
} from "./abi.ts";
import type { VcpuFile } from "./vcpu-file.ts";

/** KVM's places of the segments, by CpuState's names. */
const SEGMENT_OFFSETS: Readonly<Record<SegmentName, number>> = {
  es: KVM_SREGS.offset.es,
  cs: KVM_SREGS.offset.cs,
  ss: KVM_SREGS.offset.ss,
  ds: KVM_SREGS.offset.ds,
  fs: KVM_SREGS.offset.fs,
  gs: KVM_SREGS.offset.gs,
  ldtr: KVM_SREGS.offset.ldt,
  tr: KVM_SREGS.offset.tr,
};

function writeSegment(sregs: DataView, at: number, { selector, base, limit, attributes }: SegmentState): void {
  const { offset } = KVM_SEGMENT;
  const present = (attributes >> 7) & 1;
  sregs.setBigUint64(at + offset.base, base, true);
  sregs.setUint32(at + offset.limit, limit, true);
  sregs.setUint16(at + offset.selector, selector, true);
  sregs.setUint8(at + offset.type, attributes & 15);
  sregs.setUint8(at + offset.s, (attributes >> 4) & 1);
  sregs.setUint8(at + offset.dpl, (attributes >> 5) & 3);
  sregs.setUint8(at + offset.present, present);
  sregs.setUint8(at + offset.avl, (attributes >> 12) & 1);
  sregs.setUint8(at + offset.l, (attributes >> 13) & 1);
  sregs.setUint8(at + offset.db, (attributes >> 14) & 1);
  sregs.setUint8(at + offset.g, (attributes >> 15) & 1);
  sregs.setUint8(at + offset.unusable, present ^ 1);
}

/** Loads registers, control registers, segments and EFER. The FPU is apart: `loadFx`. */
export function loadState(vcpu: VcpuFile, state: CpuState): void {
  vcpu.readSregs();
  const { sregs, regs } = vcpu;
  const { offset } = KVM_SREGS;
  for (const [name, at] of Object.entries(SEGMENT_OFFSETS)) {
    writeSegment(sregs, at, state.segments[name as SegmentName]);
  }
  for (const [at, table] of [[offset.gdt, state.gdtr] as const, [offset.idt, state.idtr] as const]) {
    sregs.setBigUint64(at + KVM_DTABLE.offset.base, table.base, true);
    sregs.setUint16(at + KVM_DTABLE.offset.limit, table.limit, true);
  }
  sregs.setBigUint64(offset.cr0, state.cr0, true);
  sregs.setBigUint64(offset.cr2, state.cr2, true);
  sregs.setBigUint64(offset.cr3, state.cr3, true);
  sregs.setBigUint64(offset.cr4, state.cr4, true);
  sregs.setBigUint64(offset.efer, state.msrs.get(IA32_EFER) ?? 0n, true);
  vcpu.writeSregs();
  for (const name of GPR_NAMES) regs.setBigUint64(KVM_REGS.offset[name], state.gpr[name], true);
  regs.setBigUint64(KVM_REGS.offset.rip, state.rip, true);
  regs.setBigUint64(KVM_REGS.offset.rflags, state.rflags, true);
  vcpu.writeRegs();
}

/** Loads a 512-byte FXSAVE64 image [SDM 1 §10.5.1]. */
export function loadFx(vcpu: VcpuFile, fx: Uint8Array): void {
  const source = new DataView(fx.buffer, fx.byteOffset, fx.byteLength);
  const { fpu } = vcpu;
  const { offset } = KVM_FPU;
  const target = new Uint8Array(fpu.buffer, fpu.byteOffset, fpu.byteLength);
  fpu.setUint16(offset.fcw, source.getUint16(0, true), true);
  fpu.setUint16(offset.fsw, source.getUint16(2, true), true);
  fpu.setUint8(offset.ftwx, source.getUint8(4));
  fpu.setUint16(offset.lastOpcode, source.getUint16(6, true), true);
  fpu.setBigUint64(offset.lastIp, source.getBigUint64(8, true), true);
  fpu.setBigUint64(offset.lastDp, source.getBigUint64(16, true), true);
  fpu.setUint32(offset.mxcsr, source.getUint32(24, true), true);
  target.set(fx.subarray(32, 32 + 128), offset.fpr);
  target.set(fx.subarray(160, 160 + 256), offset.xmm);
  vcpu.writeFpu();
}

/** XSTATE_BV in the XSAVE area's header, and its bits for x87 and SSE. [SDM 1 §13.4.2] */
const XSTATE_BV = 512;
const X87_AND_SSE = 3n;
const FX_BYTES = 512;
/** XCR0 as KVM wants it in its list: index 0. */
const XCR0 = 0;

/**
 * The model-specific registers of a CpuState that KVM has as such: those that software may write. Segment bases and
 * EFER are in KVM's system registers.
 */
const MOVED_MSRS: readonly number[] = [
  IA32_TSC_ADJUST,
  ...[...MSRS.values()]
    .filter(
      ({ slot, field, writable, index }) =>
        (slot >= 0 || field !== undefined) && writable !== 0n && index !== IA32_EFER,
    )
    .map(({ index }) => index),
].filter((index) => index !== IA32_FS_BASE && index !== IA32_GS_BASE);

/** Writes a whole architectural state. @throws IsolaError `kvm-state` where this KVM lacks a register that it needs */
export function loadCpuState(vcpu: VcpuFile, state: CpuState): void {
  loadState(vcpu, state);
  if (state.xcr0 > 1n) {
    const { offset } = KVM_XCRS;
    vcpu.xcrs.setUint32(offset.count, 1, true);
    vcpu.xcrs.setUint32(offset.flags, 0, true);
    vcpu.xcrs.setUint32(offset.xcr0, XCR0, true);
    vcpu.xcrs.setBigUint64(offset.xcr0 + 8, state.xcr0, true);
    vcpu.writeXcrs();
  }
  vcpu.readXsave();
  const area = new Uint8Array(vcpu.xsave.buffer, vcpu.xsave.byteOffset, vcpu.xsave.byteLength);
  if (state.xsave !== undefined) area.set(state.xsave);
  area.set(state.fx.subarray(0, FX_BYTES));
  vcpu.xsave.setBigUint64(XSTATE_BV, vcpu.xsave.getBigUint64(XSTATE_BV, true) | X87_AND_SSE, true);
  vcpu.writeXsave();
  const { offset } = KVM_DEBUGREGS;
  for (let i = 0; i < 4; i++) vcpu.debug.setBigUint64(offset.db + 8 * i, state.dr[i] ?? 0n, true);
  vcpu.debug.setBigUint64(offset.dr6, state.dr[4], true);
  vcpu.debug.setBigUint64(offset.dr7, state.dr[5], true);
  vcpu.debug.setBigUint64(offset.flags, 0n, true);
  vcpu.writeDebug();
  loadMsrs(vcpu, state.msrs);
  loadEvents(vcpu, state);
  vcpu.mpState = ACTIVITIES[state.activity];
}

const ACTIVITIES: Readonly<Record<VcpuActivity, number>> = {
  running: KVM_MP_STATE.RUNNABLE,
  halted: KVM_MP_STATE.HALTED,
  // What it waits for besides, an INIT before its start-up message, is its local APIC's.
  "wait-for-startup": KVM_MP_STATE.UNINITIALIZED,
};

/** What KVM_GET_MP_STATE tells of a processor that has been started, or not. */
function activityOf(mpState: number): VcpuActivity {
  if (mpState === KVM_MP_STATE.HALTED) return "halted";
  return mpState === KVM_MP_STATE.RUNNABLE ? "running" : "wait-for-startup";
}

/** Blocking of interrupts, and an event whose delivery had begun. A waiting NMI is the local APIC's. [kvm api §4.32] */
function loadEvents(vcpu: VcpuFile, { interruptShadow, nmiBlocked, event }: CpuState): void {
  vcpu.readEvents();
  const { events } = vcpu;
  const { offset } = KVM_VCPU_EVENTS;
  const is = (kind: PendingEvent["kind"]): number => (event?.kind === kind ? 1 : 0);
  const vector = event?.vector ?? 0;
  events.setUint8(offset.exceptionInjected, is("exception"));
  events.setUint8(offset.exceptionNumber, is("exception") * vector);
  events.setUint8(offset.exceptionHasErrorCode, event?.errorCode === undefined ? 0 : 1);
  events.setUint32(offset.exceptionErrorCode, event?.errorCode ?? 0, true);
  events.setUint8(offset.exceptionPending, 0);
  events.setUint8(offset.interruptInjected, is("interrupt") | is("software"));
  events.setUint8(offset.interruptNumber, (is("interrupt") | is("software")) * vector);
  events.setUint8(offset.interruptSoft, is("software"));
  events.setUint8(offset.interruptShadow, interruptShadow ? KVM_X86_SHADOW_INT_STI : 0);
  events.setUint8(offset.nmiInjected, is("nmi"));
  events.setUint8(offset.nmiMasked, nmiBlocked ? 1 : 0);
  events.setUint32(offset.flags, KVM_VCPUEVENT_VALID.SHADOW, true);
  vcpu.writeEvents();
}

/** What stands between two instructions. */
function saveEvents(vcpu: VcpuFile): Pick<CpuState, "activity" | "interruptShadow" | "nmiBlocked" | "event"> {
  // First: it makes KVM take INIT and start-up messages that wait.
  const activity = activityOf(vcpu.mpState);
  vcpu.readEvents();
  const { events } = vcpu;
  const { offset } = KVM_VCPU_EVENTS;
  const flag = (at: number): boolean => events.getUint8(at) !== 0;
  let event: PendingEvent | undefined;
  if (flag(offset.exceptionInjected)) {
    const errorCode = events.getUint32(offset.exceptionErrorCode, true);
    const code = flag(offset.exceptionHasErrorCode) ? { errorCode } : {};
    event = { kind: "exception", vector: events.getUint8(offset.exceptionNumber), ...code };
  } else if (flag(offset.interruptInjected)) {
    const kind = flag(offset.interruptSoft) ? "software" : "interrupt";
    event = { kind, vector: events.getUint8(offset.interruptNumber) };
  } else if (flag(offset.nmiInjected)) {
    event = { kind: "nmi", vector: 2 };
  }
  return {
    activity,
    interruptShadow: flag(offset.interruptShadow),
    nmiBlocked: flag(offset.nmiMasked),
    ...(event === undefined ? {} : { event }),
  };
}

function loadMsrs(vcpu: VcpuFile, msrs: ReadonlyMap<number, bigint>): void {
  let left = MOVED_MSRS.flatMap((index) => {
    const value = msrs.get(index);
    // Some KVMs have no debug control, and note in the kernel's log who writes it.
    return value === undefined || (index === IA32_DEBUGCTL && value === 0n) ? [] : [[index, value] as const];
  });
  while (left.length > 0) {
    const refused = left[vcpu.writeMsrs(left)];
    if (refused === undefined) return;
    const [index, value] = refused;
    // A register that this KVM lacks has its reset value for whoever reads it not.
    if (value !== (MSRS.get(index)?.reset ?? 0n)) {
      const name = MSRS.get(index)?.name ?? `MSR 0x${index.toString(16)}`;
      throw new IsolaError({
        code: "kvm-state",
        message: `loading the processor's state: this host's KVM refuses 0x${value.toString(16)} for ${name}; use --engine wasm`,
      });
    }
    left = left.slice(left.indexOf(refused) + 1);
  }
}

function readSegment(sregs: DataView, at: number): SegmentState {
  const { offset } = KVM_SEGMENT;
  const byte = (name: "type" | "s" | "dpl" | "present" | "avl" | "l" | "db" | "g") => sregs.getUint8(at + offset[name]);
  const present = sregs.getUint8(at + offset.unusable) === 0 ? byte("present") : 0;
  return {
    selector: sregs.getUint16(at + offset.selector, true),
    base: sregs.getBigUint64(at + offset.base, true),
    limit: sregs.getUint32(at + offset.limit, true),
    attributes:
      byte("type") |
      (byte("s") << 4) |
      (byte("dpl") << 5) |
      (present << 7) |
      (byte("avl") << 12) |
      (byte("l") << 13) |
      (byte("db") << 14) |
      (byte("g") << 15),
  };
}

/** A register's value as the processor model has it: bits that software cannot set are the model's, not KVM's. */
function modelled(index: number, value: bigint): bigint {
  const { writable, reset } = MSRS.get(index) ?? { writable: 0n, reset: value };
  return (value & writable) | (reset & ~writable);
}

/** Reads a whole architectural state; the vCPU has no access in flight. */
export function saveCpuState(vcpu: VcpuFile): CpuState {
  vcpu.readRegs();
  vcpu.readSregs();
  vcpu.readXcrs();
  vcpu.readXsave();
  vcpu.readDebug();
  const { regs, sregs, xcrs, xsave, debug } = vcpu;
  const { offset } = KVM_SREGS;
  const register = (name: GprName | "rip" | "rflags") => regs.getBigUint64(KVM_REGS.offset[name], true);
  const system = (name: "cr0" | "cr2" | "cr3" | "cr4" | "efer") => sregs.getBigUint64(offset[name], true);
  const table = (at: number) => ({
    base: sregs.getBigUint64(at + KVM_DTABLE.offset.base, true),
    limit: sregs.getUint16(at + KVM_DTABLE.offset.limit, true),
  });
  const db = (index: number) => debug.getBigUint64(KVM_DEBUGREGS.offset.db + 8 * index, true);
  const msrs = new Map<number, bigint>([[IA32_EFER, system("efer")]]);
  for (let from = 0; from < MOVED_MSRS.length; ) {
    const values = vcpu.readMsrs(MOVED_MSRS.slice(from));
    for (const [i, value] of values.entries()) {
      const index = MOVED_MSRS[from + i] ?? 0;
      msrs.set(index, modelled(index, value));
    }
    // The one that ended the list is lacking here.
    from += values.length + 1;
  }
  const xcr0 =
    xcrs.getUint32(KVM_XCRS.offset.count, true) === 0 ? 1n : xcrs.getBigUint64(KVM_XCRS.offset.xcr0 + 8, true);
  const area = new Uint8Array(xsave.buffer, xsave.byteOffset, xsave.byteLength);
  return {
    gpr: Object.fromEntries(GPR_NAMES.map((name) => [name, register(name)])) as Record<GprName, bigint>,
    rip: register("rip"),
    rflags: register("rflags"),
    segments: Object.fromEntries(
      SEGMENT_NAMES.map((name) => [name, readSegment(sregs, SEGMENT_OFFSETS[name])]),
    ) as Record<SegmentName, SegmentState>,
    gdtr: table(offset.gdt),
    idtr: table(offset.idt),
    cr0: system("cr0"),
    cr2: system("cr2"),
    cr3: system("cr3"),
    cr4: system("cr4"),
    xcr0,
    dr: [
      db(0),
      db(1),
      db(2),
      db(3),
      debug.getBigUint64(KVM_DEBUGREGS.offset.dr6, true),
      debug.getBigUint64(KVM_DEBUGREGS.offset.dr7, true),
    ],
    msrs,
    fx: area.slice(0, FX_BYTES),
    ...((xcr0 & ~X87_AND_SSE) === 0n ? {} : { xsave: area.slice() }),
    ...saveEvents(vcpu),
  };
}
