/** Saved state on the host's own /dev/kvm, whatever kind that is: what one engine gives, the other takes and gives back. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { probeKvm } from "../../src/cpu/kvm/probe.ts";
import { KvmVcpu } from "../../src/cpu/kvm/kvm-vcpu.ts";
import { quietHost } from "../../src/cpu/quiet-host.ts";
import { resetState } from "../../src/cpu/reset-state.ts";
import { type CpuState, SEGMENT_NAMES, type Vcpu } from "../../src/cpu/vcpu.ts";
import { PortableVcpu } from "../../src/cpu/wasm/portable-vcpu.ts";
import { createKvmEngine } from "../../src/fleet/kvm-engine.ts";
import { KvmMachine } from "../../src/fleet/kvm-machine.ts";
import { SavedInterrupts } from "../../src/fleet/kvm-saved-interrupts.ts";
import { createInterrupts } from "../../src/cpu/kvm/kvm-interrupts.ts";
import { Kvm } from "../../src/cpu/kvm/kvm.ts";
import type { FeatureName } from "../../src/isa/cpuid-features.ts";
import { EVERY_FEATURE, parseCpuModel } from "../../src/isa/cpu-models.ts";
import { ENGINE_BYTES, GuestMemory } from "../../src/memory/guest-memory.ts";
import { linuxSys } from "../../src/sys/linux.ts";

const present = !(probeKvm(linuxSys()).reason ?? "").startsWith("open /dev/kvm");
if (!present) console.log("tests of state on KVM not run: /dev/kvm does not open here");
const skip = present ? false : "no /dev/kvm";

const MIB = 2 ** 20;
const CPUS = 2;

/** A VM with interrupt controllers and two processors that never run. */
function machine(memory = GuestMemory.create(2 * MIB)) {
  const sys = linuxSys();
  const stack = new DisposableStack();
  const kvm = stack.use(Kvm.open(sys));
  const vm = stack.use(kvm.createVm());
  createInterrupts(sys, vm.fd);
  const base = sys.addressOf(memory.memory.buffer);
  vm.setMemory({ slot: 0, guestPhysical: 0, sizeBytes: 0xa0000, address: base + BigInt(ENGINE_BYTES) });
  const vcpus = Array.from({ length: CPUS }, (_, cpu) => stack.use(vm.createVcpu(cpu)));
  for (const vcpu of vcpus) vcpu.setCpuid(kvm.supportedCpuid());
  const tscHz = (vcpus[0]?.tscKhz() ?? 0) * 1000;
  return { vcpus, tscHz, whole: new KvmMachine(sys, vm.fd, vcpus, tscHz), dispose: () => stack.dispose() };
}

/** Values that any processor of the model could hold, all different. */
function someState(): CpuState {
  const state = resetState();
  let value = 0x1111_2222_3333n;
  const next = (): bigint => (value = (value * 6364136223846793005n + 1442695040888963407n) & 0x7fff_ffff_ffffn);
  for (const name of Object.keys(state.gpr) as (keyof CpuState["gpr"])[]) state.gpr[name] = next() << 16n;
  state.rip = 0x1234n;
  state.rflags = 0x0ad7n;
  state.cr0 = 0x8005_0033n;
  state.cr2 = next();
  state.cr3 = 0x5000n;
  state.cr4 = 0x6b0n;
  state.dr = [next(), next(), next(), next(), 0xffff_0ff0n, 0x400n];
  state.msrs.set(0xc000_0080, 0xd01n);
  state.msrs.set(0xc000_0081, 0x23_0010n << 32n);
  state.msrs.set(0xc000_0082, next());
  state.msrs.set(0xc000_0102, next());
  state.msrs.set(0x174, 0x10n);
  state.msrs.set(0x176, next());
  state.msrs.set(0x277, 0x0007_0406_0007_0106n);
  for (const [index, name] of SEGMENT_NAMES.entries()) {
    const system = name === "tr" || name === "ldtr";
    const base = name === "cs" || system || name === "es" || name === "ds" || name === "ss" ? 0n : next();
    const attributes = name === "cs" ? 0xa09b : name === "tr" ? 0x808b : name === "ldtr" ? 0x8082 : 0xc093;
    state.segments[name] = { selector: 8 * (index + 1), base, limit: system ? 0xfff : 0xffff_ffff, attributes };
  }
  state.gdtr = { base: next(), limit: 0x7f };
  state.idtr = { base: next(), limit: 0xfff };
  for (let i = 0; i < 8; i++) state.fx.set([i + 1, 2, 3, 4, 5, 6, 7, 0x80, 0xff, 0x3f], 32 + 16 * i);
  for (let i = 0; i < 256; i++) state.fx[160 + i] = i;
  state.fx.set([0x7f, 0x03], 0);
  return state;
}

test("every register that is loaded into KVM comes back, events and activity included", { skip }, () => {
  const { vcpus, dispose } = machine();
  try {
    const [first, second] = vcpus;
    assert.ok(first !== undefined && second !== undefined);
    const bus = quietHost().bus;
    const memory = GuestMemory.create(2 * MIB);
    for (const change of [
      {},
      { activity: "halted" },
      { interruptShadow: true },
      { nmiBlocked: true },
      { event: { kind: "exception", vector: 14, errorCode: 6 } },
      { event: { kind: "interrupt", vector: 0x41 } },
    ] as const satisfies Partial<CpuState>[]) {
      const state: CpuState = { ...someState(), ...change };
      const vcpu: Vcpu = new KvmVcpu(first, memory, bus);
      vcpu.state.load(state);
      const back = vcpu.state.save();
      for (const [index, value] of state.msrs) {
        if (back.msrs.has(index)) assert.equal(back.msrs.get(index), value, `MSR 0x${index.toString(16)}`);
      }
      const { msrs: _, fx, ...rest } = state;
      const { msrs: __, fx: fxBack, ...restBack } = back;
      assert.deepEqual(restBack, rest);
      // What lies behind the registers, from 416 on, is nobody's.
      assert.deepEqual(fxBack.subarray(0, 24), fx.subarray(0, 24));
      assert.deepEqual(fxBack.subarray(32, 416), fx.subarray(32, 416));
    }
    const waiting = new KvmVcpu(second, memory, bus);
    waiting.state.load({ ...resetState(), activity: "wait-for-startup" });
    assert.equal(waiting.state.save().activity, "wait-for-startup");
  } finally {
    dispose();
  }
});

/** Controllers and timer in the middle of their work. */
function busyInterrupts(now: number, tscHz: number): SavedInterrupts {
  const saved = new SavedInterrupts(CPUS, { now: () => now, tscHz, bootTime: 0n });
  const pic = saved.pic.context.state;
  pic.imr.set([0xb8, 0x8e]);
  pic.base.set([0x30, 0x38]);
  pic.icw4.set([3, 1]);
  pic.icw1.set([0x11, 0x11]);
  pic.isr.set([0, 2]);
  pic.irr.set([0x10, 0]);
  pic.elcr.set([0, 0x0c]);
  pic.lowest.set([7, 3]);
  pic.awaited.set([0, 4]);
  const ioapic = saved.ioapic.context.state;
  ioapic.select = 0x13;
  ioapic.low[4] = 0x31;
  ioapic.low[9] = 0x1a900;
  ioapic.low[11] = 0xe042;
  ioapic.high[4] = 0x0100_0000;
  for (const [cpu, { context }] of saved.lapics.entries()) {
    const { state } = context;
    state.svr = 0x1ff;
    state.tpr = 0x20;
    state.ldr = 0x0100_0000 << cpu;
    state.lvt.set([0x200ec, 0x10000, 0x400, 0x700, 0x400, 0xfe]);
    state.irr[2] = 0x10;
    state.isr[1] = 0x8000_0000;
    state.tmr[1] = 0x8000_0000;
    state.initialCount = 1_000_000;
    state.divide = 3;
    state.timerStart = now - 4_000_000;
    state.timerExpiry = now + 12_000_000;
  }
  const deadline = saved.lapics[1]?.context.state;
  assert.ok(deadline !== undefined);
  deadline.lvt[0] = 0x400ec;
  deadline.initialCount = 0;
  deadline.timerStart = 0;
  deadline.tscDeadline = BigInt(Math.floor((now + 5e9) * (tscHz / 1e9)));
  deadline.timerExpiry = Math.ceil(Number(deadline.tscDeadline) * (1e9 / tscHz));
  const pit = saved.pit.context.state;
  pit.mode.set([2, 0, 3]);
  pit.count.set([11932, 18, 1000]);
  pit.gate.set([1, 1, 1]);
  pit.stopped.fill(-1);
  pit.start.fill(now);
  pit.access.set([3, 1, 3]);
  pit.writeSecond[2] = 1;
  pit.writeLow[2] = 0x5a;
  pit.latched[0] = 2;
  pit.latch[0] = 0x1234;
  pit.speaker = 3;
  pit.nextEdge = now + 1e7;
  return saved;
}

test("interrupt controllers and timers go into KVM and come back field by field", { skip }, () => {
  const { whole, tscHz, dispose } = machine();
  try {
    const now = 3_600e9;
    const given = busyInterrupts(now, tscHz).save();
    const extra = { uart: { version: 1, fields: {} } };
    const { others } = whole.restore({ ...given, ...extra });
    assert.deepEqual(others, extra);
    // GSI 4, an edge, and GSI 11, a level that is in service.
    const levels = (1 << 4) | (1 << 11);
    for (const gsi of [4, 11]) whole.setLine(gsi, true);
    whole.loadChips(busyInterrupts(now, tscHz), levels, now);
    const back = whole.saveChips(now, levels);
    // The timer's counters begin anew, and a count that runs is some ns further.
    const moving: Readonly<Record<string, readonly string[]>> = {
      pit: ["start", "nextEdge"],
      lapic0: ["timerStart", "timerExpiry"],
      lapic1: ["timerExpiry"],
      pic: ["lines", "output"],
      ioapic: ["lines"],
    };
    for (const [name, { fields }] of Object.entries(given)) {
      for (const [field, value] of Object.entries(fields)) {
        if (moving[name]?.includes(field) === true) continue;
        assert.deepEqual(back[name]?.fields[field], value, `${name}.${field}`);
      }
    }
    assert.deepEqual(back["pic"]?.fields["lines"], [0x10, 0x08]);
    assert.equal(back["ioapic"]?.fields["lines"], levels);
    const timer = back["lapic0"]?.fields;
    const expiry = Number(timer?.["timerExpiry"]);
    assert.ok(expiry > now && expiry <= now + 16_000_000, `expires ${expiry - now} ns on`);
  } finally {
    dispose();
  }
});

test("the guest's clocks never go back, however short a stop is", { skip }, (t) => {
  const { whole, dispose } = machine();
  try {
    whole.startClock(1e9);
    if (!whole.hasClock) {
      t.diagnostic("this KVM gives guests the host's own time-stamp counter, so there is nothing to set");
      assert.throws(() => whole.save(0, 0), /gives guests its own time-stamp counter/);
      return;
    }
    let now = 1e9;
    for (let round = 0; round < 50; round++) {
      whole.startClock(now);
      const seen = whole.stopClock();
      assert.ok(seen >= now, `${seen} after ${now}`);
      assert.ok(seen < now + 5e9, `${seen} long after ${now}`);
      now = seen;
    }
  } finally {
    dispose();
  }
});

/**
 * Adds to a checksum in EDX and EDI for ECX rounds, with a word to port 0xe1 in every 4,096th, then writes both to port
 * 0xe0 and halts; from 0x1000, real mode.
 */
const CHECKSUM = [
  [0x66, 0xb9, 0x00, 0x00, 0x01, 0x00], // MOV ECX, 0x10000
  [0x66, 0x31, 0xd2, 0x66, 0x31, 0xff], // XOR EDX, EDX; XOR EDI, EDI
  [0x66, 0x01, 0xca], // ADD EDX, ECX
  [0x66, 0xd1, 0xc2], // ROL EDX, 1
  [0x66, 0x31, 0xd7], // XOR EDI, EDX
  [0x66, 0xf7, 0xc1, 0xff, 0x0f, 0x00, 0x00, 0x75, 0x02], // TEST ECX, 0xfff; JNZ over the OUT
  [0xe6, 0xe1], // OUT 0xe1, AL
  [0x66, 0x49, 0x75, 0xe8], // DEC ECX; JNZ back to ADD
  [0x66, 0x89, 0xd0, 0x66, 0xe7, 0xe0], // MOV EAX, EDX; OUT 0xe0, EAX
  [0x66, 0x89, 0xf8, 0x66, 0xe7, 0xe0], // MOV EAX, EDI; OUT 0xe0, EAX
  [0xf4],
].flat();
const ROUNDS = 0x1_0000n;
/** Where the word to port 0xe1 is written. */
const WORD_AT = CHECKSUM.indexOf(0xe6);

test("a checksum loop begun on one engine is ended on the other: the same sums", { skip }, () => {
  const sums: number[] = [];
  let words = 0;
  let noticed = (): void => undefined;
  const host = quietHost((port, _size, value) => {
    if (port === 0xe0) sums.push(value);
    else words++;
    noticed();
  });
  const start = (): CpuState => {
    const state = resetState();
    state.segments.cs = { selector: 0, base: 0n, limit: 0xffff, attributes: 0x9b };
    state.rip = 0x1000n;
    return state;
  };
  /** `halting`: it halts in place of the word to port 0xe1. */
  const memoryOf = (halting = false): GuestMemory => {
    const memory = GuestMemory.create(2 * MIB);
    memory.bytes.set(CHECKSUM, ENGINE_BYTES + 0x1000);
    if (halting) memory.bytes.set([0xf4, 0x90], ENGINE_BYTES + 0x1000 + WORD_AT);
    return memory;
  };
  const { features } = parseCpuModel("x86-64-v2,-xsave");
  const portable = (halting = false): Vcpu => new PortableVcpu(memoryOf(halting), host, { features });
  const toEnd = (vcpu: Vcpu): number[] => {
    while (sums.length < 2) assert.notEqual(vcpu.run().kind, "internal-error");
    return sums.splice(0);
  };
  const alone = portable();
  alone.state.load(start());
  const wanted = toEnd(alone);
  const memory = memoryOf();
  const { vcpus, dispose } = machine(memory);
  try {
    const [file] = vcpus;
    assert.ok(file !== undefined);
    const native = new KvmVcpu(file, memory, host.bus);
    // KVM for a while, the portable engine to the end.
    words = 0;
    noticed = () => native.leave();
    native.state.load(start());
    while (words < 5) assert.equal(native.run().kind, "slice");
    const middle = native.state.save();
    assert.equal(middle.gpr.rcx & 0xfffn, 0n);
    assert.ok(middle.gpr.rcx > 0n && middle.gpr.rcx < ROUNDS, `${middle.gpr.rcx} rounds are left`);
    noticed = () => undefined;
    const other = portable();
    other.state.load(middle);
    assert.deepEqual(toEnd(other), wanted);
    // And the other way about.
    const first = portable(true);
    let half = start();
    for (let halts = 0; halts < 5; halts++) {
      first.state.load(half);
      while (first.run().kind === "slice");
      half = { ...first.state.save(), activity: "running" };
    }
    assert.ok(half.gpr.rcx > 0n && half.gpr.rcx < ROUNDS, `${half.gpr.rcx} rounds are left`);
    noticed = () => native.leave();
    native.state.load(half);
    assert.deepEqual(toEnd(native), wanted);
  } finally {
    dispose();
  }
});

/** All that guests can have here. */
function hostModel(memory: GuestMemory): ReadonlySet<FeatureName> {
  const engine = createKvmEngine({ name: "kvm", memory, cpus: 1, cpu: "host" });
  engine.dispose();
  return engine.model.features;
}

test("a processor or a frequency that this host lacks is refused with the reason", { skip }, () => {
  const memory = GuestMemory.create(2 * MIB);
  const make = (request: object) => createKvmEngine({ name: "kvm", memory, cpus: 1, cpu: "x86-64-v2", ...request });
  const engine = make({});
  const { tscHz, model } = engine;
  engine.dispose();
  const again = make({ cpu: model, tscHz });
  assert.deepEqual([again.tscHz, again.model.name], [tscHz, model.name]);
  again.dispose();
  const lacking = [...EVERY_FEATURE.difference(hostModel(memory))][0];
  assert.ok(lacking !== undefined, "a KVM without any feature of the table");
  const features = new Set([...model.features, lacking]);
  assert.throws(() => make({ cpu: { name: "other", features } }), {
    code: "cpu-model-unfit",
    message: new RegExp(`other needs ${lacking}, which this host's KVM lacks`),
  });
  using kvm = Kvm.open(linuxSys());
  if (kvm.capability("TSC_CONTROL") === 0) {
    assert.throws(() => make({ tscHz: tscHz / 2 }), /time-stamp counter runs at .* MHz.*cannot be scaled/);
  }
});
