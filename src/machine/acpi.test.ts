import assert from "node:assert/strict";
import { test } from "node:test";
import { ACPI_ADDRESS, acpiTables } from "./acpi.ts";
import { MP_ADDRESS, mpTables } from "./mp-table.ts";

const placed = [...acpiTables({ vcpus: 3 }), ...mpTables({ vcpus: 3 })];
const at = (address: number): Uint8Array => {
  const found = placed.find((item) => item.address === address);
  assert.ok(found, `nothing at 0x${address.toString(16)}`);
  return found.bytes;
};
const u16 = (bytes: Uint8Array, offset: number): number => (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8);
const u32 = (bytes: Uint8Array, offset: number): number => (u16(bytes, offset) | (u16(bytes, offset + 2) << 16)) >>> 0;
const text = (bytes: Uint8Array, offset: number, length: number): string =>
  String.fromCharCode(...bytes.subarray(offset, offset + length));
const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);

const rsdp = at(ACPI_ADDRESS);
const tablesOf = (root: Uint8Array, entryBytes: number): Uint8Array[] => {
  const tables: Uint8Array[] = [];
  for (let offset = 36; offset < root.length; offset += entryBytes) tables.push(at(u32(root, offset)));
  return tables;
};

test("RSDP, RSDT and XSDT lead to the same tables, and every checksum is right", () => {
  assert.equal(text(rsdp, 0, 8), "RSD PTR ");
  assert.deepEqual([sum(rsdp.subarray(0, 20)), sum(rsdp)], [0, 0]);
  const [rsdt, xsdt] = [at(u32(rsdp, 16)), at(u32(rsdp, 24))];
  const tables = tablesOf(xsdt, 8);
  assert.deepEqual(tablesOf(rsdt, 4), tables);
  assert.deepEqual(
    tables.map((bytes) => text(bytes, 0, 4)),
    ["FACP", "APIC", "HPET", "MCFG"],
  );
  for (const bytes of [rsdt, xsdt, ...tables]) {
    assert.equal(sum(bytes), 0);
    assert.equal(u32(bytes, 4), bytes.length);
  }
});

test("FADT names DSDT and an aligned FACS", () => {
  const [fadt] = tablesOf(at(u32(rsdp, 24)), 8);
  assert.ok(fadt);
  assert.equal(text(at(u32(fadt, 40)), 0, 4), "DSDT");
  assert.equal(u32(fadt, 140), u32(fadt, 40));
  assert.equal(text(at(u32(fadt, 36)), 0, 4), "FACS");
  assert.equal(u32(fadt, 36) % 64, 0);
});

test("nothing overlaps, and all lies in the firmware's area", () => {
  const ordered = placed.toSorted((a, b) => a.address - b.address);
  let end = ACPI_ADDRESS;
  for (const { address, bytes } of ordered) {
    assert.ok(address >= end);
    end = address + bytes.length;
  }
  assert.ok(end <= 0x100000);
});

test("MADT lists every processor, one I/O APIC and the overrides", () => {
  const madt = tablesOf(at(u32(rsdp, 24)), 8)[1];
  assert.ok(madt);
  const types: number[] = [];
  for (let offset = 44; offset < madt.length; offset += madt[offset + 1] ?? 255) types.push(madt[offset] ?? 255);
  assert.deepEqual(types, [0, 0, 0, 1, 2, 2, 4]);
});

/** Walks AML's packages, scopes, names and devices by their lengths: a wrong PkgLength ends it elsewhere. */
const namesIn = (aml: Uint8Array, start: number, end: number): string[] => {
  const names: string[] = [];
  const packageEnd = (offset: number): [body: number, end: number] => {
    const lead = aml[offset] ?? 0;
    const extra = lead >> 6;
    let length = extra === 0 ? lead & 0x3f : lead & 0x0f;
    for (let i = 0; i < extra; i++) length |= (aml[offset + 1 + i] ?? 0) << (4 + 8 * i);
    return [offset + 1 + extra, offset + length];
  };
  const skipData = (offset: number): number => {
    const op = aml[offset];
    const size = { 0x00: 1, 0x01: 1, 0x0a: 2, 0x0b: 3, 0x0c: 5 }[op ?? -1];
    if (size !== undefined) return offset + size;
    // A string ends by a zero.
    if (op === 0x0d) return aml.indexOf(0, offset) + 1;
    assert.ok(op === 0x11 || op === 0x12, `data op ${op} at ${offset}`);
    return packageEnd(offset + 1)[1];
  };
  const path = (offset: number): [string, number] => {
    const length = aml[offset] === 0x5c ? 5 : 4;
    return [text(aml, offset, length), offset + length];
  };
  let offset = start;
  while (offset < end) {
    const op = aml[offset];
    if (op === 0x08) {
      const [name, value] = path(offset + 1);
      names.push(name);
      offset = skipData(value);
    } else {
      assert.ok(op === 0x10 || op === 0x5b, `op ${op} at ${offset}`);
      const [body, stop] = packageEnd(offset + (op === 0x10 ? 1 : 2));
      const [name, inner] = path(body);
      names.push(name, ...namesIn(aml, inner, stop));
      offset = stop;
    }
  }
  assert.equal(offset, end);
  return names;
};

test("the DSDT is well-formed, with the sleep state and every device", () => {
  const [fadt] = tablesOf(at(u32(rsdp, 24)), 8);
  assert.ok(fadt);
  const dsdt = at(u32(fadt, 40));
  assert.equal(sum(dsdt), 0);
  const names = namesIn(dsdt, 36, dsdt.length);
  for (const name of ["\\_S5_", "\\_SB_", "PCI0", "_CRS", "_PRT", "MBRD", "HPET", "RTC_", "FWCF", "PS2K", "COM1"]) {
    assert.ok(names.includes(name), name);
  }
});

test("the MP pointer leads to a table of the length and count that it states", () => {
  const pointer = at(MP_ADDRESS);
  assert.equal(text(pointer, 0, 4), "_MP_");
  assert.equal(sum(pointer), 0);
  const table = at(u32(pointer, 4));
  assert.equal(text(table, 0, 4), "PCMP");
  assert.equal(sum(table), 0);
  assert.equal(u16(table, 4), table.length);
  let count = 0;
  for (let offset = 44; offset < table.length; offset += table[offset] === 0 ? 20 : 8) count++;
  assert.equal(u16(table, 34), count);
});
