/** /dev/kvm and one virtual machine's file descriptor; the vCPU's is in vcpu-file.ts. [kvm api §4] */

import { readFileSync, statSync } from "node:fs";
import { IsolaError } from "../../base/errors.ts";
import { check, ERRNO, errnoName, O_CLOEXEC, O_RDWR, type Sys } from "../../sys/sys.ts";
import {
  KVM_API_VERSION,
  KVM_CAP,
  KVM_CHECK_EXTENSION,
  KVM_CPUID2,
  KVM_CPUID_ENTRY2,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_API_VERSION,
  KVM_GET_SUPPORTED_CPUID,
  KVM_GET_VCPU_MMAP_SIZE,
  KVM_MEM_READONLY,
  KVM_SET_USER_MEMORY_REGION,
  KVM_USERSPACE_MEMORY_REGION,
  type KvmCapability,
} from "./abi.ts";
import { VcpuFile } from "./vcpu-file.ts";

export const KVM_PATH = "/dev/kvm";
/** Entries asked for at first; the kernel answers E2BIG where there are more. */
const CPUID_ENTRIES = 256;

/** The group that may use /dev/kvm: the file's, by its name where the host has one. */
function groupOfKvm(): string {
  try {
    const { gid } = statSync(KVM_PATH);
    const line = readFileSync("/etc/group", "utf8")
      .split("\n")
      .find((one) => one.split(":")[2] === String(gid));
    return line?.split(":")[0] ?? String(gid);
  } catch {
    return "kvm";
  }
}

export interface MemorySlot {
  readonly slot: number;
  readonly guestPhysical: number;
  /** A multiple of 4096; 0 deletes the slot. */
  readonly sizeBytes: number;
  /** The host's address of the first byte, page-aligned. */
  readonly address: bigint;
  readonly readOnly?: boolean;
}

/** The host's KVM. */
export class Kvm implements Disposable {
  readonly sys: Sys;
  readonly #fd: number;
  /** Whether to close the descriptor. */
  readonly #owned: boolean;

  private constructor(sys: Sys, fd: number, owned: boolean) {
    this.sys = sys;
    this.#fd = fd;
    this.#owned = owned;
  }

  /** Opens /dev/kvm, or throws an error that says why it cannot. */
  static open(sys: Sys): Kvm {
    const fd = sys.open(KVM_PATH, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
      const remedy =
        fd === -ERRNO.EACCES
          ? `the user needs to be in the group ${groupOfKvm()}`
          : "wanted a host with KVM, or --engine wasm";
      throw new IsolaError({ code: "kvm-unavailable", message: `open ${KVM_PATH}: ${errnoName(-fd)}; ${remedy}` });
    }
    const kvm = new Kvm(sys, fd, true);
    try {
      kvm.#requireVersion();
      return kvm;
    } catch (error) {
      kvm[Symbol.dispose]();
      throw error;
    }
  }

  /** Over a descriptor of /dev/kvm that somebody else opened and closes: who has it needs no right on the file. */
  static adopt(sys: Sys, fd: number): Kvm {
    const kvm = new Kvm(sys, fd, false);
    kvm.#requireVersion();
    return kvm;
  }

  #requireVersion(): void {
    const version = this.sys.ioctl(this.#fd, KVM_GET_API_VERSION, 0n);
    if (version === KVM_API_VERSION) return;
    throw new IsolaError({
      code: "kvm-unavailable",
      message: `open ${KVM_PATH}: API version ${version}, wanted ${KVM_API_VERSION}; use --engine wasm`,
    });
  }

  /** The value of a capability; 0 where it is missing. */
  capability(name: KvmCapability): number {
    const number = BigInt(KVM_CAP[name]);
    return check(this.sys.ioctl(this.#fd, KVM_CHECK_EXTENSION, number), `ask KVM for its capability ${name}`);
  }

  /** struct kvm_cpuid2 with everything that this host's KVM can offer a guest. */
  supportedCpuid(): Uint8Array {
    const buffer = new Uint8Array(KVM_CPUID2.size + CPUID_ENTRIES * KVM_CPUID_ENTRY2.size);
    const view = new DataView(buffer.buffer);
    view.setUint32(KVM_CPUID2.offset.count, CPUID_ENTRIES, true);
    // SAFETY: the buffer holds as many entries as its head says; the kernel writes no more.
    const address = this.sys.addressOf(buffer);
    check(this.sys.ioctl(this.#fd, KVM_GET_SUPPORTED_CPUID, address), "read KVM's CPUID");
    const count = view.getUint32(KVM_CPUID2.offset.count, true);
    return buffer.subarray(0, KVM_CPUID2.size + count * KVM_CPUID_ENTRY2.size);
  }

  createVm(): KvmVm {
    const fd = check(this.sys.ioctl(this.#fd, KVM_CREATE_VM, 0n), "create a VM");
    const runBytes = check(this.sys.ioctl(this.#fd, KVM_GET_VCPU_MMAP_SIZE, 0n), "ask for the size of kvm_run");
    return new KvmVm(this.sys, fd, runBytes);
  }

  [Symbol.dispose](): void {
    if (this.#owned) this.sys.close(this.#fd);
  }
}

/** One virtual machine. Memory given to it must outlive it. */
export class KvmVm implements Disposable {
  readonly sys: Sys;
  readonly #fd: number;
  readonly #runBytes: number;

  constructor(sys: Sys, fd: number, runBytes: number) {
    this.sys = sys;
    this.#fd = fd;
    this.#runBytes = runBytes;
  }

  setMemory({ slot, guestPhysical, sizeBytes, address, readOnly = false }: MemorySlot): void {
    const region = new DataView(new ArrayBuffer(KVM_USERSPACE_MEMORY_REGION.size));
    const { offset } = KVM_USERSPACE_MEMORY_REGION;
    region.setUint32(offset.slot, slot, true);
    region.setUint32(offset.flags, readOnly ? KVM_MEM_READONLY : 0, true);
    region.setBigUint64(offset.guestPhysical, BigInt(guestPhysical), true);
    region.setBigUint64(offset.sizeBytes, BigInt(sizeBytes), true);
    region.setBigUint64(offset.address, address, true);
    // SAFETY: the kernel copies the structure. The memory it names is the caller's, who keeps it mapped.
    const result = this.sys.ioctl(this.#fd, KVM_SET_USER_MEMORY_REGION, this.sys.addressOf(region));
    check(result, `give the VM ${sizeBytes} bytes at guest-physical 0x${guestPhysical.toString(16)}`);
  }

  /** The descriptor, for what drives parts of the VM; this object closes it. */
  get fd(): number {
    return this.#fd;
  }

  createVcpu(id: number): VcpuFile {
    const fd = check(this.sys.ioctl(this.#fd, KVM_CREATE_VCPU, BigInt(id)), `create vCPU ${id}`);
    try {
      return VcpuFile.map(this.sys, fd, this.#runBytes);
    } catch (error) {
      this.sys.close(fd);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.sys.close(this.#fd);
  }
}
