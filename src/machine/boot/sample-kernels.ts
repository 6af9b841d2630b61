/** Small kernels for tests, written field by field: ELF files and bzImages that load but do nothing. */

export interface SampleSegment {
  readonly physical: number;
  readonly contents: Uint8Array;
  /** Memory beyond the contents, in bytes. */
  readonly zeroBytes?: number;
}

export interface SampleElf {
  readonly bits?: 32 | 64;
  readonly machine?: number;
  readonly type?: number;
  readonly entry?: number;
  readonly segments?: readonly SampleSegment[];
  readonly notes?: readonly { readonly owner: string; readonly type: number; readonly contents: Uint8Array }[];
}

const align4 = (value: number) => Math.ceil(value / 4) * 4;
const encoder = new TextEncoder();

function noteBytes({ owner, type, contents }: NonNullable<SampleElf["notes"]>[number]): Uint8Array {
  const name = encoder.encode(`${owner}\0`);
  const bytes = new Uint8Array(12 + align4(name.length) + align4(contents.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, name.length, true);
  view.setUint32(4, contents.length, true);
  view.setUint32(8, type, true);
  bytes.set(name, 12);
  bytes.set(contents, 12 + align4(name.length));
  return bytes;
}

/** An executable; by default for x86-64, with 16 bytes of 0x90 at 16 MiB, where it is entered. */
export function elfOf(options: SampleElf = {}): Uint8Array {
  const { bits = 64, machine = bits === 64 ? 62 : 3, type = 2, entry = 0x1000000, notes = [] } = options;
  const segments = options.segments ?? [{ physical: 0x1000000, contents: new Uint8Array(16).fill(0x90) }];
  const note = new Uint8Array(notes.flatMap((one) => [...noteBytes(one)]));
  const parts = [
    ...(notes.length === 0 ? [] : [{ type: 4, physical: 0, contents: note, zeroBytes: 0 }]),
    ...segments.map((segment) => ({ type: 1, zeroBytes: 0, ...segment })),
  ];
  const wide = bits === 64;
  const headerBytes = wide ? 64 : 52;
  const entryBytes = wide ? 56 : 32;
  let at = headerBytes + entryBytes * parts.length;
  const bytes = new Uint8Array(at + parts.reduce((sum, { contents }) => sum + contents.length, 0));
  const view = new DataView(bytes.buffer);
  const word = (offset: number, value: number) =>
    wide ? view.setBigUint64(offset, BigInt(value), true) : view.setUint32(offset, value, true);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  view.setUint16(16, type, true);
  view.setUint16(18, machine, true);
  word(24, entry);
  word(wide ? 32 : 28, headerBytes);
  view.setUint16(wide ? 54 : 42, entryBytes, true);
  view.setUint16(wide ? 56 : 44, parts.length, true);
  parts.forEach(({ type: kind, physical, contents, zeroBytes }, index) => {
    const header = headerBytes + entryBytes * index;
    const fields = [at, physical, physical, contents.length, contents.length + zeroBytes];
    view.setUint32(header, kind, true);
    fields.forEach((value, field) => word(header + (wide ? 8 + field * 8 : 4 + field * 4), value));
    bytes.set(contents, at);
    at += contents.length;
  });
  return bytes;
}

export interface SampleBzImage {
  readonly version?: number;
  readonly commandLineLimit?: number;
  readonly initrdAddressMax?: number;
  /** What the payload says of its size; by default the truth. */
  readonly claimedBytes?: number;
  /** Whether it has a 64-bit entry point; by default it has. */
  readonly has64?: boolean;
  /** Without: the header names no payload, and the file is to be entered as it is. */
  readonly hasPayload?: boolean;
}

/** A bzImage of protocol 2.15 around `elf`, whose payload is stored as it is. */
export function bzImageOf(elf: Uint8Array, options: SampleBzImage = {}): Uint8Array {
  const setupSectors = 2;
  const setupBytes = (setupSectors + 1) * 512;
  const bytes = new Uint8Array(setupBytes + elf.length + 4);
  const view = new DataView(bytes.buffer);
  bytes[0x1f1] = setupSectors;
  view.setUint16(0x1fe, 0xaa55, true);
  bytes.set([0xeb, 0x6a], 0x200);
  view.setUint32(0x202, 0x53726448, true);
  view.setUint16(0x206, options.version ?? 0x020f, true);
  bytes[0x211] = 1;
  view.setUint32(0x22c, options.initrdAddressMax ?? 0x7fffffff, true);
  view.setUint16(0x236, options.has64 === false ? 0 : 1, true);
  view.setUint32(0x238, options.commandLineLimit ?? 2047, true);
  view.setUint32(0x24c, options.hasPayload === false ? 0 : elf.length + 4, true);
  view.setBigUint64(0x258, 0x1000000n, true);
  view.setUint32(0x260, 0x100000, true);
  bytes.set(elf, setupBytes);
  view.setUint32(setupBytes + elf.length, options.claimedBytes ?? elf.length, true);
  return bytes;
}

/** A Multiboot header: magic, flags, checksum, then the words of the address and video fields. */
export function multibootHeaderOf(flags: number, fields: readonly number[] = []): Uint8Array {
  const magic = 0x1badb002;
  return new Uint8Array(Uint32Array.from([magic, flags, -(magic + flags), ...fields]).buffer);
}

export interface SampleSection {
  /** sh_type: 1 is data of the program, 2 symbols, 8 memory without data. */
  readonly type: number;
  readonly address: number;
  readonly contents: Uint8Array;
  /** Where it is not that of the contents. */
  readonly size?: number;
}

/** The ELF with a section header table at its end: the empty section, then those given. */
export function withSections(elf: Uint8Array, sections: readonly SampleSection[]): Uint8Array {
  const wide = elf[4] === 2;
  const entryBytes = wide ? 64 : 40;
  const table = elf.length + sections.reduce((sum, { contents }) => sum + contents.length, 0);
  const bytes = new Uint8Array(table + entryBytes * (sections.length + 1));
  const view = new DataView(bytes.buffer);
  const word = (offset: number, value: number) =>
    wide ? view.setBigUint64(offset, BigInt(value), true) : view.setUint32(offset, value, true);
  bytes.set(elf);
  word(wide ? 40 : 32, table);
  const counts = wide ? 58 : 46;
  [entryBytes, sections.length + 1, 0].forEach((value, index) => view.setUint16(counts + index * 2, value, true));
  let at = elf.length;
  sections.forEach(({ type, address, contents, size = contents.length }, index) => {
    const header = table + entryBytes * (index + 1);
    view.setUint32(header + 4, type, true);
    [address, at, size].forEach((value, field) => word(header + (wide ? 16 + field * 8 : 12 + field * 4), value));
    bytes.set(contents, at);
    at += contents.length;
  });
  return bytes;
}
