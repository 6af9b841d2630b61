import assert from "node:assert/strict";
import { test } from "node:test";
import { checkDevice, type MakeDevice } from "./conformance.ts";
import { mmio } from "./device.ts";
import { InterruptFabric } from "./interrupts/fabric.ts";
import { ioapic } from "./interrupts/ioapic.ts";
import { lapic } from "./interrupts/lapic.ts";
import { pic } from "./interrupts/pic.ts";
import { SharedLock } from "./lock.ts";
import { acpiPm } from "./pc/acpi-pm.ts";
import { debugExit } from "./pc/debug-exit.ts";
import { fwCfg, fwCfgItems } from "./pc/fw-cfg.ts";
import { hpet } from "./pc/hpet.ts";
import { i8042 } from "./pc/i8042.ts";
import { pit } from "./pc/pit.ts";
import { postPort } from "./pc/post-port.ts";
import { rtc } from "./pc/rtc.ts";
import { uart } from "./pc/uart.ts";
import { vga } from "./pc/vga.ts";
import { hostBridge, pciHost, PciFunctions, pciWindows } from "./pci/pci-host.ts";
import type { StateSpec } from "./state.ts";
import type { VirtioDefinition } from "./virtio/define-virtio.ts";
import { Doorbells } from "./virtio/doorbells.ts";
import { FUNCTION_BYTES } from "./virtio/transport.ts";
import { virtioBlk } from "./virtio/virtio-blk.ts";
import { virtioRng } from "./virtio/virtio-rng.ts";
import { CountingLine, ManualClock, newArena, randomNumbers } from "./test-rig.ts";

const nothing = (): void => {};

/** A virtio function with its whole BAR, which no bus gives it here. */
const virtio =
  <Info, Port>(definition: VirtioDefinition<StateSpec, Info, Port, string>, info: Info): MakeDevice =>
  (arena, clock) => {
    const work = new Doorbells(arena, 1).device(0);
    const port = { work, barAddress: 0xc0000000, sendMsi: nothing };
    const { name } = definition;
    const ranges = [mmio(0, FUNCTION_BYTES)];
    return definition.instantiate({ arena, clock, irq: new CountingLine(), info, name, port, ranges }).device;
  };

const devices: Record<string, MakeDevice> = {
  pic: (arena, clock) => pic.instantiate({ arena, clock, port: { changed: nothing } }),
  ioapic: (arena, clock) => ioapic.instantiate({ arena, clock, port: { id: 1, send: nothing, changed: nothing } }),
  lapic: (arena, clock) =>
    lapic.instantiate({
      arena,
      clock,
      port: { index: 0, changed: nothing, command: nothing, broadcastEoi: nothing },
    }),
  pit: (arena, clock) => pit.instantiate({ arena, clock, port: null, irq: new CountingLine() }),
  rtc: (arena, clock) =>
    rtc.instantiate({ arena, clock, port: { lowRamBytes: 2 ** 28, highRamBytes: 0 }, irq: new CountingLine() }),
  uart: (arena, clock) =>
    uart.instantiate({
      arena,
      clock,
      port: { send: () => false, receive: () => 0x41, yieldToHost: nothing },
      irq: new CountingLine(),
    }),
  "acpi-pm": (arena, clock) => acpiPm.instantiate({ arena, clock, port: { powerOff: nothing } }),
  i8042: (arena, clock) =>
    i8042.instantiate({
      arena,
      clock,
      port: { reset: nothing, gateA20: nothing, key: () => 0x1e },
      irq: new CountingLine(),
    }),
  hpet: (arena, clock) =>
    hpet.instantiate({
      arena,
      clock,
      port: {
        legacy: [new CountingLine(), new CountingLine()],
        routes: Array.from({ length: 8 }, () => new CountingLine()),
        legacyChanged: nothing,
      },
    }),
  vga: (arena, clock) => vga.instantiate({ arena, clock, port: null }),
  "debug-exit": (arena, clock) => debugExit.instantiate({ arena, clock, port: { exit: nothing } }),
  "fw-cfg": (arena, clock) => {
    const ram = new Uint8Array(65536);
    const files = [{ name: "opt/test", bytes: Uint8Array.of(1, 2, 3) }];
    const items = fwCfgItems({ ramBytes: ram.length, vcpus: 1, ram: [{ start: 0, size: ram.length }], files });
    const slice = (address: number, length: number) =>
      address + length <= ram.length ? ram.subarray(address, address + length) : undefined;
    return fwCfg.instantiate({ arena, clock, port: { items, ram: slice } });
  },
  post: (arena, clock) => postPort.instantiate({ arena, clock, port: null }),
  "host-bridge": (arena, clock) => hostBridge.instantiate({ arena, clock, port: null }),
  "pci-host": (arena, clock) => {
    const functions = new PciFunctions();
    return pciHost.instantiate({ arena, clock, port: { functions, reset: nothing } });
  },
  "pci-windows": (arena, clock) => pciWindows.instantiate({ arena, clock, port: new PciFunctions() }),
  "virtio-blk": virtio(virtioBlk, { sectors: 100, readOnly: false, serial: "" }),
  "virtio-rng": virtio(virtioRng, null),
};

for (const [name, make] of Object.entries(devices)) {
  test(`${name} conforms`, () => {
    for (let seed = 1; seed <= 5; seed++) checkDevice(make, () => new ManualClock(), seed * 7919);
  });
}

test("controllers wired to each other take any sequence of accesses, lines and acknowledges", () => {
  const random = randomNumbers(4711);
  const clock = new ManualClock();
  const lock = new SharedLock(new SharedArrayBuffer(4), 0);
  const fabric = new InterruptFabric({ arena: newArena(), clock, vcpus: 3, lock, wake: nothing });
  for (const device of fabric.devices) device.reset();
  const lines = Array.from({ length: 24 }, (_, gsi) => fabric.line(gsi));
  for (let i = 0; i < 200_000; i++) {
    const device = fabric.devices[random() % fabric.devices.length];
    const size = ([1, 2, 4] as const)[random() % 3] ?? 1;
    const range = device?.ranges.length === 3 ? 6 : 0x400;
    if (random() % 2 === 0) device?.write(random() % range, size, random() % 2 ** (8 * size));
    else device?.read(random() % range, size);
    const line = lines[random() % 24];
    if (random() % 2 === 0) line?.raise();
    else line?.lower();
    if (random() % 3 === 0) fabric.sendMsi(random(), random());
    const processor = fabric.processors[random() % 3];
    if (processor?.pending() === true) {
      const vector = processor.acknowledge();
      assert.ok(Number.isInteger(vector) && vector >= 0 && vector <= 255, `vector ${vector}`);
    }
    processor?.writeMsr(0x800 + (random() % 0x40), BigInt(random()));
    clock.time += random() % 100_000;
  }
});
