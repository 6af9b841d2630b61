/** A KVM vCPU's file descriptor: its registers as raw structures, its kvm_run page, and KVM_RUN. [kvm api §4, §5] */

import { check, ERRNO, MAP_SHARED, type Mapping, PROT_READ, PROT_WRITE, type Sys } from "../../sys/sys.ts";
import {
  KVM_FPU,
  KVM_GET_FPU,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_GET_XCRS,
  KVM_GET_XSAVE,
  KVM_REGS,
  KVM_RUN,
  KVM_RUN_STATE,
  KVM_SET_CPUID2,
  KVM_SET_FPU,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_XCRS,
  KVM_SET_XSAVE,
  KVM_SREGS,
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

export class VcpuFile implements Disposable {
  readonly regs: DataView;
  readonly sregs: DataView;
  readonly fpu: DataView;
  readonly xsave: DataView;
  readonly xcrs: DataView;
  /** struct kvm_run, shared with the kernel. */
  readonly run: DataView;
  readonly runBytes: Uint8Array;

  readonly #sys: Sys;
  readonly #fd: number;
  readonly #mapping: Mapping;
  readonly #regs: Block;
  readonly #sregs: Block;
  readonly #fpu: Block;
  readonly #xsave: Block;
  readonly #xcrs: Block;

  constructor(sys: Sys, fd: number, runBytes: number) {
    this.#sys = sys;
    this.#fd = fd;
    this.#mapping = sys.mmap({ length: runBytes, protection: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
    this.runBytes = this.#mapping.bytes;
    this.run = new DataView(this.runBytes.buffer);
    this.#regs = new Block(sys, KVM_REGS.size);
    this.#sregs = new Block(sys, KVM_SREGS.size);
    this.#fpu = new Block(sys, KVM_FPU.size);
    this.#xsave = new Block(sys, KVM_XSAVE_BYTES);
    this.#xcrs = new Block(sys, KVM_XCRS.size);
    this.regs = this.#regs.view;
    this.sregs = this.#sregs.view;
    this.fpu = this.#fpu.view;
    this.xsave = this.#xsave.view;
    this.xcrs = this.#xcrs.view;
  }

  // SAFETY, for all that follow: each block has the size of the structure that its request names, and lives as long as
  // this object; the kernel copies during the call.
  readRegs(): void {
    check(this.#sys.ioctl(this.#fd, KVM_GET_REGS, this.#regs.address), "read the vCPU's registers");
  }
  writeRegs(): void {
    check(this.#sys.ioctl(this.#fd, KVM_SET_REGS, this.#regs.address), "write the vCPU's registers");
  }
  readSregs(): void {
    check(this.#sys.ioctl(this.#fd, KVM_GET_SREGS, this.#sregs.address), "read the vCPU's system registers");
  }
  writeSregs(): void {
    check(this.#sys.ioctl(this.#fd, KVM_SET_SREGS, this.#sregs.address), "write the vCPU's system registers");
  }
  readFpu(): void {
    check(this.#sys.ioctl(this.#fd, KVM_GET_FPU, this.#fpu.address), "read the vCPU's FPU");
  }
  writeFpu(): void {
    check(this.#sys.ioctl(this.#fd, KVM_SET_FPU, this.#fpu.address), "write the vCPU's FPU");
  }
  readXsave(): void {
    check(this.#sys.ioctl(this.#fd, KVM_GET_XSAVE, this.#xsave.address), "read the vCPU's XSAVE area");
  }
  writeXsave(): void {
    check(this.#sys.ioctl(this.#fd, KVM_SET_XSAVE, this.#xsave.address), "write the vCPU's XSAVE area");
  }
  readXcrs(): void {
    check(this.#sys.ioctl(this.#fd, KVM_GET_XCRS, this.#xcrs.address), "read the vCPU's XCR0");
  }
  writeXcrs(): void {
    check(this.#sys.ioctl(this.#fd, KVM_SET_XCRS, this.#xcrs.address), "write the vCPU's XCR0");
  }

  /** `cpuid` is a struct kvm_cpuid2, as `Kvm.supportedCpuid` gives; before the first `enter`. */
  setCpuid(cpuid: Uint8Array): void {
    const copy = new Uint8Array(cpuid);
    check(this.#sys.ioctl(this.#fd, KVM_SET_CPUID2, this.#sys.addressOf(copy)), "set the vCPU's CPUID");
  }

  /** Runs the guest until it exits; gives KVM_EXIT's reason, or undefined where a signal interrupted it. */
  enter(): number | undefined {
    // SAFETY: KVM_RUN takes no argument. The guest reaches only the memory that its VM was given.
    const result = this.#sys.ioctl(this.#fd, KVM_RUN, 0n);
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) return undefined;
    check(result, "run the vCPU");
    return this.run.getUint32(KVM_RUN_STATE.offset.exitReason, true);
  }

  [Symbol.dispose](): void {
    this.#mapping.unmap();
    this.#sys.close(this.#fd);
  }
}
