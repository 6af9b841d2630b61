/** Saved machines: what is written is read back, and nothing else is taken. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { IsolaError } from "../../base/errors.ts";
import { resetState } from "../../cpu/reset-state.ts";
import { ManualClock, randomNumbers } from "../../devices/test-rig.ts";
import { DEFAULT_CPU_MODEL } from "../../isa/cpu-models.ts";
import { ENGINE_BYTES, GuestMemory } from "../../memory/guest-memory.ts";
import { Board, type BoardConfig } from "../board.ts";
import { crc32 } from "./crc32.ts";
import { portableProcessor } from "../portable-processor.ts";
import { checkDisks, loadSaved } from "./load-saved.ts";
import { encodeManifest, openState, type SavedMachine } from "./manifest.ts";
import { FORMAT_VERSION, PLAIN_CODEC, type StateCodec, StateReader, StateWriter } from "./state-file.ts";

const MIB = 2 ** 20;
const RAM_BYTES = 3 * MIB;
const CONFIG: BoardConfig = {
  ramBytes: RAM_BYTES,
  vcpus: 1,
  disks: [{ sectors: 2048, readOnly: false, serial: "a disk" }],
  entropy: true,
  fwCfg: [{ name: "opt/x", bytes: new Uint8Array(1000).fill(7) }],
  debugExit: { base: 0x501, size: 2 },
};

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A machine with something in every part. */
function machine(): { saved: SavedMachine; memory: GuestMemory } {
  const clock = new ManualClock();
  clock.time = 123_456_789_012;
  const board = new Board({ ...CONFIG, clock });
  board.bus.writePort(0x3f8, 1, 0x41);
  board.serial.write(text("typed"));
  board.keyboard.write(Uint8Array.of(0x1e, 0x9e));
  board.bus.writeMmio(0xb8000, 4, 0x07420741);
  const state = resetState();
  state.gpr.r15 = 0xffff_ffff_ffff_ffffn;
  state.msrs.set(0x4b564d01, 0x1001n);
  state.activity = "halted";
  state.nmiBlocked = true;
  state.pdptes = [1n, 2n, 3n, 4n];
  const memory = GuestMemory.create(RAM_BYTES);
  memory.bytes.fill(0x5a, ENGINE_BYTES + 4096, ENGINE_BYTES + 4100);
  memory.bytes[ENGINE_BYTES + RAM_BYTES - 1] = 1;
  const times = { now: clock.now(), tscHz: clock.tscHz, bootTime: clock.bootTime };
  const saved = {
    config: CONFIG,
    cpu: DEFAULT_CPU_MODEL,
    clock: times,
    vcpus: [state],
    devices: board.save(),
    typed: text("ahead"),
  };
  return { saved, memory };
}

async function fileOf({ saved, memory }: { saved: SavedMachine; memory: GuestMemory }, codec = PLAIN_CODEC) {
  const pieces: Uint8Array[] = [];
  const writer = new StateWriter(
    { write: async (bytes) => void (await Promise.resolve(pieces.push(bytes.slice()))) },
    codec,
  );
  const { manifest, blobs } = encodeManifest(saved, codec.name);
  await writer.header(manifest, blobs);
  await writer.ram(memory);
  return Uint8Array.from(pieces.flatMap((piece) => [...piece]));
}

function sourceOf(bytes: Uint8Array) {
  let at = 0;
  return {
    read: async (length: number) => {
      const part = bytes.slice(at, at + length);
      at += part.length;
      return Promise.resolve(part);
    },
  };
}

/** Loads a file into a new machine, as a VM does. */
async function load(bytes: Uint8Array, codecs: readonly StateCodec[] = []) {
  const opened = await openState(sourceOf(bytes), codecs);
  const { config, cpu, clock: times } = opened.machine;
  portableProcessor({ cpu, tscHz: times.tscHz });
  const clock = new ManualClock();
  clock.time = times.now;
  const memory = GuestMemory.create(config.ramBytes);
  const board = new Board({ ...config, clock, memory });
  const [state] = await loadSaved(opened, { engine: "wasm", memory, board });
  return { machine: opened.machine, memory, board, state, clock };
}

/** The manifest of a file changed, its length and checksum put right. */
function changed(file: Uint8Array, change: (manifest: Record<string, never>) => void): Uint8Array {
  const view = new DataView(file.buffer);
  const length = view.getUint32(12, true);
  const manifest = JSON.parse(new TextDecoder().decode(file.subarray(20, 20 + length))) as Record<string, never>;
  change(manifest);
  const bytes = text(JSON.stringify(manifest));
  const result = new Uint8Array(20 + bytes.length + file.length - 20 - length);
  result.set(file.subarray(0, 20));
  result.set(bytes, 20);
  result.set(file.subarray(20 + length), 20 + bytes.length);
  new DataView(result.buffer).setUint32(12, bytes.length, true);
  new DataView(result.buffer).setUint32(16, crc32(bytes), true);
  return result;
}

const refused = async (bytes: Uint8Array, code: string, message: RegExp): Promise<void> => {
  await assert.rejects(load(bytes), (error: unknown) => {
    assert.ok(error instanceof IsolaError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });
};

/** A codec of the tests' own: each byte turned round, after a byte of its own. */
const TURNED: StateCodec = {
  name: "turned",
  compress: async (bytes) => Promise.resolve(Uint8Array.from([1, ...bytes.map((byte) => byte ^ 0xff)])),
  decompress: async (bytes) => Promise.resolve(bytes.subarray(1).map((byte) => byte ^ 0xff)),
};

test("the checksum is the one of zip and Ethernet", () => {
  assert.equal(crc32(text("123456789")), 0xcbf43926);
  assert.equal(crc32(text("56789"), crc32(text("1234"))), 0xcbf43926);
});

test("every part comes back, through any codec", async () => {
  const made = machine();
  for (const codec of [PLAIN_CODEC, TURNED]) {
    const file = await fileOf(made, codec);
    const { machine: read, memory, board, state } = await load(file, [TURNED]);
    assert.deepEqual(read, made.saved);
    assert.deepEqual(state, made.saved.vcpus[0]);
    assert.deepEqual(board.save(), made.saved.devices);
    assert.ok(Buffer.from(memory.bytes.subarray(ENGINE_BYTES)).equals(made.memory.bytes.subarray(ENGINE_BYTES)));
    // Two windows with one page each, and the VGA's memory.
    assert.ok(file.length < 400_000, `${file.length}`);
  }
});

test("what waits in the consoles waits again: nothing lost, nothing twice", async () => {
  const { board, clock } = await load(await fileOf(machine()));
  assert.deepEqual(board.serial.read(), text("A"));
  const inb = (port: number): number => board.bus.readPort(port, 1);
  const typed: number[] = [];
  for (let wait = 0; wait < 100; wait++) {
    clock.time += 1_000_000;
    board.runTimers(clock.time);
    while ((inb(0x3fd) & 1) !== 0) typed.push(inb(0x3f8));
  }
  assert.deepEqual(Uint8Array.from(typed), text("typed"));
  assert.deepEqual([inb(0x60), inb(0x60)], [0x1e, 0x9e]);
});

test("a file that ends anywhere is refused", async () => {
  const file = await fileOf(machine());
  const random = randomNumbers(77);
  const ends = [0, 7, 19, 20, file.length - 1, ...Array.from({ length: 40 }, () => random() % file.length)];
  for (const end of ends) await refused(file.subarray(0, end), "saved-state-invalid", /it ends in the middle of/);
  await refused(Uint8Array.from([...Array.from(file), 0]), "saved-state-invalid", /something follows its end/);
});

test("a file with any byte changed is refused, in one line", async () => {
  const file = await fileOf(machine());
  const random = randomNumbers(4242);
  for (let i = 0; i < 300; i++) {
    const damaged = file.slice();
    const at = i < 60 ? i : random() % file.length;
    damaged[at] = (damaged[at] ?? 0) ^ (1 << (random() % 8));
    // Bytes 8 to 11 are the format's version.
    await refused(damaged, at >= 8 && at < 12 ? "saved-state-mismatch" : "saved-state-invalid", /./);
  }
});

test("parts of memory that are missing, twice, or outside of it are refused", async () => {
  const { saved } = machine();
  const { manifest, blobs } = encodeManifest(saved, "none");
  const windowOf = (number: number, bitmapByte: number): number[] => {
    const bitmap = new Uint8Array(32);
    bitmap[31] = bitmapByte;
    const page = new Uint8Array(4096).fill(1);
    const words = new DataView(new ArrayBuffer(12));
    words.setUint32(0, number, true);
    words.setUint32(4, page.length, true);
    words.setUint32(8, crc32(page, crc32(bitmap)), true);
    return [...new Uint8Array(words.buffer), ...bitmap, ...page];
  };
  const end = (count: number): number[] => [0xff, 0xff, 0xff, 0xff, count, 0, 0, 0, 0, 0, 0, 0];
  const pieces: Uint8Array[] = [];
  const writer = new StateWriter(
    { write: async (bytes) => void (await Promise.resolve(pieces.push(bytes.slice()))) },
    PLAIN_CODEC,
  );
  await writer.header(manifest, blobs);
  const header = pieces.flatMap((piece) => [...piece]);
  const file = (...ram: number[]): Uint8Array => Uint8Array.from([...header, ...ram]);
  await load(file(...end(0)));
  await refused(file(...end(1)), "saved-state-invalid", /missing/);
  await refused(file(...windowOf(0, 0x80), ...windowOf(0, 0x80)), "saved-state-invalid", /part 0 after 0/);
  await refused(file(...windowOf(3, 0x80)), "saved-state-invalid", /part 3 after -1/);
  await refused(file(...windowOf(0, 0)), "saved-state-invalid", /checksum|unpacks|takes/);
});

test("another version, board, processor, packing or engine is refused with the reason", async () => {
  const file = await fileOf(machine());
  const newer = file.slice();
  newer[8] = FORMAT_VERSION + 1;
  await refused(newer, "saved-state-mismatch", /format is version 2, this isola reads 1/);
  // oxlint-disable-next-line typescript/no-explicit-any
  type Any = any;
  const cases: [(manifest: Any) => void, string, RegExp][] = [
    [(m) => (m.board.version = 99), "saved-state-mismatch", /board is version 99/],
    [(m) => (m.board.floppies = 2), "saved-state-mismatch", /its board has floppies/],
    [(m) => (m.board.ramBytes = 2 ** 40), "saved-state-invalid", /ramBytes/],
    [(m) => (m.board.ramBytes += 4096), "saved-state-invalid", /multiple/],
    [(m) => (m.board.vcpus = 2), "saved-state-invalid", /vcpus/],
    [(m) => (m.cpu = "x86-64-v2,+avx512f"), "saved-state-mismatch", /there is no feature "avx512f"/],
    [(m) => (m.cpu = "x86-64-v3"), "cpu-model-unfit", /x86-64-v3 needs .*avx2.*the portable engine lacks/],
    [(m) => (m.cpu = "pentium"), "saved-state-mismatch", /there is no model "pentium"/],
    [(m) => (m.codec = "lzma"), "saved-state-mismatch", /"lzma", known here: none/],
    [(m) => (m.clock.tscHz = 0), "saved-state-invalid", /tscHz/],
    [(m) => (m.clock.now = -1), "saved-state-invalid", /clock\.now/],
    [(m) => (m.vcpus[0].cr4 = { $int: "0x1000" }), "saved-state-mismatch", /CR4 has bits 0x1000/],
    [(m) => (m.vcpus[0].cr0 = { $int: "0x80000010" }), "saved-state-mismatch", /paging without protection/],
    [(m) => (m.vcpus[0].xcr0 = { $int: "0xe7" }), "saved-state-mismatch", /XCR0/],
    [(m) => m.vcpus[0].msrs.push({ index: 0x48, value: { $int: "0x1" } }), "saved-state-mismatch", /MSR 0x48 holds/],
    [(m) => delete m.vcpus[0].gpr.rax, "saved-state-invalid", /vcpus\[0\]\.gpr\.rax is absent/],
    [(m) => (m.vcpus[0].fx = { $bytes: "AAAA" }), "saved-state-invalid", /fx/],
    [(m) => (m.vcpus[0].activity = "dancing"), "saved-state-invalid", /activity/],
    [(m) => (m.devices.uart.version = 99), "state-version", /uart: version 99 found/],
    [(m) => delete m.devices.pit, "state-invalid", /no state of pit/],
    [(m) => (m.devices.turbo = { version: 1, fields: {} }), "state-invalid", /a state of turbo/],
    [(m) => (m.devices.rtc.fields.index = { a: 1 }), "saved-state-invalid", /no known form/],
    [(m) => (m.devices.rtc.fields.colour = 1), "state-invalid", /colour/],
    [(m) => (m.typed = { $bytes: "***" }), "saved-state-invalid", /base64/],
    [(m) => (m.devices.vga.fields.memory = { $blob: 99 }), "saved-state-invalid", /not there/],
    [(m) => (m.blobs = [2 ** 30]), "saved-state-invalid", /blobs/],
    [(m) => (m.devices = JSON.parse("[".repeat(40) + "]".repeat(40))), "saved-state-invalid", /nested/],
  ];
  for (const [change, code, message] of cases) await refused(changed(file, change), code, message);
});

test("a manifest of any JSON is refused in one line", async () => {
  const random = randomNumbers(31337);
  const file = await fileOf(machine());
  const original = new TextDecoder().decode(file.subarray(20, 20 + new DataView(file.buffer).getUint32(12, true)));
  const parts = ["null", "[]", "{}", "-1", "1e400", '"x"', "true", '{"$int":"0x1"}', '{"$bytes":""}', '{"$blob":0}'];
  let refusals = 0;
  for (let i = 0; i < 100; i++) {
    // A value of the manifest, whatever it is, in another's place.
    const places = [...original.matchAll(/:(\d+|true|false|"[^"]*")/g)];
    const place = places[random() % places.length];
    if (place === undefined) throw new Error("no value");
    const at = place.index + 1;
    const json = original.slice(0, at) + parts[random() % parts.length] + original.slice(at + (place[1]?.length ?? 0));
    const damaged = changed(file, () => undefined);
    const bytes = text(json);
    const whole = new Uint8Array(20 + bytes.length + damaged.length - 20 - text(original).length);
    whole.set(damaged.subarray(0, 20));
    whole.set(bytes, 20);
    whole.set(damaged.subarray(20 + text(original).length), 20 + bytes.length);
    new DataView(whole.buffer).setUint32(12, bytes.length, true);
    new DataView(whole.buffer).setUint32(16, crc32(bytes), true);
    try {
      await load(whole);
    } catch (error) {
      assert.ok(error instanceof IsolaError, String(error));
      assert.doesNotMatch(error.message, /\n/);
      refusals++;
    }
  }
  assert.ok(refusals > 60, `${refusals}`);
});

test("the disks must be those of the state", () => {
  const info = { sectors: 8, readOnly: false, serial: "one" };
  const backend = (change: object) => ({ info: { ...info, ...change } }) as never;
  checkDisks([info], [backend({})]);
  const wrong = [
    [],
    [backend({}), backend({})],
    [backend({ sectors: 9 })],
    [backend({ readOnly: true })],
    [backend({ serial: "two" })],
  ];
  for (const given of wrong) assert.throws(() => checkDisks([info], given), { code: "saved-state-mismatch" });
});

test("a reader gives nothing before it has seen the header", async () => {
  await assert.rejects(new StateReader(sourceOf(text("isola-xx0123456789ab"))).manifest(), /does not begin as one/);
});
