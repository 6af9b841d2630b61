import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { ManualClock, newArena } from "../test-rig.ts";
import { ConfigLayout } from "./config-space.ts";
import { defineDevice } from "../device.ts";
import { hostBridge, pciHost, PciFunctions, pciWindows } from "./pci-host.ts";
import { bytes, StateArena } from "../state.ts";

let resets: number;
const make = () => {
  const arena = newArena();
  const clock = new ManualClock();
  const functions = new PciFunctions();
  const bridge = hostBridge.instantiate({ arena, clock, port: null });
  functions.attach(0, 0, 0, bridge);
  bridge.reset();
  return pciHost.instantiate({ arena, clock, port: { functions, reset: () => resets++ } });
};
let host: ReturnType<typeof make>;
const select = (address: number): void => host.write(0, 4, address);
const ECAM = 8;

beforeEach(() => {
  resets = 0;
  host = make();
  host.reset();
});

test("mechanism 1 reads the bridge, by bytes and words too", () => {
  select(0x80000000);
  assert.equal(host.read(0, 4), 0x80000000);
  assert.equal(host.read(4, 4), 0x0d578086);
  assert.equal(host.read(6, 2), 0x0d57);
  select(0x80000008);
  assert.equal(host.read(7, 1), 0x06);
});

test("absent functions, and a disabled address port, give all ones", () => {
  select(0x80000800);
  assert.equal(host.read(4, 4), 0xffffffff);
  select(0x00000000);
  assert.equal(host.read(4, 4), 0xffffffff);
});

test("the memory-mapped space shows the same registers, and no extended ones", () => {
  assert.equal(host.read(ECAM, 4), 0x0d578086);
  assert.equal(host.read(ECAM + 0x100, 4), 0xffffffff);
  assert.equal(host.read(ECAM + (1 << 20), 4), 0xffffffff);
  host.write(ECAM + 4, 2, 0xffff);
  select(0x80000004);
  assert.equal(host.read(4, 2), 0x0546);
});

test("the reset register resets on the rising edge of its bit 2, and is no part of the address port", () => {
  host.write(1, 1, 0x02);
  assert.equal(resets, 0);
  host.write(1, 1, 0x06);
  assert.equal(resets, 1);
  select(0x80000000 | (0x06 << 8));
  assert.equal(resets, 1);
});

test("configuration registers: read-only, writable and write-1-to-clear bits", () => {
  const layout = new ConfigLayout([
    { name: "id", offset: 0, size: 2, value: 0x1234 },
    { name: "command", offset: 4, size: 2, value: 0x0001, writable: 0x0003 },
    { name: "status", offset: 6, size: 2, value: 0xa010, clearable: 0xa000 },
  ]);
  const config = new Uint8Array(256);
  layout.reset(config);
  layout.write(config, 0, 4, 0xffffffff);
  layout.write(config, 4, 4, 0x8000fffe);
  assert.equal(layout.read(config, 0, 4), 0x00001234);
  assert.equal(layout.read(config, 4, 4), 0x20100002);
});

test("a BAR decodes where its register says, as soon as it does, while memory is enabled", () => {
  const layout = new ConfigLayout([
    { name: "command", offset: 4, size: 2, value: 0, writable: 2 },
    { name: "bar", offset: 0x10, size: 4, value: 0xc0010000, writable: 0xfffff000 },
  ]);
  const card = defineDevice<null>()({
    name: "card",
    version: 1,
    ranges: [],
    widths: { min: 1, max: 4 },
    state: { config: bytes(256), memory: bytes(4096) },
    reset: ({ state }) => layout.reset(state.config),
    read: ({ state }, offset, size) =>
      offset < 256 ? layout.read(state.config, offset, size) : (state.memory[offset - 256] ?? 0),
    write({ state }, offset, size, value) {
      if (offset < 256) layout.write(state.config, offset, size, value);
      else state.memory[offset - 256] = value;
    },
  });
  const arena = newArena();
  const clock = new ManualClock();
  const functions = new PciFunctions();
  const device = card.instantiate({ arena, clock, port: null });
  device.reset();
  functions.attach(0, 3, 0, device, [{ register: 0x10, sizeBytes: 4096, offset: 256 }]);
  const windows = pciWindows.instantiate({ arena, clock, port: functions });
  // Offsets of the windows' device: the low one, then the high one from 0xf0000000 on.
  const low = (address: number): number => address - 0xc0000000;
  const high = (address: number): number => address - 0xf0000000 + 0x20000000;
  windows.write(low(0xc0010005), 1, 0x42);
  assert.equal(windows.read(low(0xc0010005), 1), 0xff);
  device.write(4, 2, 2);
  windows.write(low(0xc0010005), 1, 0x42);
  assert.equal(windows.read(low(0xc0010005), 1), 0x42);
  assert.equal(windows.read(low(0xc0011000), 1), 0xff);
  assert.equal(windows.read(low(0xc000ffff), 1), 0xff);
  device.write(0x10, 4, 0xfe000fff);
  assert.equal(windows.read(low(0xc0010005), 1), 0xff);
  assert.equal(windows.read(high(0xfe000005), 1), 0x42);
  // A second view of the same state, as another thread has it.
  const others = new PciFunctions();
  const twin = card.instantiate({ arena: new StateArena(arena.buffer), clock, port: null });
  others.attach(0, 3, 0, twin, [{ register: 0x10, sizeBytes: 4096, offset: 256 }]);
  assert.deepEqual(others.decode(0xfe000fff), { device: twin, offset: 256 + 4095 });
});

test("a table out of order is refused", () => {
  const register = (offset: number) => ({ name: "r", offset, size: 4 as const, value: 0 });
  assert.throws(() => new ConfigLayout([register(4), register(0)]), { code: "pci-layout" });
  assert.throws(() => new ConfigLayout([register(2)]), { code: "pci-layout" });
  assert.throws(() => new ConfigLayout([register(256)]), { code: "pci-layout" });
});
