/** KVM on the host: needs a /dev/kvm that opens; without one each test says why it did not run. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { KVM_EXIT, KVM_RUN_IO } from "../../src/cpu/kvm/abi.ts";
import { Kvm } from "../../src/cpu/kvm/kvm.ts";
import { linuxSys } from "../../src/sys/linux.ts";
import { CaseMaker, type TestCase, toBatch } from "../fuzz/cases.ts";
import { exceptionText } from "../fuzz/compare.ts";
import { CODE_ADDRESS } from "../fuzz/image.ts";
import { KvmEngine } from "../fuzz/kvm-engine.ts";
import { BLOCK, NO_EXCEPTION, WINDOW_HIGH, WINDOW_READ_ONLY } from "../fuzz/layout.ts";
import { missingKvm } from "./host-kvm.ts";
import { startAt } from "./real-mode.ts";

const skip = missingKvm("KVM tests");

const HLT = 0xf4;

test("real-mode code in a shared WebAssembly memory writes to a port and halts", { skip }, () => {
  const sys = linuxSys();
  using kvm = Kvm.open(sys);
  using vm = kvm.createVm();
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  new Uint8Array(memory.buffer).set([0xb0, 0x42, 0xe6, 0x10, HLT], 0x1000); // MOV AL, 0x42; OUT 0x10, AL; HLT
  vm.setMemory({ slot: 0, guestPhysical: 0, sizeBytes: 65536, address: sys.addressOf(memory.buffer) });
  using vcpu = vm.createVcpu(0);
  vcpu.setCpuid(kvm.supportedCpuid());
  startAt(vcpu, 0x1000);
  assert.equal(vcpu.enter(), KVM_EXIT.IO);
  assert.equal(vcpu.run.getUint16(KVM_RUN_IO.port, true), 0x10);
  const data = Number(vcpu.run.getBigUint64(KVM_RUN_IO.dataOffset, true));
  assert.equal(vcpu.run.getUint8(data), 0x42);
  assert.equal(vcpu.enter(), KVM_EXIT.HLT);
});

/** Runs one case of `code` with RBX at `rbx`, and gives its block. */
function runOne(engine: KvmEngine, code: readonly number[], rbx: bigint): DataView {
  const maker = new CaseMaker(1, { bits: 64, generate: () => assert.fail("no instruction is generated here") });
  const test: TestCase = maker.makeWith(3, Uint8Array.from(code), [], 0);
  const input = new DataView(test.input.buffer);
  input.setBigUint64(BLOCK.gpr, 40n, true);
  input.setBigUint64(BLOCK.gpr + 24, rbx, true);
  input.setUint32(BLOCK.rflags, 2, true);
  const { outputs } = engine.run(toBatch([test], maker.window));
  return new DataView(outputs.buffer, outputs.byteOffset, BLOCK.size);
}

const ADD_RAX_RBX = [0x48, 0x01, 0xd8];
const MOV_AT_RBX_AL = [0x88, 0x03];

test("ring 3 runs natively, and every outcome is told apart", { skip }, () => {
  using engine = new KvmEngine();
  const added = runOne(engine, ADD_RAX_RBX, 2n);
  assert.equal(added.getUint32(BLOCK.vector, true), NO_EXCEPTION);
  assert.equal(added.getBigUint64(BLOCK.gpr, true), 42n);
  assert.equal(added.getUint32(BLOCK.rflags, true) & 0x8d5, 0);

  const missing = runOne(engine, MOV_AT_RBX_AL, 0x1_2345_1234n);
  assert.match(exceptionText(missing), /^#PF\(0x6\) .* cr2 0x123451234$/);
  const readOnly = runOne(engine, [0x90, ...MOV_AT_RBX_AL], WINDOW_HIGH + BigInt(WINDOW_READ_ONLY));
  assert.match(exceptionText(readOnly), /^#PF\(0x7\)/);
  assert.equal((readOnly.getBigUint64(BLOCK.rip, true) - CODE_ADDRESS) & 0xfn, (BigInt(caseOffset()) + 1n) & 0xfn);
  assert.match(exceptionText(runOne(engine, [0x0f, 0x0b], 0n)), /^#UD/);
  assert.match(exceptionText(runOne(engine, [0xcc], 0n)), /^#BP/);
  assert.match(exceptionText(runOne(engine, [0x31, 0xc9, 0xf7, 0xf1], 0n)), /^#DE/);
  assert.match(exceptionText(runOne(engine, MOV_AT_RBX_AL, 1n << 60n)), /^#GP\(0x0\)/);
});

function caseOffset(): number {
  const maker = new CaseMaker(1, { bits: 64, generate: () => assert.fail("no instruction is generated here") });
  return maker.makeWith(3, new Uint8Array(0), [], 0).codeOffset;
}

test("a case that does not end is ended, and the next one runs", { skip }, () => {
  using engine = new KvmEngine();
  assert.match(exceptionText(runOne(engine, [0xeb, 0xfe], 0n)), /^did not end/);
  assert.equal(runOne(engine, ADD_RAX_RBX, 2n).getBigUint64(BLOCK.gpr, true), 42n);
});
