/**
 * The PCI host: configuration mechanism 1 (ports 0xcf8 and 0xcfc), the memory-mapped one (ECAM), and the reset
 * register at 0xcf9, which shares the address port's place. [PCI 3.0 §3.2.2.3; PCIe 3.0 §7.2.2; 82371SB §2.5.3.1]
 *
 * A function is a device whose offsets are those of its configuration space; the host finds it by bus, device and
 * function.
 */

import type { AccessSize } from "../../cpu/vcpu.ts";
import { defineDevice, type Device, mmio, pio } from "../device.ts";
import { bytes, u32, u8 } from "../state.ts";
import { CONFIG_BYTES, ConfigLayout } from "./config-space.ts";

export const ECAM_ADDRESS = 0xe0000000;
const ECAM_BUSES = 256;
export const ECAM_BYTES = ECAM_BUSES << 20;
/** Windows in which a guest places memory BARs. */
export const PCI_WINDOWS = [
  { start: 0xc0000000, end: 0xe0000000 },
  { start: 0xf0000000, end: 0xfec00000 },
] as const;
export const RESET_PORT = 0xcf9;
/** What the FADT tells systems to write to the reset register: a hard reset. */
export const RESET_VALUE = 0x06;

/** GSI of a slot's interrupt pin (0 = INTA): the eight inputs above the ISA ones, turned by slot. */
export const gsiOfPin = (slot: number, pin: number): number => 16 + ((slot + pin) & 7);

/** A 32-bit memory BAR of a function. */
export interface PciBar {
  /** Its place in configuration space, 0x10 to 0x24. */
  readonly register: number;
  /** A power of two, 16 or more. */
  readonly sizeBytes: number;
  /** Where its bytes begin among the function's offsets. */
  readonly offset: number;
}

interface MemoryBar extends PciBar {
  readonly device: Device;
}

const COMMAND = 0x04;
const COMMAND_MEMORY = 0x0002;

/**
 * Functions by their number: bus << 8 | device << 3 | function. Where a BAR lies is read from configuration space at
 * every access, so that it is the same for every thread, and moves as soon as it is written.
 */
export class PciFunctions {
  readonly #functions = new Map<number, Device>();
  readonly #bars: MemoryBar[] = [];

  attach(bus: number, device: number, fn: number, config: Device, bars: readonly PciBar[] = []): void {
    this.#functions.set((bus << 8) | (device << 3) | fn, config);
    this.#bars.push(...bars.map((bar) => ({ ...bar, device: config })));
  }

  /** The BAR that decodes `address`, and its place there; undefined where none does. Overlaps: the first one. */
  decode(address: number): { readonly device: Device; readonly offset: number } | undefined {
    for (const { device, register, sizeBytes, offset } of this.#bars) {
      const within = address - ((device.read(register, 4) & -sizeBytes) >>> 0);
      if (within < 0 || within >= sizeBytes) continue;
      if ((device.read(COMMAND, 2) & COMMAND_MEMORY) !== 0) return { device, offset: offset + within };
    }
    return undefined;
  }

  read(number: number, register: number, size: AccessSize): number {
    const config = this.#functions.get(number);
    // No function, or no extended space: nobody answers.
    if (config === undefined || register + size > CONFIG_BYTES) return 0xffffffff;
    return config.read(register, size);
  }

  write(number: number, register: number, size: AccessSize, value: number): void {
    if (register + size <= CONFIG_BYTES) this.#functions.get(number)?.write(register, size, value);
  }
}

export interface PciHostPort {
  readonly functions: PciFunctions;
  reset(): void;
}

const ENABLE = 0x80000000;
const RST_CPU = 0x04;
/** Offsets through the ranges: ports 0xcf8 to 0xcff, then the memory-mapped space. */
const DATA = 4;
const ECAM = 8;

export const pciHost = defineDevice<PciHostPort>()({
  name: "pci-host",
  version: 1,
  ranges: [pio(0xcf8, 8), mmio(ECAM_ADDRESS, ECAM_BYTES)],
  widths: { min: 1, max: 4 },
  state: { address: u32, resetControl: u8 },
  read({ state, port }, offset, size) {
    if (offset >= ECAM) {
      const at = offset - ECAM;
      return port.functions.read(at >> 12, at & 0xfff, size);
    }
    if (offset >= DATA) {
      if ((state.address & ENABLE) === 0) return 0xffffffff;
      return port.functions.read((state.address >>> 8) & 0xffff, (state.address & 0xfc) + offset - DATA, size);
    }
    if (size === 4) return state.address;
    return size === 1 && offset === 1 ? state.resetControl : 0xffffffff;
  },
  write({ state, port }, offset, size, value) {
    if (offset >= ECAM) {
      const at = offset - ECAM;
      port.functions.write(at >> 12, at & 0xfff, size, value);
    } else if (offset >= DATA) {
      if ((state.address & ENABLE) === 0) return;
      port.functions.write((state.address >>> 8) & 0xffff, (state.address & 0xfc) + offset - DATA, size, value);
    } else if (size === 4) {
      state.address = value & 0x80fffffc;
    } else if (size === 1 && offset === 1) {
      // The rising edge of the reset bit resets.
      const rises = (value & RST_CPU) !== 0 && (state.resetControl & RST_CPU) === 0;
      state.resetControl = value & 0x0a;
      if (rises) port.reset();
    }
  },
});

const [LOW_WINDOW, HIGH_WINDOW] = PCI_WINDOWS;
const LOW_WINDOW_BYTES = LOW_WINDOW.end - LOW_WINDOW.start;

/** What the bridge passes on to memory BARs: the windows, where nobody decodes reads as all ones. */
export const pciWindows = defineDevice<PciFunctions>()({
  name: "pci-windows",
  version: 1,
  ranges: PCI_WINDOWS.map(({ start, end }) => mmio(start, end - start)),
  widths: { min: 1, max: 4 },
  state: {},
  read({ port }, offset, size) {
    const target = port.decode(windowAddress(offset));
    return target === undefined ? 0xffffffff : target.device.read(target.offset, size);
  },
  write({ port }, offset, size, value) {
    const target = port.decode(windowAddress(offset));
    target?.device.write(target.offset, size, value);
  },
});

const windowAddress = (offset: number): number =>
  offset < LOW_WINDOW_BYTES ? LOW_WINDOW.start + offset : HIGH_WINDOW.start + (offset - LOW_WINDOW_BYTES);

/** The bridge itself, 00:00.0: a host bridge without registers beyond the standard header. */
const bridgeLayout = new ConfigLayout([
  { name: "vendor", offset: 0x00, size: 2, value: 0x8086 },
  { name: "device", offset: 0x02, size: 2, value: 0x0d57 },
  { name: "command", offset: 0x04, size: 2, value: 0x0006, writable: 0x0546 },
  { name: "status", offset: 0x06, size: 2, value: 0x0000, clearable: 0xf900 },
  { name: "revision", offset: 0x08, size: 1, value: 0x00 },
  { name: "interface", offset: 0x09, size: 1, value: 0x00 },
  { name: "class", offset: 0x0a, size: 2, value: 0x0600 },
  { name: "cache line", offset: 0x0c, size: 1, value: 0x00, writable: 0xff },
  { name: "latency", offset: 0x0d, size: 1, value: 0x00 },
  { name: "header type", offset: 0x0e, size: 1, value: 0x00 },
]);

export const hostBridge = defineDevice<null>()({
  name: "host-bridge",
  version: 1,
  ranges: [],
  widths: { min: 1, max: 4 },
  state: { config: bytes(CONFIG_BYTES) },
  reset: ({ state }) => bridgeLayout.reset(state.config),
  read: ({ state }, offset, size) => bridgeLayout.read(state.config, offset, size),
  write: ({ state }, offset, size, value) => bridgeLayout.write(state.config, offset, size, value),
});
