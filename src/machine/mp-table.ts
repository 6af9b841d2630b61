/** The multiprocessor tables, for systems without ACPI. [Intel MultiProcessor Specification 1.4 §4] */

import { IOAPIC_ADDRESS } from "../devices/interrupts/ioapic.ts";
import { LAPIC_ADDRESS } from "../devices/interrupts/lapic.ts";
import { SCI_IRQ } from "../devices/pc/acpi-pm.ts";
import type { PlacedBytes } from "./acpi.ts";

/** The floating pointer, in the area that systems search for it; the configuration table follows. */
export const MP_ADDRESS = 0xf0000;
const TABLE_ADDRESS = MP_ADDRESS + 16;

const ISA_BUS = 0;
/** Interrupt types. */
const INT = 0;
const NMI = 1;
const EXTINT = 3;
/** Flags: active high, level-triggered; zero conforms to the bus. */
const HIGH_LEVEL = 0x0d;
const FPU_AND_APIC = 0x201;

const word = (value: number): number[] => [value & 0xff, (value >> 8) & 0xff];
const dword = (value: number): number[] => [...word(value), ...word(value >>> 16)];
const text = (value: string, length: number): number[] =>
  Array.from(value.padEnd(length), (character) => character.charCodeAt(0));

const sealed = (bytes: number[], at: number): Uint8Array => {
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes[at] = -sum & 0xff;
  return Uint8Array.from(bytes);
};

export const mpTables = ({ vcpus }: { readonly vcpus: number }): PlacedBytes[] => {
  const ioapicId = vcpus & 0x0f;
  const isaInterrupt = (irq: number): number[] => {
    const flags = irq === SCI_IRQ ? HIGH_LEVEL : 0;
    return [3, INT, ...word(flags), ISA_BUS, irq, ioapicId, irq === 0 ? 2 : irq];
  };
  const entries = [
    ...Array.from({ length: vcpus }, (_, id) => [
      // Enabled; the first is the bootstrap processor.
      0,
      id,
      0x14,
      id === 0 ? 3 : 1,
      ...dword(0),
      ...dword(FPU_AND_APIC),
      ...dword(0),
      ...dword(0),
    ]),
    [1, ISA_BUS, ...text("ISA", 6)],
    [2, ioapicId, 0x20, 1, ...dword(IOAPIC_ADDRESS)],
    // Input 2 is the timer's, and ISA interrupt 2 the cascade between the 8259s.
    ...[0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].map(isaInterrupt),
    [4, EXTINT, ...word(0), ISA_BUS, 0, 0xff, 0],
    [4, NMI, ...word(0), ISA_BUS, 0, 0xff, 1],
  ];
  const body = entries.flat();
  const header = [
    ...text("PCMP", 4),
    ...word(44 + body.length),
    4,
    0,
    ...text("ISOLA", 8),
    ...text("ISOLAPC", 12),
    ...dword(0),
    ...word(0),
    ...word(entries.length),
    ...dword(LAPIC_ADDRESS),
    ...word(0),
    0,
    0,
  ];
  const table = sealed([...header, ...body], 7);
  const pointer = sealed([...text("_MP_", 4), ...dword(TABLE_ADDRESS), 1, 4, 0, 0, 0, 0, 0, 0], 10);
  return [
    { address: MP_ADDRESS, bytes: pointer },
    { address: TABLE_ADDRESS, bytes: table },
  ];
};
