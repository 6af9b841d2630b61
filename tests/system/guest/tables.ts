/** Descriptor tables, TSS and page tables of the long-mode test guest, as bytes. [SDM 3 §3.4.5, §4.5, §7.7] */

import { flatDescriptor } from "../../../src/cpu/reset-state.ts";
import {
  END_VECTOR,
  IDT,
  IDT32,
  IO_MAP,
  LDT,
  PAGE,
  PD0,
  PD1,
  PD0_PAE,
  PD1_PAE,
  PD3,
  PD_B,
  PD_LEGACY,
  PDPT,
  PDPT_B,
  PDPT_PAE,
  PLAY,
  PML4,
  PT_B,
  PT_LEGACY,
  PT_PAE,
  PT_TEST,
  SELECTOR,
  STACK,
  STUB32_BYTES,
  STUB_BYTES,
  STUBS,
  STUBS32,
  TABLES,
  TABLES_BYTES,
  TSS,
  TSS32,
  TSS32_B,
  TSS_BYTES,
} from "./layout.ts";

/** A segment descriptor. `attributes` are a descriptor's bits 55:40 without the limit's. */
export function descriptor({ base = 0, limit = 0, attributes = 0 }): bigint {
  const low = BigInt(limit & 0xffff) | (BigInt(base & 0xff_ffff) << 16n);
  const high = BigInt(((limit >> 16) & 0xf) << 16) | BigInt((base >>> 24) * 0x100_0000) | (BigInt(attributes) << 8n);
  return low | (high << 32n);
}

/** The two quadwords of a 64-bit gate; by default an interrupt gate, present. [SDM 3 §6.14.1] */
export function gate({
  offset = 0,
  selector = SELECTOR.kernelCode as number,
  ist = 0,
  dpl = 0,
  type = 14,
  present = true,
}): readonly [bigint, bigint] {
  const attributes = BigInt((present ? 0x80 : 0) | (dpl << 5) | type);
  const at = BigInt(offset);
  const low = (at & 0xffffn) | (BigInt(selector) << 16n) | (BigInt(ist) << 32n) | (attributes << 40n);
  return [low | (((at >> 16n) & 0xffffn) << 48n), at >> 32n];
}

/** Attributes of system descriptors: present, type. */
export const TSS64 = 0x89;
export const LDT_TYPE = 0x82;

const LEVEL = PAGE.P | PAGE.W | PAGE.U;

/** Bytes from TABLES on; the IDT is empty, the guest's runtime fills it in. */
export function pristineTables(): Uint8Array {
  const bytes = new Uint8Array(TABLES_BYTES);
  const view = new DataView(bytes.buffer);
  const put = (address: number, value: bigint) => view.setBigUint64(address - TABLES, value, true);

  const flat: readonly (readonly [number, number])[] = [
    [SELECTOR.kernelCode, 0xa09b],
    [SELECTOR.kernelData, 0xc093],
    [SELECTOR.kernelCode32, 0xc09b],
    [SELECTOR.userCode32, 0xc0fb],
    [SELECTOR.userData, 0xc0f3],
    [SELECTOR.userCode, 0xa0fb],
    [SELECTOR.conforming, 0xa09f],
  ];
  for (const [selector, attributes] of flat) put(TABLES + selector, flatDescriptor(attributes));
  put(TABLES + SELECTOR.kernelCode16, descriptor({ limit: 0xffff, attributes: 0x9b }));
  put(TABLES + SELECTOR.kernelData16, descriptor({ limit: 0xffff, attributes: 0x93 }));
  put(TABLES + SELECTOR.tss, descriptor({ base: TSS, limit: TSS_BYTES - 1, attributes: TSS64 }));
  put(TABLES + SELECTOR.ldt, descriptor({ base: LDT, limit: 0xfff, attributes: LDT_TYPE }));

  for (let vector = 0; vector < 256; vector++) {
    const ist = vector === 8 ? 3 : vector === 12 ? 4 : 0;
    const [low, high] = gate({ offset: STUBS + vector * STUB_BYTES, dpl: vector === END_VECTOR ? 3 : 0, ist });
    put(IDT + vector * 16, low);
    put(IDT + vector * 16 + 8, high);
  }

  view.setBigUint64(TSS - TABLES + 4, BigInt(STACK.rsp0), true);
  view.setBigUint64(TSS - TABLES + 12, BigInt(STACK.rsp1), true);
  view.setBigUint64(TSS - TABLES + 20, BigInt(STACK.rsp2), true);
  for (const [i, top] of [STACK.ist1, STACK.ist2, STACK.ist3, STACK.ist4].entries()) {
    view.setBigUint64(TSS - TABLES + 0x24 + i * 8, BigInt(top), true);
  }
  view.setUint16(TSS - TABLES + 0x66, IO_MAP, true);
  bytes.fill(0xff, TSS - TABLES + IO_MAP, TSS - TABLES + TSS_BYTES);

  const tables = (address: number) => BigInt(address) | LEVEL;
  put(PML4, tables(PDPT));
  put(PML4 + 8, tables(PDPT_B));
  put(PML4 + 511 * 8, tables(PDPT));
  put(PDPT, tables(PD0));
  put(PDPT + 8, tables(PD1));
  put(PDPT + 3 * 8, tables(PD3));
  put(PDPT + 4 * 8, LEVEL | PAGE.PS);
  put(PDPT_B, tables(PD_B));
  put(PD_B, tables(PT_B));
  const kernel = PAGE.P | PAGE.W | PAGE.PS;
  const large = (i: number) => BigInt(i) * 0x20_0000n;
  for (let i = 0; i < 512; i++) {
    put(PD0 + i * 8, large(i) | kernel);
    put(PD3 + i * 8, (0xc000_0000n + large(i)) | kernel | PAGE.PCD);
    put(PT_TEST + i * 8, BigInt(PLAY + i * 4096) | LEVEL);
    put(PT_B + i * 8, BigInt(PLAY + i * 4096) | LEVEL);
    if (i < 256) put(PD1 + i * 8, large(i) | kernel | PAGE.U);
  }
  legacyTables(view);
  put(PD1 + 256 * 8, tables(PT_TEST));
  put(PD1 + 257 * 8, BigInt(PLAY) | LEVEL | PAGE.PS);
  return bytes;
}

/** A 32-bit gate. */
export function gate32({ offset = 0, selector = 0x18, dpl = 0, type = 14, present = true }): bigint {
  const attributes = BigInt((present ? 0x80 : 0) | (dpl << 5) | type);
  const at = BigInt(offset);
  return (at & 0xffffn) | (BigInt(selector) << 16n) | (attributes << 40n) | ((at >> 16n) << 48n);
}

/** The tables of the older modes map what the long-mode ones do: ring 0 one to one, ring 3 from ALIAS on, the windows. */
function legacyTables(view: DataView): void {
  const put = (address: number, value: bigint) => view.setBigUint64(address - TABLES, value, true);
  const word = (address: number, value: number) => view.setUint32(address - TABLES, value, true);
  for (let vector = 0; vector < 256; vector++) {
    put(IDT32 + vector * 8, gate32({ offset: STUBS32 + vector * STUB32_BYTES, dpl: vector === END_VECTOR ? 3 : 0 }));
  }
  put(TABLES + SELECTOR.tss32, descriptor({ base: TSS32, limit: 0x67, attributes: 0x89 }));
  put(TABLES + SELECTOR.tss32B, descriptor({ base: TSS32_B, limit: 0x67, attributes: 0x89 }));
  for (const tss of [TSS32, TSS32_B]) {
    word(tss + 4, STACK.rsp0);
    word(tss + 8, SELECTOR.kernelData);
    // No I/O permission bitmap: its offset is the limit.
    view.setUint16(tss + 0x66 - TABLES, 0x68, true);
  }
  for (let i = 0; i < 1024; i++) {
    const large = 0x40_0000 * i;
    if (i < 8) word(PD_LEGACY + i * 4, large | 0x83);
    if (i < 8) word(PD_LEGACY + (256 + i) * 4, large | 0x87);
    word(PT_LEGACY + i * 4, (PLAY + (i % 512) * 4096) | 7);
  }
  word(PD_LEGACY + 384 * 4, PT_LEGACY | 7);
  word(PD_LEGACY + 385 * 4, PLAY | 0x87);
  put(PDPT_PAE, BigInt(PD0_PAE | 1));
  put(PDPT_PAE + 8, BigInt(PD1_PAE | 1));
  for (let i = 0; i < 512; i++) {
    put(PD0_PAE + i * 8, BigInt(0x20_0000 * i) | 0x83n);
    if (i < 256) put(PD1_PAE + i * 8, BigInt(0x20_0000 * i) | 0x87n);
    put(PT_PAE + i * 8, BigInt(PLAY + i * 4096) | 7n);
  }
  put(PD1_PAE + 256 * 8, BigInt(PT_PAE | 7));
  put(PD1_PAE + 257 * 8, BigInt(PLAY | 0x87));
}
