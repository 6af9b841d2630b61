/** The state in which these tests' guests begin: real mode, all segments from 0. */

import { KVM_REGS, KVM_SREGS } from "../../src/cpu/kvm/abi.ts";
import type { VcpuFile } from "../../src/cpu/kvm/vcpu-file.ts";

/** The next entry runs what lies at `address`. */
export function startAt(vcpu: VcpuFile, address: number): void {
  vcpu.readSregs();
  vcpu.sregs.setBigUint64(KVM_SREGS.offset.cs, 0n, true);
  vcpu.sregs.setUint16(KVM_SREGS.offset.cs + 12, 0, true);
  vcpu.writeSregs();
  vcpu.readRegs();
  vcpu.regs.setBigUint64(KVM_REGS.offset.rip, BigInt(address), true);
  vcpu.regs.setBigUint64(KVM_REGS.offset.rflags, 2n, true);
  vcpu.writeRegs();
}
