import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { IF, RF, VM } from "../../../isa/flags.ts";
import { flatDescriptor } from "../../reset-state.ts";
import { CR0, CS, SS, TR } from "../state-view.ts";
import { type Call, FakeHost, faultOf } from "./fake-host.ts";
import { SystemUnit } from "./system-unit.ts";

const GDT = 0x1000;
const IDT = 0x2000;
const TSS = 0x4000;
const STACK0 = 0x9000;
const STACK3 = 0xb000;

const KERNEL_CS = 0x08;
const KERNEL_SS = 0x10;
const USER_CS = 0x1b;
const USER_SS = 0x23;

describe("real and protected mode", () => {
  let host: FakeHost;
  let unit: SystemUnit;
  let call: Record<string, Call>;

  beforeEach(() => {
    host = new FakeHost();
    unit = new SystemUnit(host, host.view);
    call = unit.helpers as unknown as Record<string, Call>;
    unit.reset();
  });

  test("reset state", () => {
    const { view } = host;
    assert.equal(host.rip, 0xfff0n);
    assert.equal(view.base(CS), 0xffff_0000n);
    assert.equal(view.rflags, 2);
    assert.equal(view.gpr(2), 0x30661n);
    assert.equal(view.stackBits, 16);
  });

  test("real mode: INT goes by the vector table, IRET comes back, a far jump loads the base", () => {
    const { view } = host;
    call.farJump?.(0x100, 0x20n, 16);
    assert.deepEqual([view.base(CS), host.rip], [0x1000n, 0x20n]);
    call.loadSegment?.(SS, 0x200);
    view.setGpr(4, 0xabcd_0100n);
    view.rflags = 0x202;
    host.write32(0x21 * 4, 0x0300_0040);
    call.softwareInterrupt?.(0x21, 0);
    assert.deepEqual([view.base(CS), host.rip, view.gpr(4)], [0x3000n, 0x40n, 0xabcd_00fan]);
    assert.deepEqual([host.read16(0x20fa), host.read16(0x20fc), host.read16(0x20fe)], [0x20, 0x100, 0x202]);
    assert.equal(view.rflags & IF, 0);
    call.interruptReturn?.(16);
    assert.deepEqual([view.base(CS), host.rip, view.gpr(4), view.rflags], [0x1000n, 0x20n, 0xabcd_0100n, 0x202]);
  });

  function protectedMode(cpl: 0 | 3) {
    const { view } = host;
    view.setLow("cr0", CR0.PE | CR0.ET);
    host.write64(GDT + 0x08, flatDescriptor(0xc09b));
    host.write64(GDT + 0x10, flatDescriptor(0xc093));
    host.write64(GDT + 0x18, flatDescriptor(0xc0fb));
    host.write64(GDT + 0x20, flatDescriptor(0xc0f3));
    view.setLong("gdtrBase", BigInt(GDT));
    view.setLow("gdtrLimit", 0x7f);
    view.setLong("idtrBase", BigInt(IDT));
    view.setLow("idtrLimit", 0x7ff);
    view.setSegment(TR, 0x40, 0x8b, 0x67, TSS, 0);
    host.write32(TSS + 4, STACK0);
    host.write32(TSS + 8, KERNEL_SS);
    view.setSegment(CS, cpl === 3 ? USER_CS : KERNEL_CS, cpl === 3 ? 0xc0fb : 0xc09b, 0xffff_ffff, 0, 0);
    view.setSegment(SS, cpl === 3 ? USER_SS : KERNEL_SS, cpl === 3 ? 0xc0f3 : 0xc093, 0xffff_ffff, 0, 0);
    view.cpl = cpl;
    view.setGpr(4, BigInt(STACK3));
    view.setLong("rip", 0x1234n);
    view.rflags = 0x202;
  }
  function gate32(vector: number, target: number, type = 14, dpl = 0) {
    host.write32(IDT + vector * 8, (target & 0xffff) | (KERNEL_CS << 16));
    host.write32(IDT + vector * 8 + 4, (target & 0xffff_0000) | 0x8000 | (dpl << 13) | (type << 8));
  }

  test("a 32-bit gate to ring 0 and IRETD back", () => {
    protectedMode(3);
    const { view } = host;
    gate32(13, 0x12_3456);
    unit.deliver(13, 0x18, {});
    assert.deepEqual(
      [host.rip, view.cpl, view.selector(SS), view.gpr(4)],
      [0x12_3456n, 0, KERNEL_SS, BigInt(STACK0 - 24)],
    );
    const frame = [0, 4, 8, 12, 16, 20].map((at) => host.read32(STACK0 - 24 + at));
    assert.deepEqual(frame, [0x18, 0x1234, USER_CS, 0x202 | RF, STACK3, USER_SS]);
    view.setGpr(4, view.gpr(4) + 4n);
    call.interruptReturn?.(32);
    assert.deepEqual([host.rip, view.cpl, view.gpr(4)], [0x1234n, 3, BigInt(STACK3)]);
  });

  test("a 16-bit gate in ring 0 pushes words", () => {
    protectedMode(0);
    gate32(0x30, 0x5678, 6);
    unit.deliver(0x30, undefined, { external: true });
    assert.equal(host.view.gpr(4), BigInt(STACK3 - 6));
    assert.deepEqual(
      [0, 2, 4].map((at) => host.read16(STACK3 - 6 + at)),
      [0x1234, KERNEL_CS, 0x202],
    );
  });

  test("a bad ring-0 stack raises #TS, a full one #SS", () => {
    protectedMode(3);
    gate32(10, 0x1000, 14);
    gate32(0x30, 0x2000, 14, 3);
    host.write32(TSS + 8, USER_SS);
    assert.deepEqual(
      faultOf(() => call.softwareInterrupt?.(0x30, 0)),
      { vector: 10, errorCode: USER_SS & ~3 },
    );
    host.write32(TSS + 8, 0x50);
    host.write64(GDT + 0x50, 0x0040_9300_0000_0fffn);
    assert.deepEqual(
      faultOf(() => call.softwareInterrupt?.(0x30, 0)),
      { vector: 12, errorCode: 0x50 },
    );
  });

  test("virtual-8086 mode: entered by IRETD, left by an interrupt", () => {
    protectedMode(0);
    const { view } = host;
    view.setGpr(4, 0x8000n);
    const selectors = [0x111, 0x222, 0x333, 0x444];
    const frame = [0x100, 0x1000, VM | 0x3202, 0x200, 0x2000, ...selectors];
    for (const [i, value] of frame.entries()) host.write32(0x8000 + i * 4, value);
    call.interruptReturn?.(32);
    assert.deepEqual(
      [view.cpl, host.rip, view.base(CS), view.base(SS), view.base(5)],
      [3, 0x100n, 0x1_0000n, 0x2_0000n, 0x4440n],
    );
    assert.equal(view.virtual8086, true);
    assert.equal(view.stackBits, 16);
    gate32(0x30, 0x3000);
    unit.deliver(0x30, undefined, { external: true });
    assert.deepEqual([view.cpl, view.virtual8086, view.selector(5), host.rip], [0, false, 0, 0x3000n]);
    const saved = [0, 4, 8, 12, 16, 20, 24, 28, 32].map((at) => host.read32(STACK0 - 36 + at));
    assert.deepEqual(saved, [0x100, 0x1000, VM | 0x3202, 0x200, 0x2000, ...selectors]);
  });

  test("a 32-bit call gate copies parameters", () => {
    protectedMode(3);
    const { view } = host;
    host.write64(GDT + 0x28, 0x0001_ec02_0008_8000n);
    host.write32(STACK3, 0xaaaa);
    host.write32(STACK3 + 4, 0xbbbb);
    call.farCall?.(0x28, 0n, 32);
    assert.deepEqual([host.rip, view.cpl, view.gpr(4)], [0x1_8000n, 0, BigInt(STACK0 - 24)]);
    const frame = [0, 4, 8, 12, 16, 20].map((at) => host.read32(STACK0 - 24 + at));
    assert.deepEqual(frame, [0x1234, USER_CS, 0xaaaa, 0xbbbb, STACK3, USER_SS]);
    call.farReturn?.(32, 8);
    assert.deepEqual([host.rip, view.cpl, view.gpr(4)], [0x1234n, 3, BigInt(STACK3 + 8)]);
  });
});
