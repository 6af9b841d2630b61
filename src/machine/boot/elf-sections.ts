/**
 * The section headers of an ELF kernel, given to it by Multiboot together with its symbols, which no segment loads.
 * [Multiboot 0.6.96 §3.3, flag 5; System V ABI, chapter 4 "Sections"; ELF-64 Object File Format 1.5]
 * Input is hostile: every offset is checked against the file before it is used.
 */

import { invalidKernel, truncatedKernel } from "./elf.ts";

const SHT_NOBITS = 8;
/** Alignment of every section that is loaded, in bytes; more than a symbol table needs. */
const ALIGNMENT = 16;

export interface SectionHeaders {
  readonly count: number;
  readonly entryBytes: number;
  /** e_shstrndx. */
  readonly namesIndex: number;
  /** The header table, then the sections that no segment loads; to be copied to the address asked for. */
  readonly bytes: Uint8Array;
}

interface SectionFields {
  readonly address: number;
  readonly offset: number;
  readonly size: number;
  readonly wide: boolean;
}

/** Offsets of sh_addr, sh_offset and sh_size, which ELF64 makes 8 bytes wide. */
const FIELDS: Readonly<Record<32 | 64, SectionFields>> = {
  32: { address: 12, offset: 16, size: 20, wide: false },
  64: { address: 16, offset: 24, size: 32, wide: true },
};

function aligned(value: number): number {
  return Math.ceil(value / ALIGNMENT) * ALIGNMENT;
}

/**
 * The section headers of the ELF `bytes`, whose ELF header was checked, as they shall lie at physical `address`:
 * sections without an address get one. Undefined where the ELF has none.
 * @throws IsolaError `kernel-invalid`, `kernel-truncated`
 */
export function sectionHeaders(bytes: Uint8Array, bits: 32 | 64, address: number): SectionHeaders | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = bits === 64;
  const word = (at: number): number => (wide ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true));
  const table = word(wide ? 40 : 32);
  const headerFields = wide ? 58 : 46;
  const entryBytes = view.getUint16(headerFields, true);
  const count = view.getUint16(headerFields + 2, true);
  const namesIndex = view.getUint16(headerFields + 4, true);
  if (table === 0 || count === 0) return undefined;
  if (entryBytes < (wide ? 64 : 40)) throw invalidKernel(`its ELF has section headers of ${entryBytes} bytes`);
  const tableBytes = entryBytes * count;
  if (table + tableBytes > bytes.length) {
    throw truncatedKernel("its section header table", bytes.length, table + tableBytes);
  }
  const fields = FIELDS[bits];
  const loaded: { readonly header: number; readonly at: number; readonly contents: Uint8Array }[] = [];
  let end = aligned(tableBytes);
  for (let index = 1; index < count; index++) {
    const header = entryBytes * index;
    const [type, size] = [view.getUint32(table + header + 4, true), word(table + header + fields.size)];
    if (type === SHT_NOBITS || size === 0 || word(table + header + fields.address) !== 0) continue;
    const offset = word(table + header + fields.offset);
    if (offset + size > bytes.length) throw truncatedKernel(`its section ${index}`, bytes.length, offset + size);
    loaded.push({ header, at: end, contents: bytes.subarray(offset, offset + size) });
    end = aligned(end + size);
    // Sections may overlap in the file, so that a small file could ask for much; no real kernel's do.
    if (end > tableBytes + bytes.length + ALIGNMENT * count * 2) throw invalidKernel("its ELF sections overlap");
  }
  const copy = new Uint8Array(end);
  const copyView = new DataView(copy.buffer);
  copy.set(bytes.subarray(table, table + tableBytes));
  for (const { header, at, contents } of loaded) {
    copy.set(contents, at);
    if (wide) copyView.setBigUint64(header + fields.address, BigInt(address + at), true);
    else copyView.setUint32(header + fields.address, address + at, true);
  }
  return { count, entryBytes, namesIndex, bytes: copy };
}
