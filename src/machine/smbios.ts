/**
 * The tables by which a guest's programs know the machine: maker, model, serial number, UUID, processors and memory.
 * [DMTF DSP0134 3.4: SMBIOS]
 */

import type { PlacedBytes } from "./acpi.ts";

/** What a person may say about the machine; what is left out has isola's own words, or is not there. */
export interface SmbiosIdentity {
  readonly manufacturer?: string;
  readonly product?: string;
  readonly version?: string;
  readonly serial?: string;
  /** As RFC 9562 writes it. */
  readonly uuid?: string;
  readonly sku?: string;
  readonly family?: string;
}

/** The fields of `SmbiosIdentity` that are free text. */
export const SMBIOS_TEXTS = ["manufacturer", "product", "version", "serial", "sku", "family"] as const;
/** Printable ASCII, so much of it that the tables of any machine fit their place. [§6.1.3] */
export const SMBIOS_TEXT = /^[\x20-\x7e]{1,255}$/;
export const SMBIOS_UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** In the area that systems search for the entry points, behind the MP tables. [§5.2] */
export const SMBIOS_ADDRESS = 0xf4000;
const ENTRY_32_ADDRESS = SMBIOS_ADDRESS + 0x20;
const TABLE_ADDRESS = SMBIOS_ADDRESS + 0x40;
/** Version 3.0, and the same as the 32-bit entry point's revision. */
const MAJOR = 3;
const MINOR = 0;
const BCD_REVISION = 0x30;

const KIB = 2 ** 10;
const MIB = 2 ** 20;
/** A memory device's size from here on is told in MiB, below in KiB; and where its 15 bits end. [§7.18.4] */
const LEAST_IN_MIB = 0x7fff * KIB;
const MOST_IN_MIB = 0x7fff;
const BOARD_OF_MEMORY = 0x1000;

const octets = (...values: readonly number[]): readonly number[] => values;
const word = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff];
const dword = (value: number): number[] => [...word(value), ...word(value >>> 16)];
const qword = (value: number): number[] => [...dword(value), ...dword(Math.floor(value / 2 ** 32))];
const ascii = (text: string): number[] => Array.from(text, (character) => character.charCodeAt(0));

/** A structure's strings: fields hold their numbers, from 1 on; 0 stands for none. [§6.1.3] */
class Strings {
  readonly #bytes: number[] = [];
  #count = 0;

  of(text: string | undefined): number {
    if (text === undefined) return 0;
    this.#bytes.push(...ascii(text), 0);
    return ++this.#count;
  }

  /** Two zeros end a structure, one of them its last string's. */
  finish(): number[] {
    return this.#count === 0 ? [0, 0] : [...this.#bytes, 0];
  }
}

/** A structure: its formatted part, and behind it the strings that this names. [§6.1.2] */
function structure(type: number, handle: number, fields: (strings: Strings) => number[]): number[] {
  const strings = new Strings();
  const formatted = fields(strings);
  return [type, 4 + formatted.length, ...word(handle), ...formatted, ...strings.finish()];
}

/** A UUID's bytes; its first three fields are little-endian. All zero: there is none. [§7.2.1] */
function uuidBytes(uuid: string | undefined): number[] {
  const bytes = (uuid ?? "")
    .replaceAll("-", "")
    .match(/../g)
    ?.map((pair) => Number.parseInt(pair, 16));
  if (bytes === undefined) return Array.from({ length: 16 }, () => 0);
  const swapped = [3, 2, 1, 0, 5, 4, 7, 6];
  return bytes.map((_, i) => bytes[swapped[i] ?? i] ?? 0);
}

const firmware = (): number[] =>
  structure(0, 0, (strings) => [
    strings.of("isola"),
    strings.of("isola"),
    ...word(0xe000),
    strings.of("01/01/2026"),
    0,
    // Of the characteristics none is told but ACPI, and that this is a virtual machine. [§7.1.2]
    ...qword(0x08),
    0x01,
    0x10,
    // Releases of firmware and embedded controller: none.
    ...octets(0xff, 0xff, 0xff, 0xff),
  ]);

const system = ({ manufacturer, product, version, serial, uuid, sku, family }: SmbiosIdentity): number[] =>
  structure(1, 0x100, (strings) => [
    strings.of(manufacturer ?? "isola"),
    strings.of(product ?? "PC"),
    strings.of(version),
    strings.of(serial),
    ...uuidBytes(uuid),
    // Woken by its power switch.
    6,
    strings.of(sku),
    strings.of(family ?? "Virtual Machine"),
  ]);

const enclosure = ({ manufacturer, version, serial, sku }: SmbiosIdentity): number[] =>
  structure(3, 0x300, (strings) => [
    strings.of(manufacturer ?? "isola"),
    // Its kind: another one.
    1,
    strings.of(version),
    strings.of(serial),
    0,
    // Its state, power supply and cooling are well, its lock is unknown.
    ...octets(3, 3, 3, 2),
    ...dword(0),
    ...octets(0, 0, 0, 0),
    strings.of(sku),
  ]);

const processor = (index: number): number[] =>
  structure(4, 0x400 + index, (strings) => [
    strings.of(`CPU ${index}`),
    // A central processor of another family.
    ...octets(3, 1),
    strings.of("isola"),
    ...qword(0),
    strings.of("virtual processor"),
    0,
    // Clock and speeds: unknown.
    ...word(0),
    ...word(0),
    ...word(0),
    // Populated and enabled, in no socket that has a name; no caches are told of.
    ...octets(0x41, 1),
    ...[0xffff, 0xffff, 0xffff].flatMap(word),
    ...octets(0, 0, 0),
    // One core of one thread, which runs 64-bit code.
    ...octets(1, 1, 1),
    ...word(0x0004),
    ...word(1),
    ...[1, 1, 1].flatMap(word),
  ]);

function memory(ramBytes: number): number[] {
  const [array, device] = [BOARD_OF_MEMORY, BOARD_OF_MEMORY + 0x100];
  const inKib = ramBytes < LEAST_IN_MIB;
  const size = inKib ? 0x8000 | (ramBytes / KIB) : Math.min(Math.floor(ramBytes / MIB), MOST_IN_MIB);
  return [
    // On the board, for the system, without error correction; one device.
    ...structure(16, array, () => [3, 3, 3, ...dword(ramBytes / KIB), ...word(0xfffe), ...word(1), ...qword(0)]),
    ...structure(17, device, (strings) => [
      ...word(array),
      ...word(0xfffe),
      // Widths: unknown.
      ...word(0xffff),
      ...word(0xffff),
      ...word(size),
      // A DIMM of no set, of RAM of another kind.
      ...octets(9, 0),
      strings.of("DIMM 0"),
      0,
      7,
      ...word(0x0002),
      ...word(0),
      strings.of("isola"),
      ...octets(0, 0, 0, 0),
      ...dword(0),
      ...[0, 0, 0, 0].flatMap(word),
    ]),
    ...structure(19, BOARD_OF_MEMORY + 0x200, () => [
      ...dword(0),
      ...dword(ramBytes / KIB - 1),
      ...word(array),
      1,
      ...qword(0),
      ...qword(0),
    ]),
  ];
}

/** `bytes` with a byte at `at` by which the part from `from` on sums up to zero. */
function sealed(bytes: number[], at: number, from = 0): number[] {
  const sum = bytes.slice(from).reduce((total, byte) => total + byte, 0);
  return bytes.with(at, -sum & 0xff);
}

export interface SmbiosMachine {
  readonly vcpus: number;
  readonly ramBytes: number;
  readonly identity: SmbiosIdentity;
}

/** Both entry points, for systems of any age, and the structures. */
export function smbiosTables({ vcpus, ramBytes, identity }: SmbiosMachine): PlacedBytes[] {
  const structures = [
    firmware(),
    system(identity),
    enclosure(identity),
    ...Array.from({ length: vcpus }, (_, index) => processor(index)),
    memory(ramBytes),
    // How the system started: without an error. Then the end.
    structure(32, 0x2000, () => [0, 0, 0, 0, 0, 0, 0]),
    structure(127, 0x7f00, () => []),
  ];
  const table = structures.flat();
  const count = structures.length + 2;
  const longest = Math.max(...structures.map(({ length }) => length));
  const entry64 = [...ascii("_SM3_"), 0, 24, MAJOR, MINOR, 0, 1, 0, ...dword(table.length), ...qword(TABLE_ADDRESS)];
  const head = [...ascii("_SM_"), 0, 31, MAJOR, MINOR, ...word(longest), 0, ...octets(0, 0, 0, 0, 0)];
  const tail = [...ascii("_DMI_"), 0, ...word(table.length), ...dword(TABLE_ADDRESS), ...word(count), BCD_REVISION];
  const entry32 = sealed([...head, ...sealed(tail, 5)], 4);
  return [
    { address: SMBIOS_ADDRESS, bytes: Uint8Array.from(sealed(entry64, 5)) },
    { address: ENTRY_32_ADDRESS, bytes: Uint8Array.from(entry32) },
    { address: TABLE_ADDRESS, bytes: Uint8Array.from(table) },
  ];
}
