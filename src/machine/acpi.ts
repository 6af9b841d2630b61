/**
 * The ACPI tables of the board, as bytes to be placed in guest memory. [ACPI 6.3 §5.2; HPET: IA-PC HPET 1.0a §3.2.4;
 * MCFG: PCI Firmware 3.2 §4.1.2]
 *
 * The machine is no hardware-reduced one: it has PM1 blocks, a PM timer, a reset register and an SCI.
 */

import { IOAPIC_ADDRESS } from "../devices/interrupts/ioapic.ts";
import { LAPIC_ADDRESS } from "../devices/interrupts/lapic.ts";
import {
  GPE0_PORT,
  PM1_CONTROL_PORT,
  PM1_EVENT_PORT,
  PM_BASE,
  PM_TIMER_PORT,
  SCI_IRQ,
  SLEEP_TYPE_S5,
} from "../devices/pc/acpi-pm.ts";
import { HPET_ADDRESS, HPET_BYTES, HPET_CAPABILITIES } from "../devices/pc/hpet.ts";
import { FW_CFG_PORT, FW_CFG_PORTS } from "../devices/pc/fw-cfg.ts";
import { RTC_CENTURY } from "../devices/pc/rtc.ts";
import { COM1_IRQ, COM1_PORT } from "../devices/pc/uart.ts";
import { ECAM_ADDRESS, ECAM_BYTES, gsiOfPin, PCI_WINDOWS, RESET_PORT, RESET_VALUE } from "../devices/pci/pci-host.ts";
import { VGA_WINDOW } from "../memory/guest-memory.ts";
import {
  type Aml,
  busNumbers,
  device,
  eisaId,
  fixedMemory,
  integer,
  ioPorts,
  ioWindow,
  isaInterrupt,
  memoryWindow,
  name,
  pack,
  resources,
  scope,
  text,
} from "./aml.ts";

/** Bytes to be copied to a guest-physical address. */
export interface PlacedBytes {
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** Where the tables lie: in the firmware's area, which the memory map gives as reserved. The RSDP comes first. */
export const ACPI_ADDRESS = 0xe0000;
const ACPI_END = 0xf0000;

/** Ranges, `end` excluded, that the memory map given to the guest must show as reserved. */
export const RESERVED_RANGES = [
  { start: ACPI_ADDRESS, end: 0x100000 },
  { start: ECAM_ADDRESS, end: ECAM_ADDRESS + ECAM_BYTES },
] as const;

const HEADER_BYTES = 36;

/** A table under construction: little-endian fields at their offsets. */
class TableWriter {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
    this.#view = new DataView(this.bytes.buffer);
  }

  u8(offset: number, value: number): void {
    this.#view.setUint8(offset, value);
  }
  u16(offset: number, value: number): void {
    this.#view.setUint16(offset, value, true);
  }
  u32(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }
  u64(offset: number, value: number): void {
    this.#view.setBigUint64(offset, BigInt(value), true);
  }
  text(offset: number, value: string): void {
    for (let i = 0; i < value.length; i++) this.u8(offset + i, value.charCodeAt(i));
  }
  /** A generic address: I/O ports of `bits` width, accessed `access` bytes at a time. [§5.2.3.2] */
  ioAddress(offset: number, port: number, bits: number, access: number): void {
    this.u8(offset, 1);
    this.u8(offset + 1, bits);
    this.u8(offset + 3, access === 4 ? 3 : access);
    this.u64(offset + 4, port);
  }
}

/** Makes the first `length` bytes sum to zero by the one at `at`. */
const checksum = (bytes: Uint8Array, at: number, length = bytes.length): void => {
  bytes[at] = 0;
  let sum = 0;
  for (let i = 0; i < length; i++) sum += bytes[i] ?? 0;
  bytes[at] = -sum & 0xff;
};

/** A system description table with its header; `fill` writes what follows. [§5.2.6] */
const table = (
  signature: string,
  revision: number,
  length: number,
  fill: (writer: TableWriter) => void,
): Uint8Array => {
  const writer = new TableWriter(length);
  writer.text(0, signature);
  writer.u32(4, length);
  writer.u8(8, revision);
  writer.text(10, "ISOLA ");
  writer.text(16, "ISOLAPC ");
  writer.u32(24, 1);
  writer.text(28, "ISOL");
  writer.u32(32, 1);
  fill(writer);
  checksum(writer.bytes, 9);
  return writer.bytes;
};

/** [§5.2.9]; IAPC_BOOT_ARCH: legacy devices, an 8042. */
const BOOT_ARCH = 0x0003;
/** WBINVD, C1 everywhere, no sleep button, no RTC wake in PM1, 32-bit PM timer, reset register. */
const FADT_FLAGS = 0x001 | 0x004 | 0x020 | 0x040 | 0x100 | 0x400;

const fadt = (facs: number, dsdt: number): Uint8Array =>
  table("FACP", 6, 276, (t) => {
    t.u32(36, facs);
    t.u32(40, dsdt);
    t.u16(46, SCI_IRQ);
    t.u32(56, PM1_EVENT_PORT);
    t.u32(64, PM1_CONTROL_PORT);
    t.u32(76, PM_TIMER_PORT);
    t.u32(80, GPE0_PORT);
    t.u8(88, 4);
    t.u8(89, 2);
    t.u8(91, 4);
    t.u8(92, 4);
    // Latencies above these limits say that C2 and C3 do not exist.
    t.u16(96, 0x0fff);
    t.u16(98, 0x0fff);
    t.u8(108, RTC_CENTURY);
    t.u16(109, BOOT_ARCH);
    t.u32(112, FADT_FLAGS);
    t.ioAddress(116, RESET_PORT, 8, 1);
    t.u8(128, RESET_VALUE);
    t.u8(131, 3);
    t.u64(140, dsdt);
    t.ioAddress(148, PM1_EVENT_PORT, 32, 2);
    t.ioAddress(172, PM1_CONTROL_PORT, 16, 2);
    t.ioAddress(208, PM_TIMER_PORT, 32, 4);
    t.ioAddress(220, GPE0_PORT, 32, 1);
  });

/** [§5.2.10] */
const facs = (): Uint8Array => {
  const writer = new TableWriter(64);
  writer.text(0, "FACS");
  writer.u32(4, 64);
  writer.u8(32, 2);
  return writer.bytes;
};

/** [§5.2.12]; the ids are those of the board's controllers. */
const madt = (vcpus: number): Uint8Array => {
  const processors = Array.from({ length: vcpus }, (_, id) => [0, 8, id, id, 1, 0, 0, 0]);
  const dword = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
  const entries = [
    ...processors,
    [1, 12, vcpus, 0, ...dword(IOAPIC_ADDRESS), ...dword(0)],
    // ISA interrupt 0 is input 2; the SCI is active high and level-triggered.
    [2, 10, 0, 0, ...dword(2), 0, 0],
    [2, 10, 0, SCI_IRQ, ...dword(SCI_IRQ), 0x0d, 0],
    // Every processor's LINT1 is NMI.
    [4, 6, 0xff, 0, 0, 1],
  ].flat();
  return table("APIC", 5, HEADER_BYTES + 8 + entries.length, (t) => {
    t.u32(36, LAPIC_ADDRESS);
    t.u32(40, 1);
    t.bytes.set(entries, 44);
  });
};

const hpetTable = (): Uint8Array =>
  table("HPET", 1, 56, (t) => {
    t.u32(36, HPET_CAPABILITIES);
    t.u8(41, 64);
    t.u64(44, HPET_ADDRESS);
    t.u16(53, 100);
  });

const mcfg = (): Uint8Array =>
  table("MCFG", 1, 60, (t) => {
    t.u64(44, ECAM_ADDRESS);
    t.u8(55, (ECAM_BYTES >> 20) - 1);
  });

const rootTable = (signature: string, entryBytes: 4 | 8, tables: readonly number[]): Uint8Array =>
  table(signature, 1, HEADER_BYTES + entryBytes * tables.length, (t) => {
    for (const [index, address] of tables.entries()) {
      if (entryBytes === 4) t.u32(HEADER_BYTES + 4 * index, address);
      else t.u64(HEADER_BYTES + 8 * index, address);
    }
  });

/** [§5.2.5.3] */
const rsdp = (rsdt: number, xsdt: number): Uint8Array => {
  const writer = new TableWriter(36);
  writer.text(0, "RSD PTR ");
  writer.text(9, "ISOLA ");
  writer.u8(15, 2);
  writer.u32(16, rsdt);
  writer.u32(20, 36);
  writer.u64(24, xsdt);
  checksum(writer.bytes, 8, 20);
  checksum(writer.bytes, 32);
  return writer.bytes;
};

/** Interrupts of the slots' pins: fixed I/O APIC inputs, no link devices. [§6.2.13] */
const routing = (): Aml => {
  const entries: Aml[] = [];
  for (let slot = 1; slot < 32; slot++) {
    for (let pin = 0; pin < 4; pin++) {
      entries.push(pack([integer(slot * 0x10000 + 0xffff), integer(pin), integer(0), integer(gsiOfPin(slot, pin))]));
    }
  }
  return pack(entries);
};

const isaDevice = (path: string, id: string, ...descriptors: readonly Aml[]): Aml =>
  device(path, name("_HID", eisaId(id)), name("_CRS", resources(...descriptors)));

const dsdt = (): Uint8Array => {
  const body = [
    // Sleep types of PM1a and PM1b.
    ...name("\\_S5", pack([integer(SLEEP_TYPE_S5), integer(SLEEP_TYPE_S5), integer(0), integer(0)])),
    ...scope(
      "\\_SB",
      device(
        "PCI0",
        name("_HID", eisaId("PNP0A03")),
        name("_UID", integer(0)),
        name("_BBN", integer(0)),
        name("_SEG", integer(0)),
        name(
          "_CRS",
          resources(
            busNumbers(0, 0xff),
            ioPorts(0xcf8, 8),
            ioWindow(0, 0xcf7),
            ioWindow(0xd00, 0xffff),
            memoryWindow(VGA_WINDOW.start, VGA_WINDOW.end),
            ...PCI_WINDOWS.map(({ start, end }) => memoryWindow(start, end)),
          ),
        ),
        name("_PRT", routing()),
      ),
      // What belongs to the board itself: the PM blocks, and the configuration space that MCFG names.
      isaDevice("MBRD", "PNP0C02", ioPorts(PM_BASE, 0x40), fixedMemory(ECAM_ADDRESS, ECAM_BYTES)),
      isaDevice("HPET", "PNP0103", fixedMemory(HPET_ADDRESS, HPET_BYTES)),
      isaDevice("RTC", "PNP0B00", ioPorts(0x70, 2), isaInterrupt(8)),
      device(
        "FWCF",
        name("_HID", text("QEMU0002")),
        // Present, decoding and working, but not to be shown to a person. [§6.3.7]
        name("_STA", integer(0x0b)),
        name("_CRS", resources(ioPorts(FW_CFG_PORT, FW_CFG_PORTS))),
      ),
      isaDevice("PS2K", "PNP0303", ioPorts(0x60, 1), ioPorts(0x64, 1), isaInterrupt(1)),
      device(
        "COM1",
        name("_HID", eisaId("PNP0501")),
        name("_UID", integer(1)),
        name("_CRS", resources(ioPorts(COM1_PORT, 8), isaInterrupt(COM1_IRQ))),
      ),
    ),
  ];
  return table("DSDT", 2, HEADER_BYTES + body.length, (t) => t.bytes.set(body, HEADER_BYTES));
};

/** All tables, each at its place; the first is the RSDP, at ACPI_ADDRESS. */
export const acpiTables = ({ vcpus }: { readonly vcpus: number }): PlacedBytes[] => {
  const placed: PlacedBytes[] = [];
  let next = ACPI_ADDRESS + 64;
  // FACS asks for an alignment of 64; all get it.
  const place = (bytes: Uint8Array): number => {
    const address = next;
    placed.push({ address, bytes });
    next = Math.ceil((address + bytes.length) / 64) * 64;
    if (next > ACPI_END) throw new RangeError(`ACPI tables end at 0x${next.toString(16)}`);
    return address;
  };
  const facsAddress = place(facs());
  const dsdtAddress = place(dsdt());
  const tables = [fadt(facsAddress, dsdtAddress), madt(vcpus), hpetTable(), mcfg()].map(place);
  const rsdt = place(rootTable("RSDT", 4, tables));
  const xsdt = place(rootTable("XSDT", 8, tables));
  return [{ address: ACPI_ADDRESS, bytes: rsdp(rsdt, xsdt) }, ...placed];
};
