/**
 * fw_cfg, by which a host hands small files to firmware and kernels. [QEMU docs/specs/fw_cfg.rst]
 *
 * The selector is written as 16 bits to 0x510, the item's bytes come out of 0x511, or by DMA through 0x514. Items are
 * read-only: they belong to the machine's configuration, and only the place in the item is state.
 */

import { defineDevice, type DeviceContext, pio } from "../device.ts";
import { u16, u32 } from "../state.ts";

export const FW_CFG_PORT = 0x510;
export const FW_CFG_PORTS = 12;

/** A file for the guest: name of 1 to 55 printable ASCII characters. */
export interface FwCfgFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}
/** Bytes of a name in the directory, the final zero included. */
export const FW_CFG_NAME_BYTES = 56;

export interface FwCfgPort {
  readonly items: ReadonlyMap<number, Uint8Array>;
  /** A view of guest RAM, or undefined where not all of it is RAM. */
  ram(address: number, length: number): Uint8Array | undefined;
}

const KEY = { signature: 0x00, id: 0x01, ramBytes: 0x03, cpus: 0x05, maxCpus: 0x0f, directory: 0x19, firstFile: 0x20 };
/** The traditional interface, and DMA. */
const FEATURES = 0x03;
/** A flag of the selector, not part of the key. */
const WRITE_CHANNEL = 0x4000;
const DMA_SIGNATURE = new TextEncoder().encode("QEMU CFG");
const DMA_HIGH = 4;
const DMA_LOW = 8;
const DMA_DESCRIPTOR_BYTES = 16;
const CONTROL = { error: 0x01, read: 0x02, skip: 0x04, select: 0x08, write: 0x10 } as const;
const E820_RAM = 1;

const littleEndian = (value: number, bytes: number): Uint8Array => {
  const result = new Uint8Array(8);
  new DataView(result.buffer).setBigUint64(0, BigInt(value), true);
  return result.subarray(0, bytes);
};

/** RAM by its spans, 20 bytes an entry, as firmware expects it in etc/e820. */
const e820 = (ram: readonly { readonly start: number; readonly size: number }[]): Uint8Array => {
  const bytes = new Uint8Array(ram.length * 20);
  const view = new DataView(bytes.buffer);
  for (const [index, { start, size }] of ram.entries()) {
    view.setBigUint64(index * 20, BigInt(start), true);
    view.setBigUint64(index * 20 + 8, BigInt(size), true);
    view.setUint32(index * 20 + 16, E820_RAM, true);
  }
  return bytes;
};

const directory = (files: readonly FwCfgFile[]): Uint8Array => {
  const entryBytes = 8 + FW_CFG_NAME_BYTES;
  const bytes = new Uint8Array(4 + files.length * entryBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, files.length);
  for (const [index, { name, bytes: contents }] of files.entries()) {
    const at = 4 + index * entryBytes;
    view.setUint32(at, contents.length);
    view.setUint16(at + 4, KEY.firstFile + index);
    bytes.set(new TextEncoder().encode(name).subarray(0, FW_CFG_NAME_BYTES - 1), at + 8);
  }
  return bytes;
};

/** All items of a machine by key: what it tells of itself, and files in the order of their names. */
export function fwCfgItems(machine: {
  readonly ramBytes: number;
  readonly vcpus: number;
  readonly ram: readonly { readonly start: number; readonly size: number }[];
  readonly files: readonly FwCfgFile[];
}): Map<number, Uint8Array> {
  const { ramBytes, vcpus } = machine;
  const files = [...machine.files, { name: "etc/e820", bytes: e820(machine.ram) }].sort((a, b) =>
    a.name < b.name ? -1 : 1,
  );
  const items = new Map<number, Uint8Array>([
    [KEY.signature, new TextEncoder().encode("QEMU")],
    [KEY.id, littleEndian(FEATURES, 4)],
    [KEY.ramBytes, littleEndian(ramBytes, 8)],
    [KEY.cpus, littleEndian(vcpus, 2)],
    [KEY.maxCpus, littleEndian(vcpus, 2)],
    [KEY.directory, directory(files)],
  ]);
  for (const [index, { bytes }] of files.entries()) items.set(KEY.firstFile + index, bytes);
  return items;
}

const STATE = {
  selector: u16,
  /** Bytes of the item read so far. */
  offset: u32,
  /** Bits 63:32 of the address of the DMA descriptor, until the low half starts the transfer. */
  dmaHigh: u32,
};
type FwCfgContext = DeviceContext<typeof STATE, FwCfgPort>;

export const fwCfg = defineDevice<FwCfgPort>()({
  name: "fw-cfg",
  version: 1,
  ranges: [pio(FW_CFG_PORT, FW_CFG_PORTS)],
  widths: { min: 1, max: 4 },
  state: STATE,
  read(context, offset, size) {
    if (offset >= DMA_HIGH) {
      let value = 0;
      for (let i = 0; i < size; i++) value |= (DMA_SIGNATURE[offset - DMA_HIGH + i] ?? 0) << (8 * i);
      return value;
    }
    return offset < 2 && size === 1 ? nextByte(context) : 0;
  },
  write(context, offset, size, value) {
    if (offset === 0 && size === 2) select(context, value);
    // DMA's registers are big-endian, whatever the processor is.
    if (size !== 4) return;
    if (offset === DMA_HIGH) context.state.dmaHigh = swapped(value);
    else if (offset === DMA_LOW) transfer(context, swapped(value));
  },
});

const swapped = (value: number): number =>
  ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;

const select = ({ state }: FwCfgContext, key: number): void => {
  state.selector = key;
  state.offset = 0;
};

const selected = ({ state, port }: FwCfgContext): Uint8Array =>
  port.items.get(state.selector & ~WRITE_CHANNEL) ?? new Uint8Array(0);

/** Beyond its end, and without an item, everything reads as zeros. */
const nextByte = (context: FwCfgContext): number => {
  const { state } = context;
  const item = selected(context);
  if (state.offset >= item.length) return 0;
  const byte = item[state.offset] ?? 0;
  state.offset++;
  return byte;
};

/** Does what the descriptor at the address asks, and writes its control word: zero, or the error bit. */
const transfer = (context: FwCfgContext, low: number): void => {
  const { state, port } = context;
  const address = state.dmaHigh * 2 ** 32 + low;
  state.dmaHigh = 0;
  const bytes = port.ram(address, DMA_DESCRIPTOR_BYTES);
  // Nowhere to report it: as on QEMU the guest waits in vain for the control word.
  if (bytes === undefined) return;
  const descriptor = new DataView(bytes.buffer, bytes.byteOffset, DMA_DESCRIPTOR_BYTES);
  const control = descriptor.getUint32(0);
  const length = descriptor.getUint32(4);
  const target = Number(descriptor.getBigUint64(8));
  if ((control & CONTROL.select) !== 0) select(context, control >>> 16);
  const done = move(context, control, length, target);
  descriptor.setUint32(0, done ? 0 : CONTROL.error);
};

const move = (context: FwCfgContext, control: number, length: number, target: number): boolean => {
  const { state, port } = context;
  if ((control & (CONTROL.read | CONTROL.write | CONTROL.skip)) === 0) return true;
  const item = selected(context);
  const from = Math.min(state.offset, item.length);
  const there = Math.min(length, item.length - from);
  if ((control & CONTROL.read) !== 0) {
    const into = port.ram(target, length);
    if (into === undefined) return false;
    into.set(item.subarray(from, from + there));
    into.fill(0, there);
  } else if ((control & CONTROL.write) !== 0 && length > 0) {
    return false;
  }
  state.offset = from + there;
  return true;
};
