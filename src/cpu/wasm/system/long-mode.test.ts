import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { IF, RF, TF } from "../../../isa/flags.ts";
import { flatDescriptor } from "../../reset-state.ts";
import { CR0, CS, SS, TR } from "../state-view.ts";
import { type Call, FakeHost, faultOf } from "./fake-host.ts";
import { SystemUnit } from "./system-unit.ts";

const GDT = 0x1000;
const IDT = 0x2000;
const TSS = 0x4000;
const LDT_ENTRIES = 0x5000;
const STACK0 = 0x9000;
const IST1 = 0xa000;
const STACK3 = 0xb000;

const KERNEL_CS = 0x08;
const KERNEL_SS = 0x10;
const USER_CS = 0x1b;
const USER_SS = 0x23;
const CONFORMING_CS = 0x28;
const USER_CS32 = 0x33;

function gate64(
  host: FakeHost,
  vector: number,
  target: bigint,
  options: { ist?: number; type?: number; dpl?: number } = {},
) {
  const { ist = 0, type = 14, dpl = 0 } = options;
  const low = Number(target & 0xffff_ffffn);
  host.write32(IDT + vector * 16, (low & 0xffff) | (KERNEL_CS << 16));
  host.write32(IDT + vector * 16 + 4, (low & 0xffff_0000) | 0x8000 | (dpl << 13) | (type << 8) | ist);
  host.write32(IDT + vector * 16 + 8, Number(target >> 32n));
  host.write32(IDT + vector * 16 + 12, 0);
}

describe("long mode", () => {
  let host: FakeHost;
  let unit: SystemUnit;
  let call: Record<string, Call>;

  beforeEach(() => {
    host = new FakeHost();
    unit = new SystemUnit(host, host.view);
    call = unit.helpers as unknown as Record<string, Call>;
    unit.reset();
    const { view } = host;
    view.setLow("cr0", CR0.PE | CR0.PG | CR0.ET);
    view.setLow("cr4", 0x20);
    view.setLow("efer", 0xd01);
    host.write64(GDT + 0x08, flatDescriptor(0xa09a));
    host.write64(GDT + 0x10, flatDescriptor(0xc092));
    host.write64(GDT + 0x18, flatDescriptor(0xa0fb));
    host.write64(GDT + 0x20, flatDescriptor(0xc0f3));
    host.write64(GDT + 0x28, flatDescriptor(0xa09e));
    host.write64(GDT + 0x30, flatDescriptor(0xc0fb));
    view.setLong("gdtrBase", BigInt(GDT));
    view.setLow("gdtrLimit", 0x6f);
    view.setLong("idtrBase", BigInt(IDT));
    view.setLow("idtrLimit", 0xfff);
    view.setSegment(TR, 0x40, 0x8b, 0x67, TSS, 0);
    host.write64(TSS + 4, BigInt(STACK0));
    host.write64(TSS + 0x24, BigInt(IST1));
    atUser();
  });

  function atUser() {
    const { view } = host;
    view.setSegment(CS, USER_CS, 0xa0fb, 0xffff_ffff, 0, 0);
    view.setSegment(SS, USER_SS, 0xc0f3, 0xffff_ffff, 0, 0);
    view.cpl = 3;
    view.setGpr(4, BigInt(STACK3));
    view.setLong("rip", 0x40_1234n);
    view.rflags = 0x246 | TF;
  }
  function atKernel(rsp: number) {
    const { view } = host;
    view.setSegment(CS, KERNEL_CS, 0xa09b, 0xffff_ffff, 0, 0);
    view.setSegment(SS, KERNEL_SS, 0xc093, 0xffff_ffff, 0, 0);
    view.cpl = 0;
    view.setGpr(4, BigInt(rsp));
    view.setLong("rip", 0xffff_ffff_8100_0000n);
    view.rflags = 0x202;
  }

  test("a page fault from ring 3 goes to the stack of ring 0 with a whole frame", () => {
    gate64(host, 14, 0xffff_ffff_8100_1230n);
    unit.deliver(14, 6, {});
    const { view } = host;
    assert.equal(host.rip, 0xffff_ffff_8100_1230n);
    assert.equal(view.cpl, 0);
    assert.equal(view.selector(CS), KERNEL_CS);
    assert.equal(view.selector(SS), 0);
    assert.equal(view.gpr(4), BigInt(STACK0 - 48));
    const frame = [0, 8, 16, 24, 32, 40].map((at) => host.read64(STACK0 - 48 + at));
    // A fault saves RF, so that the instruction restarts past its own breakpoint.
    assert.deepEqual(frame, [
      6n,
      0x40_1234n,
      BigInt(USER_CS),
      BigInt(0x246 | TF | RF),
      BigInt(STACK3),
      BigInt(USER_SS),
    ]);
    assert.equal(view.rflags & (IF | TF | RF), 0);
    assert.equal(host.views, 1);
    // The descriptor of the handler's code was marked accessed.
    assert.equal(host.read64(GDT + 8), flatDescriptor(0xa09b));
  });

  test("IRETQ undoes a delivery", () => {
    gate64(host, 14, 0xffff_ffff_8100_1230n);
    unit.deliver(14, 6, {});
    host.view.setGpr(4, host.view.gpr(4) + 8n);
    call.interruptReturn?.(64);
    const { view } = host;
    assert.equal(host.rip, 0x40_1234n);
    assert.equal(view.cpl, 3);
    assert.equal(view.gpr(4), BigInt(STACK3));
    assert.equal(view.rflags, 0x246 | TF | RF);
    assert.deepEqual([view.selector(CS), view.selector(SS)], [USER_CS, USER_SS]);
  });

  test("an interrupt in ring 0 keeps the stack, aligns it, and pushes no code", () => {
    atKernel(0x8fff);
    gate64(host, 0x20, 0x1000n);
    unit.deliver(0x20, undefined, { external: true });
    assert.equal(host.view.gpr(4), BigInt(0x8ff0 - 40));
    assert.equal(host.read64(0x8ff0 - 16), 0x8fffn);
    assert.equal(host.view.selector(SS), KERNEL_SS);
    assert.equal(host.views, 0, "nothing that the view depends on has changed");
    call.interruptReturn?.(64);
    assert.equal(host.view.gpr(4), 0x8fffn);
    assert.equal(host.view.rflags, 0x202);
    assert.equal(host.rip, 0xffff_ffff_8100_0000n);
  });

  test("IST takes its stack even inside ring 0; a trap gate keeps IF", () => {
    atKernel(0x8f00);
    gate64(host, 2, 0x1000n, { ist: 1, type: 15 });
    unit.deliver(2, undefined, { external: true });
    assert.equal(host.view.gpr(4), BigInt(IST1 - 40));
    assert.equal(host.view.rflags & IF, IF);
  });

  test("a single step tells its cause in DR6, and clears DR7.GD", () => {
    gate64(host, 1, 0x1000n);
    host.view.setLow("dr7", 0x2400);
    unit.singleStep();
    assert.equal(host.rip, 0x1000n);
    assert.equal(host.view.low("dr6"), 0xffff_4ff0);
    assert.equal(host.view.low("dr7"), 0x400);
    assert.equal(host.read64(STACK0 - 24), BigInt(0x246 | TF), "a trap saves no RF");
  });

  test("INT n checks the gate's DPL, hardware does not", () => {
    gate64(host, 0x80, 0x1000n);
    assert.deepEqual(
      faultOf(() => call.softwareInterrupt?.(0x80, 0)),
      { vector: 13, errorCode: 0x80 * 8 + 2 },
    );
    assert.equal(host.rip, 0x40_1234n);
    gate64(host, 0x80, 0x1000n, { dpl: 3 });
    call.softwareInterrupt?.(0x80, 0);
    assert.equal(host.rip, 0x1000n);
  });

  test("a gate that is absent, no gate, or beyond the table makes #NP or #GP with EXT", () => {
    gate64(host, 13, 0x3000n);
    gate64(host, 11, 0x2000n);
    gate64(host, 0x21, 0x1000n);
    host.write32(IDT + 0x21 * 16 + 4, 0x0e00);
    unit.deliver(0x21, undefined, { external: true });
    assert.equal(host.rip, 0x2000n);
    assert.equal(host.read64(STACK0 - 48), BigInt(0x21 * 8 + 3));
    atUser();
    unit.deliver(0x22, undefined, { external: true });
    assert.equal(host.rip, 0x3000n);
    assert.equal(host.read64(STACK0 - 48), BigInt(0x22 * 8 + 3));
  });

  test("a second contributory exception makes #DF, a third shuts down", () => {
    // No gate for #GP: #GP raises #GP.
    gate64(host, 8, 0x7000n, { ist: 1 });
    unit.deliver(13, 0, {});
    assert.equal(host.rip, 0x7000n);
    assert.equal(host.read64(IST1 - 48), 0n);
    assert.deepEqual(host.exits, []);
    atUser();
    host.write32(IDT + 8 * 16 + 4, 0);
    unit.deliver(13, 0, {});
    assert.deepEqual(host.exits, ["shutdown"]);
    assert.equal(host.rip, 0x40_1234n);
  });

  test("a page fault on the way of an interrupt is delivered alone, on the way of a page fault it is #DF", () => {
    gate64(host, 14, 0x3000n, { ist: 1 });
    gate64(host, 8, 0x7000n, { ist: 1 });
    gate64(host, 0x20, 0x1000n);
    host.write64(TSS + 4, BigInt(host.faultFrom + 64));
    unit.deliver(0x20, undefined, { external: true });
    assert.equal(host.rip, 0x3000n);
    atUser();
    gate64(host, 14, 0x3000n);
    unit.deliver(14, 4, {});
    assert.equal(host.rip, 0x7000n);
  });

  test("a non-canonical stack pointer raises #SS", () => {
    atKernel(0);
    host.view.setGpr(4, 0x8000_0000_0000_0000n);
    gate64(host, 0x20, 0x1000n);
    gate64(host, 12, 0x6000n, { ist: 1 });
    unit.deliver(0x20, undefined, { external: true });
    assert.equal(host.rip, 0x6000n);
  });

  test("IRETQ refuses what it must", () => {
    atKernel(0x8000);
    const frame = (rip: bigint, cs: number, flags: number, rsp: bigint, ss: number) => {
      for (const [i, value] of [rip, BigInt(cs), BigInt(flags), rsp, BigInt(ss)].entries())
        host.write64(0x8000 + i * 8, value);
      return faultOf(() => call.interruptReturn?.(64));
    };
    assert.deepEqual(frame(0x1000n, 0, 2, 0x100n, 0), { vector: 13, errorCode: 0 });
    assert.deepEqual(frame(0x1000n, 0x200, 2, 0x100n, 0), { vector: 13, errorCode: 0x200 });
    assert.deepEqual(frame(0x1000n, KERNEL_SS, 2, 0x100n, 0), { vector: 13, errorCode: KERNEL_SS });
    assert.deepEqual(frame(1n << 47n, KERNEL_CS, 2, 0x100n, KERNEL_SS), { vector: 13, errorCode: 0 });
    assert.deepEqual(frame(0x1000n, USER_CS, 2, 0x100n, 0), { vector: 13, errorCode: 0 });
    assert.deepEqual(frame(0x1000n, USER_CS, 2, 0x100n, KERNEL_SS), { vector: 13, errorCode: KERNEL_SS });
    host.view.setLow("flagsSystem", 0x4002);
    assert.deepEqual(frame(0x1000n, KERNEL_CS, 2, 0x100n, KERNEL_SS), { vector: 13, errorCode: 0 });
    assert.equal(host.rip, 0xffff_ffff_8100_0000n);
    assert.equal(host.view.gpr(4), 0x8000n);
  });

  test("IRETQ in ring 0 takes a null SS; ring 3 cannot change IF or IOPL", () => {
    atKernel(0x8000);
    for (const [i, value] of [0x5000n, 8n, 0x3202n, 0x7000n, 0n].entries()) host.write64(0x8000 + i * 8, value);
    call.interruptReturn?.(64);
    assert.equal(host.view.selector(SS), 0);
    assert.equal(host.view.gpr(4), 0x7000n);
    assert.equal(host.view.rflags, 0x3202);
    atUser();
    for (const [i, value] of [0x5000n, BigInt(USER_CS), 0x3002n, 0x7000n, BigInt(USER_SS)].entries()) {
      host.write64(STACK3 + i * 8, value);
    }
    call.interruptReturn?.(64);
    assert.equal(host.view.rflags, 0x202);
  });

  test("IRETQ to 32-bit code drops data segments of ring 0", () => {
    atKernel(0x8000);
    host.view.setSegment(3, KERNEL_SS, 0xc093, 0xffff_ffff, 0, 0);
    host.view.setSegment(0, USER_SS, 0xc0f3, 0xffff_ffff, 0, 0);
    for (const [i, value] of [0x5000n, BigInt(USER_CS32), 0x202n, 0x1_0000_7000n, BigInt(USER_SS)].entries()) {
      host.write64(0x8000 + i * 8, value);
    }
    call.interruptReturn?.(64);
    assert.equal(host.view.selector(3), 0);
    assert.equal(host.view.selector(0), USER_SS);
    assert.equal(host.view.gpr(4), 0x7000n);
    assert.equal(host.view.mode64, false);
  });

  test("SYSCALL and SYSRET", () => {
    const { view } = host;
    view.setLong("star", 0x0010_0008_0000_0000n);
    view.setLong("lstar", 0xffff_ffff_8180_0000n);
    view.setLong("fmask", 0x0004_7700n);
    call.syscall?.();
    assert.equal(host.rip, 0xffff_ffff_8180_0000n);
    assert.equal(view.gpr(1), 0x40_1234n);
    assert.equal(view.gpr(11), BigInt(0x246 | TF));
    assert.equal(view.rflags, 0x46);
    assert.deepEqual([view.cpl, view.selector(CS), view.selector(SS)], [0, 8, 16]);
    call.sysret?.(64);
    assert.deepEqual([view.cpl, view.selector(CS), view.selector(SS)], [3, 0x23, 0x1b]);
    assert.equal(host.rip, 0x40_1234n);
    assert.equal(view.rflags, 0x246 | TF);
    assert.equal(view.mode64, true);
    view.setGpr(1, 1n << 47n);
    assert.deepEqual(
      faultOf(() => call.sysret?.(64)),
      { vector: 13, errorCode: 0 },
    );
    view.setLow("efer", 0xd00);
    assert.deepEqual(
      faultOf(() => call.syscall?.()),
      { vector: 6, errorCode: undefined },
    );
  });

  test("SYSENTER and SYSEXIT", () => {
    const { view } = host;
    assert.deepEqual(
      faultOf(() => call.sysenter?.()),
      { vector: 13, errorCode: 0 },
    );
    view.setLong("sysenterCs", 8n);
    view.setLong("sysenterEsp", 0xffff_8800_0000_1000n);
    view.setLong("sysenterEip", 0xffff_ffff_8190_0000n);
    call.sysenter?.();
    assert.equal(host.rip, 0xffff_ffff_8190_0000n);
    assert.equal(view.gpr(4), 0xffff_8800_0000_1000n);
    assert.deepEqual([view.cpl, view.selector(CS), view.selector(SS)], [0, 8, 16]);
    assert.equal(view.rflags & IF, 0);
    view.setGpr(1, 0x1_0000_9000n);
    view.setGpr(2, 0x1_0040_0000n);
    call.sysexit?.(32);
    assert.deepEqual([view.cpl, view.selector(CS), view.selector(SS)], [3, 0x1b, 0x23]);
    assert.deepEqual([host.rip, view.gpr(4)], [0x40_0000n, 0x9000n]);
  });

  test("a call gate leads to ring 0 and RET far back", () => {
    const { view } = host;
    host.write64(GDT + 0x58, 0x0000_ec00_0008_2340n);
    host.write64(GDT + 0x60, 0x0000_0000_ffff_ffffn);
    view.rflags = 0x202;
    call.farCall?.(0x58, 0n, 64);
    assert.equal(host.rip, 0xffff_ffff_0000_2340n);
    assert.deepEqual([view.cpl, view.selector(SS)], [0, 0]);
    const frame = [0, 8, 16, 24].map((at) => host.read64(STACK0 - 32 + at));
    assert.deepEqual(frame, [0x40_1234n, BigInt(USER_CS), BigInt(STACK3), BigInt(USER_SS)]);
    call.farReturn?.(64, 0);
    assert.deepEqual([view.cpl, host.rip, view.gpr(4)], [3, 0x40_1234n, BigInt(STACK3)]);
  });

  test("far jumps check privilege; conforming code keeps CPL", () => {
    assert.deepEqual(
      faultOf(() => call.farJump?.(KERNEL_CS, 0n, 32)),
      { vector: 13, errorCode: KERNEL_CS },
    );
    assert.deepEqual(
      faultOf(() => call.farJump?.(0, 0n, 32)),
      { vector: 13, errorCode: 0 },
    );
    assert.deepEqual(
      faultOf(() => call.farJump?.(0x78, 0n, 32)),
      { vector: 13, errorCode: 0x78 },
    );
    call.farJump?.(CONFORMING_CS, 0x1000n, 32);
    assert.deepEqual([host.view.cpl, host.view.selector(CS)], [3, CONFORMING_CS | 3]);
  });

  test("loadSegment checks as MOV does", () => {
    const { view } = host;
    view.setSegment(5, 0, 0, 0, 0x1234, 0x8000);
    call.loadSegment?.(5, 0);
    assert.equal(view.base(5), 0n);
    assert.deepEqual(
      faultOf(() => call.loadSegment?.(SS, 0)),
      { vector: 13, errorCode: 0 },
    );
    assert.deepEqual(
      faultOf(() => call.loadSegment?.(SS, KERNEL_SS)),
      { vector: 13, errorCode: KERNEL_SS },
    );
    assert.deepEqual(
      faultOf(() => call.loadSegment?.(3, KERNEL_SS)),
      { vector: 13, errorCode: KERNEL_SS },
    );
    assert.deepEqual(
      faultOf(() => call.loadSegment?.(3, 0x77)),
      { vector: 13, errorCode: 0x74 },
    );
    host.write64(GDT + 0x50, flatDescriptor(0xc073));
    assert.deepEqual(
      faultOf(() => call.loadSegment?.(3, 0x53)),
      { vector: 11, errorCode: 0x50 },
    );
    assert.deepEqual(
      faultOf(() => call.loadSegment?.(SS, 0x53)),
      { vector: 12, errorCode: 0x50 },
    );
    call.loadSegment?.(3, USER_SS);
    assert.equal(view.selector(3), USER_SS);
    assert.equal(view.attributes(3), 0xc0f3);
  });

  test("LLDT and LTR take 16-byte descriptors", () => {
    atKernel(0x8000);
    const { view } = host;
    host.write64(GDT + 0x40, 0x0000_8900_4000_0067n);
    host.write64(GDT + 0x48, 0x0000_0000_ffff_8000n);
    call.loadTaskRegister?.(0x40);
    assert.equal(view.base(TR), 0xffff_8000_0000_4000n);
    assert.equal(view.attributes(TR), 0x8b);
    assert.equal(host.read64(GDT + 0x40), 0x0000_8b00_4000_0067n);
    // A busy TSS cannot be loaded again.
    assert.deepEqual(
      faultOf(() => call.loadTaskRegister?.(0x40)),
      { vector: 13, errorCode: 0x40 },
    );
    host.write64(GDT + 0x50, 0x0000_8200_5000_000fn);
    host.write64(GDT + 0x58, 0n);
    host.write64(LDT_ENTRIES, flatDescriptor(0xc0f2));
    call.loadLocalDescriptorTable?.(0x50);
    atUser();
    call.loadSegment?.(3, 0x07);
    assert.equal(view.selector(3), 7);
    assert.deepEqual(
      faultOf(() => call.loadSegment?.(3, 0x17)),
      { vector: 13, errorCode: 0x14 },
    );
  });

  test("VERR, VERW, LAR and LSL", () => {
    assert.equal(call.verifyRead?.(USER_SS), 1);
    assert.equal(call.verifyWrite?.(USER_SS), 1);
    assert.equal(call.verifyRead?.(KERNEL_SS), 0);
    assert.equal(call.verifyWrite?.(USER_CS), 0);
    assert.equal(call.verifyRead?.(0), 0);
    assert.equal(call.accessRights?.(USER_SS), 0x00c0_f300n);
    assert.equal(call.accessRights?.(KERNEL_CS), -1n);
    assert.equal(call.segmentLimit?.(USER_SS), 0xffff_ffffn);
    assert.equal(call.segmentLimit?.(0x100), -1n);
  });

  test("ports follow the TSS's bitmap", () => {
    host.write16(TSS + 0x66, 0x68);
    assert.deepEqual(
      faultOf(() => call.checkPort?.(0, 1)),
      { vector: 13, errorCode: 0 },
    );
    host.view.setSegment(TR, 0x40, 0x8b, 0x78, TSS, 0);
    host.write16(TSS + 0x68, 0xff7f);
    call.checkPort?.(7, 1);
    assert.deepEqual(
      faultOf(() => call.checkPort?.(7, 2)),
      { vector: 13, errorCode: 0 },
    );
    assert.deepEqual(
      faultOf(() => call.checkPort?.(0x80, 1)),
      { vector: 13, errorCode: 0 },
    );
  });
});
