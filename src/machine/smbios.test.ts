import assert from "node:assert/strict";
import { test } from "node:test";
import { SMBIOS_ADDRESS, type SmbiosIdentity, smbiosTables } from "./smbios.ts";

const MIB = 2 ** 20;
const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const latin = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

interface Structure {
  readonly type: number;
  readonly handle: number;
  readonly bytes: DataView;
  readonly strings: readonly string[];
}

/** Walks the table as a system does: by each structure's length, and then to the two zeros. [DSP0134 §6.1] */
function walk(table: Uint8Array): Structure[] {
  const found: Structure[] = [];
  for (let at = 0; at < table.length; ) {
    const length = table[at + 1] ?? 0;
    let end = at + length;
    while (table[end] !== 0 || table[end + 1] !== 0) end++;
    const text = latin(table.subarray(at + length, end));
    const bytes = new DataView(table.buffer, table.byteOffset + at, length);
    found.push({
      type: bytes.getUint8(0),
      handle: bytes.getUint16(2, true),
      bytes,
      strings: text === "" ? [] : text.split("\0"),
    });
    at = end + 2;
  }
  return found;
}

function made(identity: SmbiosIdentity, vcpus = 1, ramBytes = 96 * MIB) {
  const [entry64, entry32, table] = smbiosTables({ vcpus, ramBytes, identity });
  assert.ok(entry64 !== undefined && entry32 !== undefined && table !== undefined);
  return { entry64, entry32, table, structures: walk(table.bytes) };
}

test("both entry points are where systems look, sum up to zero, and lead to the whole table", () => {
  const { entry64, entry32, table, structures } = made({}, 16);
  assert.equal(entry64.address, SMBIOS_ADDRESS);
  for (const { address, bytes } of [entry64, entry32]) {
    assert.equal(address % 16, 0);
    assert.equal(sum(bytes), 0);
    assert.equal(bytes.length, bytes[address === SMBIOS_ADDRESS ? 6 : 5]);
  }
  assert.equal(latin(entry64.bytes.subarray(0, 5)), "_SM3_");
  const long = new DataView(entry64.bytes.buffer);
  assert.deepEqual(
    [long.getUint32(12, true), Number(long.getBigUint64(16, true))],
    [table.bytes.length, table.address],
  );
  assert.equal(latin(entry32.bytes.subarray(0, 4)), "_SM_");
  assert.equal(latin(entry32.bytes.subarray(16, 21)), "_DMI_");
  assert.equal(sum(entry32.bytes.subarray(16)), 0);
  const short = new DataView(entry32.bytes.buffer);
  assert.equal(short.getUint16(22, true), table.bytes.length);
  assert.equal(short.getUint32(24, true), table.address);
  assert.equal(short.getUint16(28, true), structures.length);
  assert.ok(table.address + table.bytes.length <= 0x100000);
});

test("structures have the lengths of their version, handles of their own, and strings for what names them", () => {
  const { structures } = made({}, 2);
  const lengths = structures.map(({ type, bytes }) => [type, bytes.byteLength]);
  // [DSP0134 §7, version 3.0]
  const [cpu, end] = [
    [4, 0x30],
    [127, 4],
  ];
  assert.deepEqual(lengths, [
    [0, 0x18],
    [1, 0x1b],
    [3, 0x16],
    cpu,
    cpu,
    [16, 0x17],
    [17, 0x28],
    [19, 0x1f],
    [32, 11],
    end,
  ]);
  assert.equal(new Set(structures.map(({ handle }) => handle)).size, structures.length);
});

test("what is said of the machine is there, its UUID in the order of bytes that the specification wants", () => {
  const uuid = "00112233-4455-6677-8899-aabbccddeeff";
  const identity = { uuid, serial: "ds=nocloud", manufacturer: "M", product: "P", version: "V", sku: "S", family: "F" };
  const [, system] = made(identity).structures;
  assert.ok(system);
  assert.deepEqual(system.strings, ["M", "P", "V", "ds=nocloud", "S", "F"]);
  const bytes = Array.from({ length: 16 }, (_, i) =>
    system.bytes
      .getUint8(8 + i)
      .toString(16)
      .padStart(2, "0"),
  );
  assert.equal(bytes.join(""), "33221100554477668899aabbccddeeff");
});

test("memory's size is told in KiB or MiB, and all of it is mapped", () => {
  for (const [ramBytes, size] of [
    [2 * MIB + 65_536, 0x8000 | (2048 + 64)],
    [96 * MIB, 96],
    [3966 * MIB, 3966],
  ] as const) {
    const { structures } = made({}, 1, ramBytes);
    const of = (type: number) => structures.find((one) => one.type === type)?.bytes;
    assert.equal(of(17)?.getUint16(12, true), size);
    assert.equal(of(19)?.getUint32(8, true), ramBytes / 1024 - 1);
    assert.equal(of(16)?.getUint32(7, true), ramBytes / 1024);
  }
});

test("the longest words that are allowed fit", () => {
  const long = "x".repeat(255);
  const all = { serial: long, manufacturer: long, product: long, version: long, sku: long, family: long };
  const { table } = made(all, 64, 3966 * MIB);
  assert.ok(table.address + table.bytes.length <= 0x100000);
});
