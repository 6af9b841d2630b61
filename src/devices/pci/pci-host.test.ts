import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { ManualClock, newArena } from "../test-rig.ts";
import { ConfigLayout } from "./config-space.ts";
import { hostBridge, pciHost, PciFunctions } from "./pci-host.ts";

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

test("a table out of order is refused", () => {
  const register = (offset: number) => ({ name: "r", offset, size: 4 as const, value: 0 });
  assert.throws(() => new ConfigLayout([register(4), register(0)]), { code: "pci-layout" });
  assert.throws(() => new ConfigLayout([register(2)]), { code: "pci-layout" });
  assert.throws(() => new ConfigLayout([register(256)]), { code: "pci-layout" });
});
