/** A VM whose vCPU's thread is the test's: how it ends when the thread does well, fails, or is deaf. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { IsolaError } from "../base/errors.ts";
import { MIN_RAM_BYTES } from "../memory/guest-memory.ts";
import { elfOf } from "./boot/sample-kernels.ts";
import { CONTROL, type VcpuThreadMessage, type VcpuThreadStart } from "./vcpu-messages.ts";
import { portableProcessor } from "./portable-processor.ts";
import { VirtualMachine, type VcpuThread } from "./vm.ts";

class FakeThread implements VcpuThread {
  started: VcpuThreadStart | undefined;
  terminated = 0;
  post: (message: VcpuThreadMessage) => void = () => undefined;
  fail: (error: Error) => void = () => undefined;
  terminate = async (): Promise<void> => {
    this.terminated++;
    await Promise.resolve();
  };
  start(message: VcpuThreadStart): void {
    this.started = message;
  }
  onMessage(listener: (message: VcpuThreadMessage) => void): void {
    this.post = listener;
  }
  onFailure(listener: (error: Error) => void): void {
    this.fail = listener;
  }
}

const KERNEL = elfOf({ entry: 0x100000, segments: [{ physical: 0x100000, contents: new Uint8Array(16) }] });

function make(kernel = KERNEL, cpu = "x86-64-v2"): { vm: VirtualMachine; thread: FakeThread } {
  const thread = new FakeThread();
  const vm = new VirtualMachine(
    { memoryBytes: 2 * MIN_RAM_BYTES, kernel, commandLine: "", engine: "wasm", cpu },
    {
      createEngine: (request) => ({
        ...portableProcessor(request),
        createThread: () => thread,
        kick: () => undefined,
        dispose: () => undefined,
      }),
      decompress: async (bytes) => Promise.resolve(bytes),
    },
  );
  return { vm, thread };
}

test("an error that ends the thread is the VM's internal error, in one line, with its stack", async () => {
  const { vm, thread } = make();
  await vm.start();
  const error = new RangeError("no such handler\n  at all");
  thread.fail(error);
  thread.post({ kind: "ended", result: { kind: "power-off" } });
  const message = "its thread ended by an error: RangeError: no such handler at all";
  assert.deepEqual(await vm.done, { kind: "internal-error", message, stack: error.stack });
  assert.equal(thread.terminated, 1);
});

test("the vCPU's thread is told the CPU model; one without long mode takes no 64-bit kernel", async () => {
  const { vm, thread } = make(KERNEL, "x86-64-v2,+sha_ni,+aes");
  await vm.start();
  assert.equal(thread.started?.model, "x86-64-v2,+aes,+sha");
  vm.stop();
  const narrow = make(KERNEL, "x86-64-v2,-lm");
  await assert.rejects(narrow.vm.start(), (error) => {
    assert.ok(error instanceof IsolaError);
    return error.code === "cpu-model-unfit" && /64-bit.*-lm.*no long mode; wanted/.test(error.message);
  });
  await assert.rejects(make(KERNEL, "x86-64-v3").vm.start(), /lacks its avx/);
});

test("what the thread says last is how the VM ended", async () => {
  const { vm, thread } = make();
  await vm.start();
  thread.post({ kind: "ended", result: { kind: "reset" } });
  thread.fail(new Error("too late"));
  assert.deepEqual(await vm.done, { kind: "reset" });
});

test("a thread that does not hear of the stop is ended all the same", async () => {
  const { vm, thread } = make();
  await vm.start();
  vm.stop();
  vm.stop();
  const control = new Int32Array(thread.started?.control ?? new SharedArrayBuffer(0));
  assert.equal(control[CONTROL.stop], 1);
  assert.deepEqual(await vm.done, { kind: "stopped" });
  assert.equal(thread.terminated, 1);
  vm.stop();
});

test("a thread that cannot be ended is the host's failure", async () => {
  const { vm, thread } = make();
  await vm.start();
  thread.terminate = async () => Promise.reject(new Error("stuck"));
  thread.post({ kind: "ended", result: { kind: "power-off" } });
  await assert.rejects(vm.done, /stuck/);
});

test("a kernel that cannot be used starts no thread, and a VM starts once", async () => {
  const bad = make(new Uint8Array(100));
  await assert.rejects(bad.vm.start(), IsolaError);
  assert.equal(bad.thread.started, undefined);
  const { vm, thread } = make();
  await vm.start();
  await assert.rejects(vm.start(), /once/);
  thread.post({ kind: "ended", result: { kind: "power-off" } });
  await vm.done;
});
