/** The KVM engine's parts on the host's own /dev/kvm, whatever kind that is: kicks, and nothing left behind. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { KVM_EXIT, KVM_RUN_IO } from "../../src/cpu/kvm/abi.ts";
import { KICK, Kicker } from "../../src/cpu/kvm/kick.ts";
import { Kvm } from "../../src/cpu/kvm/kvm.ts";
import { createInterrupts, KvmInterrupts } from "../../src/cpu/kvm/kvm-interrupts.ts";
import { probeKvm } from "../../src/cpu/kvm/probe.ts";
import { linuxSys } from "../../src/sys/linux.ts";
import type { KickWork } from "./kick-worker.ts";
import { startAt } from "./real-mode.ts";

const present = !(probeKvm(linuxSys()).reason ?? "").startsWith("open /dev/kvm");
if (!present) console.log("KVM engine tests not run: /dev/kvm does not open here");
const skip = present ? false : "no /dev/kvm";

const CODE = 0x1000;
const SPIN = [0xeb, 0xfe]; // JMP to itself
const HALT = [0xf4, 0xeb, 0xfd]; // HLT, again and again

/** A VM of one page of code in real mode, with the kernel's interrupt controllers. */
function machine(code: readonly number[]) {
  const sys = linuxSys();
  const stack = new DisposableStack();
  const kvm = stack.use(Kvm.open(sys));
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  new Uint8Array(memory.buffer).set(code, CODE);
  const vm = stack.use(kvm.createVm());
  createInterrupts(sys, vm.fd);
  vm.setMemory({ slot: 0, guestPhysical: 0, sizeBytes: 65536, address: sys.addressOf(memory.buffer) });
  const vcpu = stack.use(vm.createVcpu(0));
  vcpu.setCpuid(kvm.supportedCpuid());
  startAt(vcpu, CODE);
  return { sys, vm, vcpu, memory, dispose: () => stack.dispose() };
}

const KICKS = 10_000;
/** A kick that takes so long is lost. */
const LOST_MS = 10_000;

for (const [what, code] of [["spins", SPIN] as const, ["is halted", HALT] as const]) {
  test(`${KICKS} kicks reach a processor that ${what}`, { skip }, async () => {
    const { sys, vcpu, dispose } = machine(code);
    const words = new Int32Array(new SharedArrayBuffer(16));
    const kicker = new Kicker(sys, vcpu.runBytes, new SharedArrayBuffer(KICK.bytes));
    const workerData: KickWork = { place: vcpu.place, kick: kicker.shared, words: words.buffer };
    const worker = new Worker(new URL("./kick-worker.ts", import.meta.url), { workerData });
    try {
      for (let wish = 1; wish <= KICKS; wish++) {
        Atomics.store(words, 3, wish);
        kicker.kick();
        // A kick may bring it out twice, by the flag and by the signal that comes after; what counts is the wish.
        for (let noticed = Atomics.load(words, 0); noticed !== wish; noticed = Atomics.load(words, 0)) {
          assert.notEqual(Atomics.wait(words, 0, noticed, LOST_MS), "timed-out", `kick ${wish} was lost`);
          assert.equal(Atomics.load(words, 2), 0, "the guest left by itself");
        }
      }
    } finally {
      Atomics.store(words, 1, 1);
      const ended = once(worker, "exit");
      const again = setInterval(() => kicker.kick(), 20);
      await ended;
      clearInterval(again);
      dispose();
    }
  });
}

/** Where the program below says which of its two places it is in. */
const PORT = 0x10;
const WAITS = 0;
const TICKED = 1;
const TICKS = 20;
const TIMER = 0x20;
const HANDLER = 0x1020;
/** MOV AL, value; OUT port, AL */
const out = (port: number, value: number): number[] => [0xb0, value, 0xe6, port];
/** MOV WORD [0000:at], value */
const store = (at: number, value: number): number[] => [0xc7, 0x06, at & 0xff, at >> 8, value & 0xff, value >> 8];
const VECTOR = [...store(TIMER * 4, HANDLER), ...store(TIMER * 4 + 2, 0)];
/** MOV SP, CODE; JMP over the handler, which lies at HANDLER: tell, EOI, IRET. */
const TICK = [...out(PORT, TICKED), ...out(0x20, 0x20), 0xcf];
const TO_HANDLER = HANDLER - CODE - VECTOR.length - 5;
const SKIP = [0xbc, CODE & 0xff, CODE >> 8, 0xeb, TO_HANDLER + TICK.length, ...Array<number>(TO_HANDLER).fill(0x90)];
const CONTROLLER = [0x11, TIMER, 4, 1, 0xfe].flatMap((value, i) => out(i === 0 ? 0x20 : 0x21, value));
const RATE = [...out(0x43, 0x34), ...out(0x40, 0xa9), ...out(0x40, 0x04)];
/** STI; then again and again: tell. */
const WAIT = [0xfb, ...out(PORT, WAITS), 0xeb, 0xfa];
/** The 8254 interrupts a thousand times a second through the 8259 and LINT0; the program tells where it is. */
const TICKING = [...VECTOR, ...SKIP, ...TICK, ...CONTROLLER, ...RATE, ...WAIT];

test("the interval timer's interrupts go on coming through the 8259", { skip }, () => {
  const { vcpu, dispose } = machine(TICKING);
  try {
    const began = performance.now();
    for (let ticks = 0; ticks < TICKS; ) {
      const reason = vcpu.enter();
      // A signal of this process brought it out.
      if (reason === undefined) continue;
      assert.equal(reason, KVM_EXIT.IO);
      const place = vcpu.run.getUint8(Number(vcpu.run.getBigUint64(KVM_RUN_IO.dataOffset, true)));
      if (place === TICKED) ticks++;
      else assert.ok(performance.now() - began < LOST_MS, `after ${ticks} interrupts no other came`);
    }
  } finally {
    dispose();
  }
});

test("1,000 VMs leave no descriptor, mapping or thread behind", { skip }, () => {
  const count = () => ({
    descriptors: readdirSync("/proc/self/fd").length,
    kvmMappings: readFileSync("/proc/self/maps", "utf8")
      .split("\n")
      .filter((line) => line.includes("kvm")).length,
    threads: readdirSync("/proc/self/task").length,
  });
  machine(HALT).dispose();
  const before = count();
  for (let i = 0; i < 1000; i++) machine(HALT).dispose();
  assert.deepEqual(count(), before);
});

test("interrupt lines, messages and the timer's replacement are taken, on any object over the VM", { skip }, () => {
  const { sys, vm, dispose } = machine(HALT);
  try {
    for (const interrupts of [new KvmInterrupts(sys, vm.fd), new KvmInterrupts(sys, vm.fd)]) {
      for (let gsi = 0; gsi < 24; gsi++) {
        interrupts.setLine(gsi, true);
        interrupts.setLine(gsi, false);
      }
      interrupts.sendMsi(0xfee00000, 0x40);
      interrupts.replaceTimer(true);
      interrupts.replaceTimer(false);
    }
  } finally {
    dispose();
  }
});
