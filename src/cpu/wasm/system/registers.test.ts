import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { XMM } from "../../../isa/state.ts";
import { resetState } from "../../reset-state.ts";
import { GPR_NAMES } from "../../vcpu.ts";
import { TLB } from "../layout.ts";
import { CR0, CR4, CS, FS, GS } from "../state-view.ts";
import { type Call, FakeHost, faultOf } from "./fake-host.ts";
import { LinearMemory } from "./linear-memory.ts";
import { SystemUnit } from "./system-unit.ts";
import { timeScale } from "./timestamp.ts";

const GP0 = { vector: 13, errorCode: 0 };
const UD = { vector: 6, errorCode: undefined };

let host: FakeHost;
let unit: SystemUnit;
let call: Record<string, Call>;

beforeEach(() => {
  host = new FakeHost();
  unit = new SystemUnit(host, host.view);
  call = unit.helpers as unknown as Record<string, Call>;
  unit.reset();
  host.flushes.length = 0;
});

describe("control registers", () => {
  test("CR0 refuses impossible combinations, and keeps ET", () => {
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(0, BigInt(CR0.PG))),
      GP0,
    );
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(0, BigInt(CR0.NW))),
      GP0,
    );
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(0, 1n << 32n)),
      GP0,
    );
    call.writeControlRegister?.(0, 0x1_0000n | 0x40n);
    assert.equal(call.readControlRegister?.(0), BigInt(CR0.WP | CR0.ET));
    assert.deepEqual(host.flushes, ["all"]);
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(1, 0n)),
      UD,
    );
    assert.deepEqual(
      faultOf(() => call.readControlRegister?.(5)),
      UD,
    );
  });

  test("long mode is activated by paging with EFER.LME, and left without it", () => {
    const { view } = host;
    const paging = BigInt(CR0.PG) | 1n;
    call.writeMsr?.(0xc0000080, 0x100n);
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(0, paging)),
      GP0,
      "without PAE",
    );
    call.writeControlRegister?.(4, BigInt(CR4.PAE));
    call.writeControlRegister?.(0, paging);
    assert.equal(call.readMsr?.(0xc0000080), 0x500n);
    assert.equal(view.longModeActive, true);
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(4, 0n)),
      GP0,
      "PAE stays",
    );
    assert.deepEqual(
      faultOf(() => call.writeMsr?.(0xc0000080, 0n)),
      GP0,
      "LME stays",
    );
    view.setSegment(CS, 8, 0xa09b, 0xffff_ffff, 0, 0);
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(0, 1n)),
      GP0,
      "64-bit code cannot leave",
    );
    view.setSegment(CS, 8, 0xc09b, 0xffff_ffff, 0, 0);
    call.writeControlRegister?.(0, 1n);
    assert.equal(call.readMsr?.(0xc0000080), 0x100n);
  });

  test("CR3, CR4 and CR8 refuse reserved bits", () => {
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(3, 1n << 40n)),
      GP0,
    );
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(3, 1n << 63n)),
      GP0,
    );
    call.writeControlRegister?.(3, 0xff_ffff_f018n);
    assert.equal(call.readControlRegister?.(3), 0xff_ffff_f018n);
    assert.deepEqual(host.flushes, ["all"], "without global pages everything goes");
    call.writeControlRegister?.(4, BigInt(CR4.PGE));
    call.writeControlRegister?.(3, 0n);
    assert.deepEqual(host.flushes, ["all", "all", "non-global"]);
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(4, BigInt(CR4.PCIDE))),
      GP0,
    );
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(4, 1n << 32n)),
      GP0,
    );
    call.writeControlRegister?.(4, BigInt(CR4.SMEP | CR4.SMAP | CR4.OSXSAVE | CR4.FSGSBASE));
    call.writeControlRegister?.(8, 9n);
    assert.equal(host.interrupts.taskPriority, 9);
    assert.equal(call.readControlRegister?.(8), 9n);
    assert.deepEqual(
      faultOf(() => call.writeControlRegister?.(8, 16n)),
      GP0,
    );
  });

  test("whether SSE and x87 may be used follows CR0 and CR4", () => {
    const { view } = host;
    const states = () => [view.low("sseState"), view.low("x87State")];
    const derive = (cr0: number, cr4: number) => {
      view.setLow("cr0", cr0);
      view.setLow("cr4", cr4);
      unit.deriveAvailability();
      return states();
    };
    assert.deepEqual(derive(0, CR4.OSFXSR), [0, 0]);
    assert.deepEqual(derive(0, 0), [6, 0]);
    assert.deepEqual(derive(CR0.TS, CR4.OSFXSR), [7, 7]);
    assert.deepEqual(derive(CR0.EM | CR0.TS, CR4.OSFXSR), [6, 7]);
    call.clearTaskSwitched?.();
    assert.equal(view.low("cr0"), CR0.EM);
  });

  test("XCR0 takes x87 and SSE, never without x87", () => {
    call.writeExtendedControl?.(0, 3n);
    assert.equal(call.readExtendedControl?.(0), 3n);
    for (const bad of [0n, 2n, 7n, 1n << 32n])
      assert.deepEqual(
        faultOf(() => call.writeExtendedControl?.(0, bad)),
        GP0,
      );
    assert.deepEqual(
      faultOf(() => call.writeExtendedControl?.(1, 1n)),
      GP0,
    );
    assert.deepEqual(
      faultOf(() => call.readExtendedControl?.(2)),
      GP0,
    );
  });

  test("debug registers: fixed bits, aliases, general detect", () => {
    call.writeDebugRegister?.(7, 0xffff_ffffn & ~(1n << 13n));
    assert.equal(call.readDebugRegister?.(7), 0xffff_0fffn);
    call.writeDebugRegister?.(6, 0n);
    assert.equal(call.readDebugRegister?.(4), 0xffff_0ff0n);
    assert.deepEqual(
      faultOf(() => call.writeDebugRegister?.(6, 1n << 32n)),
      GP0,
    );
    call.writeDebugRegister?.(0, -1n);
    assert.equal(call.readDebugRegister?.(0), 0xffff_ffff_ffff_ffffn);
    host.view.setLow("cr4", CR4.DE);
    assert.deepEqual(
      faultOf(() => call.readDebugRegister?.(5)),
      UD,
    );
    call.writeDebugRegister?.(7, 1n << 13n);
    assert.deepEqual(
      faultOf(() => call.readDebugRegister?.(0)),
      { vector: 1, errorCode: undefined },
    );
    assert.equal(host.view.low("dr6") & (1 << 13), 1 << 13);
  });
});

describe("model-specific registers", () => {
  const round = (index: number, value: bigint) => {
    call.writeMsr?.(index, value);
    return call.readMsr?.(index);
  };

  test("values are kept; what a register cannot hold raises #GP", () => {
    assert.equal(round(0xc0000082, 0xffff_ffff_8180_0000n), 0xffff_ffff_8180_0000n);
    assert.deepEqual(
      faultOf(() => call.writeMsr?.(0xc0000082, 1n << 47n)),
      GP0,
    );
    assert.equal(round(0x277, 0x0407_0506_0007_0106n), 0x0407_0506_0007_0106n);
    assert.deepEqual(
      faultOf(() => call.writeMsr?.(0x277, 2n)),
      GP0,
    );
    assert.equal(round(0x200, 0xc000_0000n), 0xc000_0000n);
    assert.equal(round(0x26f, 0x0606_0606_0606_0606n), 0x0606_0606_0606_0606n);
    assert.deepEqual(
      faultOf(() => call.writeMsr?.(0x26f, 7n)),
      GP0,
    );
    assert.deepEqual(
      faultOf(() => call.writeMsr?.(0xfe, 0n | 1n)),
      GP0,
    );
    assert.equal(call.readMsr?.(0xfe), 0x508n);
    assert.deepEqual(
      faultOf(() => call.writeMsr?.(0xc0000103, 1n << 32n)),
      GP0,
    );
    assert.deepEqual(
      faultOf(() => call.writeMsr?.(0xc0000080, 1n << 1n)),
      GP0,
    );
    // Signed arguments, as WebAssembly gives them.
    assert.equal(round(0xc0000102 | 0, -4096n), 0xffff_ffff_ffff_f000n);
    // Microcode revision: software writes 0, then reads it.
    assert.equal(round(0x8b, 0n), 1n << 32n);
  });

  test("FS and GS bases are the segments'", () => {
    round(0xc0000100, 0x7fff_1234_5678n);
    round(0xc0000101, 0xffff_8880_0000_0000n);
    assert.equal(host.view.base(FS), 0x7fff_1234_5678n);
    assert.equal(host.view.base(GS), 0xffff_8880_0000_0000n);
    assert.deepEqual(
      faultOf(() => call.writeMsr?.(0xc0000101, 1n << 63n)),
      GP0,
    );
  });

  test("unknown ones raise #GP and are counted", () => {
    assert.deepEqual(
      faultOf(() => call.readMsr?.(0x1234)),
      GP0,
    );
    assert.deepEqual(
      faultOf(() => call.writeMsr?.(0x1234, 0n)),
      GP0,
    );
    assert.deepEqual(
      faultOf(() => call.readMsr?.(0x801)),
      GP0,
    );
    assert.deepEqual(
      [...unit.msrs.unknown],
      [
        [0x1234, 2],
        [0x801, 1],
      ],
    );
  });

  test("the counter follows the clock, an adjustment moves it and the deadline with it", () => {
    assert.equal(call.readTimestamp?.(), 2_000_000n);
    assert.equal(call.readMsr?.(0x10), 2_000_000n);
    call.writeMsr?.(0x6e0, 5_000_000n);
    call.writeMsr?.(0x10, 100n);
    assert.equal(call.readTimestamp?.(), 100n);
    assert.equal(call.readMsr?.(0x3b), BigInt.asUintN(64, -1_999_900n));
    assert.equal(call.readMsr?.(0x6e0), 5_000_000n);
    assert.equal(host.apicMsrs.get(0x6e0), 6_999_900n);
    call.writeMsr?.(0x6e0, 0n);
    assert.equal(host.apicMsrs.get(0x6e0), 0n);
  });
});

describe("KVM's clock", () => {
  test("scale and shift give nanoseconds", () => {
    for (const hz of [1e9, 2e9, 999_999_937, 2_893_202_000, 3_600_000_000, 24_000_000, 5_400_000_000]) {
      const { mul, shift } = timeScale(hz);
      assert.ok(mul >= 2 ** 31 && mul < 2 ** 32);
      const ticks = BigInt(hz) * 1000n;
      const shifted = shift >= 0 ? ticks << BigInt(shift) : ticks >> BigInt(-shift);
      const ns = Number((shifted * BigInt(mul)) >> 32n);
      assert.ok(Math.abs(ns - 1e12) < 1000, `${hz} Hz gives ${ns} ns`);
    }
  });

  test("the page holds time and tick of one moment, an even version, the stable flag", () => {
    call.writeMsr?.(0x4b564d01, 0x3001n);
    const words = () => [host.read32(0x3000), host.read64(0x3008), host.read64(0x3010)];
    assert.deepEqual(words(), [2, 2_000_000n, 1_000_000n]);
    assert.equal(host.read32(0x3018), 2 ** 31);
    assert.equal(host.read16(0x301c), 0x0100, "shift 0, flag 1");
    host.now = 3_000_000;
    call.writeMsr?.(0x3b, 7n);
    assert.deepEqual(words(), [4, 6_000_007n, 3_000_000n]);
    call.writeMsr?.(0x4b564d01, 0n);
    call.writeMsr?.(0x3b, 0n);
    assert.deepEqual(words(), [4, 6_000_007n, 3_000_000n], "disabled: untouched");
    // An address that is no RAM is the guest's mistake alone.
    call.writeMsr?.(0x4b564d01, 0xffff_ffff_ffff_f001n);
    call.writeMsr?.(0x4b564d01, BigInt(host.faultFrom) | 1n);
  });

  test("the wall clock is the time at power-on", () => {
    call.writeMsr?.(0x4b564d00, 0x3000n);
    assert.deepEqual(
      [0, 4, 8].map((at) => host.read32(0x3000 + at)),
      [2, 1_700_000_000, 123_456_789],
    );
  });
});

describe("FXSAVE and XSAVE", () => {
  const AREA = 0x6000;
  beforeEach(() => {
    host.view.setLow("cr4", CR4.OSFXSR | CR4.OSXSAVE);
    host.view.setLong("xcr0", 3n);
    host.view.bytes.fill(0x5a, XMM, XMM + 256);
    host.view.setLow("mxcsr", 0x1fa0);
  });

  test("FXSAVE leaves the last 48 bytes alone; FXRSTOR brings all back", () => {
    host.write64(AREA + 464, 0x1122n);
    call.fxsave?.(BigInt(AREA), 1);
    assert.deepEqual(
      [host.read32(AREA + 24), host.read32(AREA + 28), host.read64(AREA + 464)],
      [0x1fa0, 0xffff, 0x1122n],
    );
    host.view.bytes.fill(0, XMM, XMM + 256);
    host.view.setLow("mxcsr", 0);
    call.fxrstor?.(BigInt(AREA), 1);
    assert.equal(host.view.bytes[XMM + 255], 0x5a);
    assert.equal(host.view.low("mxcsr"), 0x1fa0);
    assert.deepEqual(
      faultOf(() => call.fxsave?.(BigInt(AREA + 8), 1)),
      GP0,
    );
    host.write32(AREA + 24, 0x1_0000);
    assert.deepEqual(
      faultOf(() => call.fxrstor?.(BigInt(AREA), 1)),
      GP0,
    );
  });

  test("the x87 stack is stored from TOP", () => {
    const { view } = host;
    view.loadFx(
      fxWith((image) => {
        image.setUint16(2, 3 << 11, true);
        for (let i = 0; i < 8; i++) image.setUint8(32 + i * 16, i + 1);
      }),
    );
    call.fxsave?.(BigInt(AREA), 1);
    assert.deepEqual(
      [0, 1, 7].map((i) => host.read16(AREA + 32 + i * 16)),
      [1, 2, 8],
    );
    view.setLow("fsw", 4 << 11);
    call.fxsave?.(BigInt(AREA), 1);
    assert.deepEqual(
      [0, 1, 7].map((i) => host.read16(AREA + 32 + i * 16)),
      [2, 3, 1],
    );
  });

  function fxWith(fill: (image: DataView) => void): Uint8Array {
    const fx = new Uint8Array(512);
    fill(new DataView(fx.buffer));
    return fx;
  }

  test("an area that crosses pages holds what one in a page does, and its parts are saved alone", () => {
    const { view } = host;
    for (let i = 0; i < 256; i++) view.bytes[XMM + i] = i;
    const CROSSING = 0x8000 - 192;
    const bytesAt = (address: number) => Array.from({ length: 576 / 4 }, (_, i) => host.read32(address + i * 4));
    for (const [i, part] of [3n, 2n, 1n].entries()) {
      call.xsave?.(BigInt(AREA + i * 0x400), part, 1, 0);
      call.xsave?.(BigInt(CROSSING + i * 0x2000), part, 1, 0);
      assert.deepEqual(bytesAt(CROSSING + i * 0x2000), bytesAt(AREA + i * 0x400));
    }
    // MXCSR and its mask go with SSE, the control word with x87.
    assert.deepEqual([host.read32(AREA + 0x400), host.read32(AREA + 0x400 + 24)], [0, 0x1fa0]);
    assert.deepEqual([host.read32(AREA + 0x800), host.read32(AREA + 0x800 + 24)], [host.read32(AREA), 0]);
    view.bytes.fill(0, XMM, XMM + 256);
    view.setLow("mxcsr", 0);
    call.xrstor?.(BigInt(CROSSING), 3n, 1, 0);
    assert.deepEqual(
      [...view.bytes.subarray(XMM, XMM + 256)],
      Array.from({ length: 256 }, (_, i) => i),
    );
    assert.equal(view.low("mxcsr"), 0x1fa0);
  });

  test("XSAVE names what it saved; XRSTOR initializes what the image lacks", () => {
    call.xsave?.(BigInt(AREA), -1n, 1, 0);
    assert.equal(host.read64(AREA + 512), 3n);
    assert.equal(host.read32(AREA + 160), 0x5a5a5a5a);
    host.write64(AREA + 512, 1n);
    call.xrstor?.(BigInt(AREA), 3n, 1, 0);
    assert.equal(host.view.bytes[XMM], 0);
    assert.equal(host.view.low("mxcsr"), 0x1fa0, "MXCSR is loaded all the same");
    host.view.bytes.fill(0x77, XMM, XMM + 256);
    host.view.setLow("fcw", 0x27f);
    host.write64(AREA + 512, 0n);
    call.xrstor?.(BigInt(AREA), 1n, 1, 0);
    assert.equal(host.view.bytes[XMM], 0x77, "SSE was not asked for");
    assert.equal(host.view.low("fcw"), 0x37f);
  });

  test("XSAVE of one component keeps the header's other bits", () => {
    host.write64(AREA + 512, 1n);
    call.xsave?.(BigInt(AREA), 2n, 1, 1);
    assert.equal(host.read64(AREA + 512), 3n);
    assert.equal(host.read16(AREA), 0, "x87 was not asked for");
  });

  test("XRSTOR refuses a bad header, and misalignment", () => {
    call.xsave?.(BigInt(AREA), 3n, 1, 0);
    for (const [at, value] of [
      [512, 7n],
      [520, 1n],
      [528, 1n],
    ] as const) {
      const before = host.read64(AREA + at);
      host.write64(AREA + at, value);
      assert.deepEqual(
        faultOf(() => call.xrstor?.(BigInt(AREA), 3n, 1, 0)),
        GP0,
      );
      host.write64(AREA + at, before);
    }
    assert.deepEqual(
      faultOf(() => call.xrstor?.(BigInt(AREA + 16), 3n, 1, 0)),
      GP0,
    );
    assert.deepEqual(
      faultOf(() => call.xsave?.(BigInt(AREA), 3n, 1, 2)),
      UD,
    );
  });
});

describe("the rest", () => {
  test("a saved state loads to the same state", () => {
    const state = resetState(0x600n);
    for (const [i, name] of GPR_NAMES.entries()) state.gpr[name] = BigInt(i) << 60n;
    state.rflags = 0x8d7n;
    state.rip = 0xffff_ffff_8100_0000n;
    state.segments.gs.base = 0xffff_8880_0000_0000n;
    state.segments.cs = { selector: 0x10, base: 0n, limit: 0xffff_ffff, attributes: 0xa09b };
    state.cr0 = 0x8000_0011n;
    state.msrs.set(0xc0000080, 0xd01n).set(0x200, 0xc000_0000n).set(0x3b, 5n);
    state.dr[3] = 0x1234n;
    state.fx.fill(0x11, 160, 416);
    host.view.load(state);
    const saved = host.view.save();
    for (const [index, value] of state.msrs) assert.equal(saved.msrs.get(index), value, index.toString(16));
    const image = new DataView(state.fx.buffer);
    image.setUint32(28, 0xffff, true);
    // What stands between two instructions is the vCPU's, not the registers'.
    state.pdptes = [0x1001n, 0n, 0n, 0x2001n];
    host.view.load(state);
    assert.deepEqual(host.view.save().pdptes, state.pdptes);
    delete state.pdptes;
    const { activity: _activity, interruptShadow: _shadow, nmiBlocked: _blocked, ...registers } = state;
    assert.deepEqual({ ...saved, msrs: undefined }, { ...registers, pdptes: [0n, 0n, 0n, 0n], msrs: undefined });
    host.view.load(saved);
    assert.deepEqual(host.view.save(), saved);
  });

  test("flags compose and decompose, each by itself", () => {
    for (let bits = 0; bits < 64; bits++) {
      const flags = [0, 2, 4, 6, 7, 11].reduce((sum, place, i) => sum | (((bits >> i) & 1) << place), 0x202);
      host.view.rflags = flags;
      assert.equal(host.view.rflags, flags);
    }
  });

  test("a hit in the software TLB saves the walk; a page's end does not hit", () => {
    const memory = new LinearMemory(host);
    const entry = TLB.base + ((0x7000_5000 >>> 8) & ((TLB.entries - 1) * TLB.entryBytes));
    host.memory.view.setUint32(entry, 0x7000_5000, true);
    host.memory.view.setUint32(entry + 4, 0xffff_8000, true);
    const ram = host.memory.offsetOf(0x3000, 4096);
    host.memory.view.setInt32(entry + 8, ram - 0x7000_5000, true);
    host.write64(0x3010, 0x1122_3344_5566_7788n);
    memory.load64(0x7000_5010, 0xffff_8000, true);
    assert.deepEqual([memory.low, memory.high], [0x5566_7788, 0x1122_3344]);
    assert.deepEqual(
      faultOf(() => memory.load64(0x7000_5ffc, 0xffff_8000, true)),
      { vector: 14, errorCode: 0 },
    );
    assert.deepEqual(
      faultOf(() => memory.store32(0x7000_5010, 0xffff_8000, 1, true)),
      { vector: 14, errorCode: 2 },
    );
  });

  test("ENTER with nesting copies the outer frames", () => {
    const { view } = host;
    view.setGpr(4, 0x8000n);
    view.setGpr(5, 0x9000n);
    host.write32(0x9000 - 4, 0x1111);
    host.write32(0x9000 - 8, 0x2222);
    call.enterNested?.(3, 32, 32);
    // The registers are the effect's, once the frame's end has been probed.
    assert.deepEqual([view.gpr(5), view.gpr(4)], [0x9000n, 0x8000n]);
    assert.deepEqual(
      [0x7ffc, 0x7ff8, 0x7ff4, 0x7ff0].map((at) => host.read32(at)),
      [0x9000, 0x1111, 0x2222, 0x7ffc],
    );
  });

  test("INVPCID, ports and HLT", () => {
    call.invalidatePcid?.(0n, 0n, 0x5000n);
    call.invalidatePcid?.(3n, 9n, 0n);
    assert.deepEqual(host.flushes, [0x5000n, "non-global"]);
    for (const bad of [
      [4n, 0n, 0n],
      [1n, 1n, 0n],
      [0n, 0n, 1n << 47n],
    ] as const) {
      assert.deepEqual(
        faultOf(() => call.invalidatePcid?.(...bad)),
        GP0,
      );
    }
    call.writePort?.(0x1_0080, 1, -1);
    call.writePort?.(0xcf8, 4, -1);
    assert.deepEqual(host.ports, [
      { port: 0x80, size: 1, value: 0xff },
      { port: 0xcf8, size: 4, value: 0xffff_ffff },
    ]);
    call.halt?.();
    assert.deepEqual(host.exits, ["halt"]);
    assert.deepEqual(
      faultOf(() => call.hypercall?.(0)),
      UD,
    );
  });
});
