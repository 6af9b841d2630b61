/**
 * An encoder for the part of ACPI machine language that a static board needs: names, packages, devices, resources.
 * [ACPI 6.3 §20; resource descriptors §6.4]
 */

export type Aml = readonly number[];

const word = (value: number): Aml => [value & 0xff, (value >>> 8) & 0xff];
const dword = (value: number): Aml => [...word(value), ...word(value >>> 16)];

/** PkgLength counts itself. [§20.2.4] */
const withLength = (body: Aml): Aml => {
  const length = body.length;
  if (length + 1 < 0x40) return [length + 1, ...body];
  if (length + 2 < 0x1000) {
    const total = length + 2;
    return [0x40 | (total & 0xf), total >> 4, ...body];
  }
  const total = length + 3;
  return [0x80 | (total & 0xf), (total >> 4) & 0xff, total >> 12, ...body];
};

/** One name segment of up to four characters, or a path such as `\_SB`. */
const nameString = (name: string): Aml => {
  const root = name.startsWith("\\");
  const segment = (root ? name.slice(1) : name).padEnd(4, "_");
  const bytes = Array.from(segment, (character) => character.charCodeAt(0));
  return root ? [0x5c, ...bytes] : bytes;
};

export const integer = (value: number): Aml => {
  if (value === 0 || value === 1) return [value];
  if (value <= 0xff) return [0x0a, value];
  return value <= 0xffff ? [0x0b, ...word(value)] : [0x0c, ...dword(value)];
};

export const name = (path: string, value: Aml): Aml => [0x08, ...nameString(path), ...value];

export const pack = (elements: readonly Aml[]): Aml => [0x12, ...withLength([elements.length, ...elements.flat()])];

export const scope = (path: string, ...body: readonly Aml[]): Aml => [
  0x10,
  ...withLength([...nameString(path), ...body.flat()]),
];

export const device = (path: string, ...body: readonly Aml[]): Aml => [
  0x5b,
  0x82,
  ...withLength([...nameString(path), ...body.flat()]),
];

/** A string, such as a hardware id that does not fit an EISA one. [§20.2.3] */
export const text = (value: string): Aml => [0x0d, ...Array.from(value, (character) => character.charCodeAt(0)), 0];

/** A compressed EISA id, such as PNP0A03, as an integer. [§19.3.4] */
export const eisaId = (id: string): Aml => {
  const letter = (index: number): number => (id.charCodeAt(index) - 0x40) & 0x1f;
  const product = Number.parseInt(id.slice(3), 16);
  const vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2);
  return [0x0c, vendor >> 8, vendor & 0xff, product >> 8, product & 0xff];
};

/** A buffer of resource descriptors with its end tag. */
export const resources = (...descriptors: readonly Aml[]): Aml => {
  const bytes = [...descriptors.flat(), 0x79, 0x00];
  return [0x11, ...withLength([...integer(bytes.length), ...bytes])];
};

/** Fixed I/O ports, decoded by 16 bits. [§6.4.2.5] */
export const ioPorts = (port: number, count: number): Aml => [0x47, 0x01, ...word(port), ...word(port), 0x01, count];

/** An edge-triggered, active-high ISA interrupt. [§6.4.2.1] */
export const isaInterrupt = (irq: number): Aml => [0x22, ...word(1 << irq)];

/** A fixed range of memory. [§6.4.3.4] */
export const fixedMemory = (address: number, sizeBytes: number): Aml => [
  0x86,
  ...word(9),
  0x01,
  ...dword(address),
  ...dword(sizeBytes),
];

/** Minimum and maximum are fixed, the producer decodes positively. */
const FIXED = 0x0c;

/** The bus numbers behind a host bridge. [§6.4.3.5.3] */
export const busNumbers = (first: number, last: number): Aml => [
  0x88,
  ...word(13),
  0x02,
  FIXED,
  0x00,
  ...word(0),
  ...word(first),
  ...word(last),
  ...word(0),
  ...word(last - first + 1),
];

/** Ports that a host bridge passes on, `last` included. */
export const ioWindow = (first: number, last: number): Aml => [
  0x88,
  ...word(13),
  0x01,
  FIXED,
  0x03,
  ...word(0),
  ...word(first),
  ...word(last),
  ...word(0),
  ...word(last - first + 1),
];

/** Memory that a host bridge passes on, uncached, `end` excluded. [§6.4.3.5.2] */
export const memoryWindow = (start: number, end: number): Aml => [
  0x87,
  ...word(23),
  0x00,
  FIXED,
  0x01,
  ...dword(0),
  ...dword(start),
  ...dword(end - 1),
  ...dword(0),
  ...dword(end - start),
];
