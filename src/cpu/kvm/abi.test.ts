import assert from "node:assert/strict";
import { test } from "node:test";
import {
  KVM_CREATE_VCPU,
  KVM_FPU,
  KVM_GET_SREGS,
  KVM_GET_SUPPORTED_CPUID,
  KVM_REGS,
  KVM_RUN,
  KVM_RUN_STATE,
  KVM_SEGMENT,
  KVM_SET_USER_MEMORY_REGION,
  KVM_SREGS,
  KVM_XCRS,
  kvmExitName,
} from "./abi.ts";

// The figures are those that a C compiler gives for linux/kvm.h on x86-64.
test("structures have the kernel's sizes", () => {
  assert.equal(KVM_REGS.size, 144);
  assert.equal(KVM_REGS.offset.rip, 128);
  assert.equal(KVM_SEGMENT.size, 24);
  assert.equal(KVM_SREGS.size, 312);
  assert.equal(KVM_SREGS.offset.cr0, 224);
  assert.equal(KVM_FPU.size, 416);
  assert.equal(KVM_FPU.offset.mxcsr, 408);
  assert.equal(KVM_XCRS.size, 392);
  assert.equal(KVM_RUN_STATE.offset.exit, 32);
});

test("requests have the kernel's numbers", () => {
  assert.equal(KVM_CREATE_VCPU, 0xae41);
  assert.equal(KVM_RUN, 0xae80);
  assert.equal(KVM_GET_SREGS, 0x8138ae83);
  assert.equal(KVM_SET_USER_MEMORY_REGION, 0x4020ae46);
  assert.equal(KVM_GET_SUPPORTED_CPUID, 0xc008ae05);
});

test("exits have names", () => {
  assert.equal(kvmExitName(8), "SHUTDOWN");
  assert.equal(kvmExitName(77), "exit 77");
});
