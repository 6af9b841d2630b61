/** Between CpuState and KVM's structures: what both engines share against what KVM takes. [kvm api §4.11-4.13] */

import { type CpuState, GPR_NAMES, type SegmentName, type SegmentState } from "../vcpu.ts";
import { KVM_DTABLE, KVM_FPU, KVM_REGS, KVM_SEGMENT, KVM_SREGS } from "./abi.ts";
import type { VcpuFile } from "./vcpu-file.ts";

const IA32_EFER = 0xc000_0080;

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
