/** A KVM vCPU's file descriptor: its registers as raw structures, its kvm_run page, and KVM_RUN. [kvm api §4, §5] */

import { check, ERRNO, MAP_SHARED, type Mapping, PROT_READ, PROT_WRITE, type Sys } from "../../sys/sys.ts";
import {
  KVM_DEBUGREGS,
  KVM_FPU,
  KVM_GET_DEBUGREGS,
  KVM_GET_FPU,
  KVM_GET_LAPIC,
  KVM_GET_MP_STATE,
  KVM_GET_MSRS,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_GET_TSC_KHZ,
  KVM_GET_VCPU_EVENTS,
  KVM_GET_XCRS,
  KVM_GET_XSAVE,
  KVM_LAPIC_BYTES,
  KVM_MSR_ENTRY,
  KVM_MSRS,
  KVM_REGS,
  KVM_RUN,
  KVM_RUN_STATE,
  KVM_SET_CPUID2,
  KVM_SET_DEBUGREGS,
  KVM_SET_FPU,
  KVM_SET_LAPIC,
  KVM_SET_MP_STATE,
  KVM_SET_MSRS,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_TSC_KHZ,
  KVM_SET_VCPU_EVENTS,
  KVM_SET_XCRS,
  KVM_SET_XSAVE,
  KVM_SREGS,
  KVM_TRANSLATION,
  KVM_TRANSLATE,
  KVM_VCPU_EVENTS,
  KVM_XCRS,
  KVM_XSAVE_BYTES,
} from "./abi.ts";

/** A structure in a buffer of its own, with its address taken once, so that an ioctl costs no allocation. */
class Block {
  readonly view: DataView;
  readonly address: bigint;

  constructor(sys: Sys, size: number) {
    // A buffer beyond V8's on-heap limit keeps its address; small typed arrays would move with their heap.
    const buffer = new ArrayBuffer(Math.max(size, 128));
    this.view = new DataView(buffer);
    this.address = sys.addressOf(buffer);
  }
}

function msrBlock(values: readonly (readonly [number, bigint])[]): DataView {
  const block = new DataView(new ArrayBuffer(KVM_MSRS.size + values.length * KVM_MSR_ENTRY.size));
  block.setUint32(KVM_MSRS.offset.count, values.length, true);
  for (const [place, [index, value]] of values.entries()) {
    const at = KVM_MSRS.size + place * KVM_MSR_ENTRY.size;
    block.setUint32(at + KVM_MSR_ENTRY.offset.index, index, true);
    block.setBigUint64(at + KVM_MSR_ENTRY.offset.data, value, true);
  }
  return block;
}

/** Where a vCPU's descriptor and its kvm_run are in this process. */
export interface VcpuPlace {
  readonly fd: number;
  readonly runAddress: bigint;
  readonly runBytes: number;
}

export class VcpuFile implements Disposable {
  readonly regs: DataView;
  readonly sregs: DataView;
  readonly fpu: DataView;
  readonly xsave: DataView;
  readonly xcrs: DataView;
  readonly debug: DataView;
  readonly events: DataView;
  /** struct kvm_run, shared with the kernel. */
  readonly run: DataView;
  readonly runBytes: Uint8Array;

  /** The descriptor; this object closes it if it made the mapping. */
  readonly fd: number;
  readonly #sys: Sys;
  /** Absent where the object of another thread has it. */
  readonly #mapping: Mapping | undefined;
  readonly #regs: Block;
  readonly #sregs: Block;
  readonly #fpu: Block;
  readonly #xsave: Block;
  readonly #xcrs: Block;
  readonly #debug: Block;
  readonly #events: Block;

  private constructor(sys: Sys, fd: number, runBytes: Uint8Array, mapping: Mapping | undefined) {
    this.#sys = sys;
    this.fd = fd;
    this.#mapping = mapping;
    this.runBytes = runBytes;
    this.run = new DataView(runBytes.buffer, runBytes.byteOffset, runBytes.byteLength);
    this.#regs = new Block(sys, KVM_REGS.size);
    this.#sregs = new Block(sys, KVM_SREGS.size);
    this.#fpu = new Block(sys, KVM_FPU.size);
    this.#xsave = new Block(sys, KVM_XSAVE_BYTES);
    this.#xcrs = new Block(sys, KVM_XCRS.size);
    this.#debug = new Block(sys, KVM_DEBUGREGS.size);
    this.#events = new Block(sys, KVM_VCPU_EVENTS.size);
    this.regs = this.#regs.view;
    this.sregs = this.#sregs.view;
    this.fpu = this.#fpu.view;
    this.xsave = this.#xsave.view;
    this.xcrs = this.#xcrs.view;
    this.debug = this.#debug.view;
    this.events = this.#events.view;
  }

  /** Maps the kvm_run of a vCPU's descriptor, of which the new object is the owner. */
  static map(sys: Sys, fd: number, runBytes: number): VcpuFile {
    const mapping = sys.mmap({ length: runBytes, protection: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
    return new VcpuFile(sys, fd, mapping.bytes, mapping);
  }

  /** The vCPU that another thread's object owns, as that one's `place` tells. */
  static attach(sys: Sys, { fd, runAddress, runBytes }: VcpuPlace): VcpuFile {
    return new VcpuFile(sys, fd, sys.view(runAddress, runBytes), undefined);
  }

  /** For `attach`; only the owner has it. */
  get place(): VcpuPlace {
    if (this.#mapping === undefined) throw new Error("this vCPU is another thread's");
    return { fd: this.fd, runAddress: this.#mapping.address, runBytes: this.runBytes.length };
  }

  // SAFETY, for all that follow: each block has the size of the structure that its request names, and lives as long as
  // this object; the kernel copies during the call.
  readRegs(): void {
    check(this.#sys.ioctl(this.fd, KVM_GET_REGS, this.#regs.address), "read the vCPU's registers");
  }
  writeRegs(): void {
    check(this.#sys.ioctl(this.fd, KVM_SET_REGS, this.#regs.address), "write the vCPU's registers");
  }
  readSregs(): void {
    check(this.#sys.ioctl(this.fd, KVM_GET_SREGS, this.#sregs.address), "read the vCPU's system registers");
  }
  writeSregs(): void {
    check(this.#sys.ioctl(this.fd, KVM_SET_SREGS, this.#sregs.address), "write the vCPU's system registers");
  }
  readFpu(): void {
    check(this.#sys.ioctl(this.fd, KVM_GET_FPU, this.#fpu.address), "read the vCPU's FPU");
  }
  writeFpu(): void {
    check(this.#sys.ioctl(this.fd, KVM_SET_FPU, this.#fpu.address), "write the vCPU's FPU");
  }
  readXsave(): void {
    check(this.#sys.ioctl(this.fd, KVM_GET_XSAVE, this.#xsave.address), "read the vCPU's XSAVE area");
  }
  writeXsave(): void {
    check(this.#sys.ioctl(this.fd, KVM_SET_XSAVE, this.#xsave.address), "write the vCPU's XSAVE area");
  }
  readXcrs(): void {
    check(this.#sys.ioctl(this.fd, KVM_GET_XCRS, this.#xcrs.address), "read the vCPU's XCR0");
  }
  writeXcrs(): void {
    check(this.#sys.ioctl(this.fd, KVM_SET_XCRS, this.#xcrs.address), "write the vCPU's XCR0");
  }

  readDebug(): void {
    check(this.#sys.ioctl(this.fd, KVM_GET_DEBUGREGS, this.#debug.address), "read the vCPU's debug registers");
  }
  writeDebug(): void {
    check(this.#sys.ioctl(this.fd, KVM_SET_DEBUGREGS, this.#debug.address), "write the vCPU's debug registers");
  }

  readEvents(): void {
    check(this.#sys.ioctl(this.fd, KVM_GET_VCPU_EVENTS, this.#events.address), "read the vCPU's events");
  }
  writeEvents(): void {
    check(this.#sys.ioctl(this.fd, KVM_SET_VCPU_EVENTS, this.#events.address), "write the vCPU's events");
  }

  /** The local APIC's registers as they lie in its page. */
  readLapic(): DataView {
    const registers = new DataView(new ArrayBuffer(KVM_LAPIC_BYTES));
    check(this.#sys.ioctl(this.fd, KVM_GET_LAPIC, this.#sys.addressOf(registers)), "read the vCPU's local APIC");
    return registers;
  }
  writeLapic(registers: DataView): void {
    check(this.#sys.ioctl(this.fd, KVM_SET_LAPIC, this.#sys.addressOf(registers)), "write the vCPU's local APIC");
  }

  /** One of KVM_MP_STATE. */
  get mpState(): number {
    const state = new Uint32Array(32);
    check(this.#sys.ioctl(this.fd, KVM_GET_MP_STATE, this.#sys.addressOf(state)), "read the vCPU's activity");
    return state[0] ?? 0;
  }
  set mpState(value: number) {
    const state = new Uint32Array(32);
    state[0] = value;
    check(this.#sys.ioctl(this.fd, KVM_SET_MP_STATE, this.#sys.addressOf(state)), "write the vCPU's activity");
  }

  /** The values of model-specific registers, in order; the list ends before the first that this KVM lacks. */
  readMsrs(indexes: readonly number[]): bigint[] {
    const block = msrBlock(indexes.map((index) => [index, 0n]));
    const count = check(this.#sys.ioctl(this.fd, KVM_GET_MSRS, this.#sys.addressOf(block)), "read the vCPU's MSRs");
    const at = (index: number) => KVM_MSRS.size + index * KVM_MSR_ENTRY.size + KVM_MSR_ENTRY.offset.data;
    return Array.from({ length: count }, (_, index) => block.getBigUint64(at(index), true));
  }

  /** Writes model-specific registers in order; result: how many, up to the first that KVM refuses. */
  writeMsrs(values: readonly (readonly [number, bigint])[]): number {
    const block = msrBlock(values);
    return check(this.#sys.ioctl(this.fd, KVM_SET_MSRS, this.#sys.addressOf(block)), "write the vCPU's MSRs");
  }

  /** The guest-physical address of a linear one, by the vCPU's page tables; -1 where it is not mapped. */
  translate(linear: bigint): number {
    const block = new DataView(new ArrayBuffer(KVM_TRANSLATION.size));
    const { offset } = KVM_TRANSLATION;
    block.setBigUint64(offset.linear, linear, true);
    if (this.#sys.ioctl(this.fd, KVM_TRANSLATE, this.#sys.addressOf(block)) < 0) return -1;
    return block.getUint8(offset.valid) === 0 ? -1 : Number(block.getBigUint64(offset.physical, true));
  }

  /** Frequency of the guest's time-stamp counter in kHz. */
  tscKhz(): number {
    return check(this.#sys.ioctl(this.fd, KVM_GET_TSC_KHZ, 0n), "read the vCPU's TSC frequency");
  }

  /** Another frequency than the host's needs KVM_CAP_TSC_CONTROL. */
  setTscKhz(kiloHertz: number): void {
    check(this.#sys.ioctl(this.fd, KVM_SET_TSC_KHZ, BigInt(kiloHertz)), "set the vCPU's TSC frequency");
  }

  /** `cpuid` is a struct kvm_cpuid2, as `Kvm.supportedCpuid` gives; before the first `enter`. */
  setCpuid(cpuid: Uint8Array): void {
    const copy = new Uint8Array(cpuid);
    check(this.#sys.ioctl(this.fd, KVM_SET_CPUID2, this.#sys.addressOf(copy)), "set the vCPU's CPUID");
  }

  /** Runs the guest until it exits; gives KVM_EXIT's reason, or undefined where a signal interrupted it. */
  enter(): number | undefined {
    // SAFETY: KVM_RUN takes no argument. The guest reaches only the memory that its VM was given.
    const result = this.#sys.ioctl(this.fd, KVM_RUN, 0n);
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) return undefined;
    check(result, "run the vCPU");
    return this.run.getUint32(KVM_RUN_STATE.offset.exitReason, true);
  }

  [Symbol.dispose](): void {
    if (this.#mapping === undefined) return;
    this.#mapping.unmap();
    this.#sys.close(this.fd);
  }
}
