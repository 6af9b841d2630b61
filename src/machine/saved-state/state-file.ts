/**
 * The file of a saved virtual machine. All numbers are little-endian, of 32 bits.
 *
 *   "isola-vm", the format's version, the manifest's bytes and their CRC-32, the manifest: JSON
 *   blobs, in the manifest's order: stored bytes, CRC-32, then the bytes through the codec
 *   RAM, in windows of 1 MiB that hold anything but zeros, ascending: number of the window, stored bytes, CRC-32 of what
 *   follows; a bit a page of 4 KiB that is not all zeros; those pages through the codec
 *   the end: 0xffffffff, how many windows there were, CRC-32 of their CRC-32s
 *
 * A place in RAM counts RAM alone: 3 GiB from address 0, then what lies from 4 GiB on. Everything read is hostile until
 * checked; a reader holds no more than one window besides the manifest and the RAM itself.
 */

import { ENGINE_BYTES, type GuestMemory } from "../../memory/guest-memory.ts";
import { crc32 } from "./crc32.ts";
import { savedStateInvalid, savedStateMismatch } from "./errors.ts";

export const FORMAT_VERSION = 1;
const MAGIC = new TextEncoder().encode("isola-vm");
const HEADER_BYTES = MAGIC.length + 12;
const MANIFEST_LIMIT_BYTES = 16 * 2 ** 20;
export const BLOB_LIMIT_BYTES = 64 * 2 ** 20;
const PAGE_BYTES = 4096;
const WINDOW_BYTES = 2 ** 20;
const PAGES = WINDOW_BYTES / PAGE_BYTES;
const BITMAP_BYTES = PAGES / 8;
const END = 0xffff_ffff;
/** A codec may make bytes that cannot be made smaller a little larger. */
const CODEC_SLACK_BYTES = 4096;

/** Where a state is written, piece by piece. The bytes are the sink's until the promise resolves. */
export interface StateSink {
  write(bytes: Uint8Array): Promise<void>;
}

/** Where a state is read from: gives `length` bytes, or fewer at the end. */
export interface StateSource {
  read(length: number): Promise<Uint8Array>;
}

/** How blobs and pages are stored. */
export interface StateCodec {
  readonly name: string;
  compress(bytes: Uint8Array): Promise<Uint8Array>;
  /** Gives exactly `length` bytes; rejects, or gives others, where it cannot. Never more memory than `length` asks. */
  decompress(bytes: Uint8Array, length: number): Promise<Uint8Array>;
}

/** Bytes as they are. */
export const PLAIN_CODEC: StateCodec = {
  name: "none",
  compress: async (bytes) => Promise.resolve(bytes),
  decompress: async (bytes) => Promise.resolve(bytes),
};

const words = (...values: readonly number[]): Uint8Array => {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  for (const [index, value] of values.entries()) view.setUint32(index * 4, value, true);
  return new Uint8Array(view.buffer);
};

export class StateWriter {
  readonly #sink: StateSink;
  readonly #codec: StateCodec;

  constructor(sink: StateSink, codec: StateCodec) {
    this.#sink = sink;
    this.#codec = codec;
  }

  async header(manifest: unknown, blobs: readonly Uint8Array[]): Promise<void> {
    const text = new TextEncoder().encode(JSON.stringify(manifest));
    await this.#sink.write(MAGIC);
    await this.#sink.write(words(FORMAT_VERSION, text.length, crc32(text)));
    await this.#sink.write(text);
    for (const blob of blobs) {
      const stored = await this.#codec.compress(Uint8Array.from(blob));
      await this.#sink.write(words(stored.length, crc32(stored)));
      await this.#sink.write(stored);
    }
  }

  /** RAM that does not change meanwhile. */
  async ram(memory: GuestMemory): Promise<void> {
    const ram = new Int32Array(memory.memory.buffer, ENGINE_BYTES, memory.ramBytes / 4);
    const pages = new Uint8Array(WINDOW_BYTES);
    let windows = 0;
    let sums = 0;
    for (let window = 0; window * WINDOW_BYTES < memory.ramBytes; window++) {
      const bitmap = new Uint8Array(BITMAP_BYTES);
      let filled = 0;
      for (let page = 0; page < PAGES; page++) {
        const from = window * WINDOW_BYTES + page * PAGE_BYTES;
        if (from >= memory.ramBytes || isZero(ram, from / 4)) continue;
        bitmap[page >> 3] = (bitmap[page >> 3] ?? 0) | (1 << (page & 7));
        pages.set(memory.bytes.subarray(ENGINE_BYTES + from, ENGINE_BYTES + from + PAGE_BYTES), filled);
        filled += PAGE_BYTES;
      }
      if (filled === 0) continue;
      const stored = await this.#codec.compress(pages.slice(0, filled));
      const sum = crc32(stored, crc32(bitmap));
      await this.#sink.write(words(window, stored.length, sum));
      await this.#sink.write(bitmap);
      await this.#sink.write(stored);
      windows++;
      sums = crc32(words(sum), sums);
    }
    await this.#sink.write(words(END, windows, sums));
  }
}

const isZero = (ram: Int32Array, from: number): boolean => {
  for (let i = from; i < from + PAGE_BYTES / 4; i++) if (ram[i] !== 0) return false;
  return true;
};

export class StateReader {
  readonly #source: StateSource;

  constructor(source: StateSource) {
    this.#source = source;
  }

  async #bytes(length: number, what: string): Promise<Uint8Array> {
    const bytes = await this.#source.read(length);
    if (bytes.length !== length) {
      throw savedStateInvalid(`it ends in the middle of ${what}: ${bytes.length} bytes found, ${length} wanted`);
    }
    return bytes;
  }

  async #words(count: number, what: string): Promise<number[]> {
    const bytes = await this.#bytes(count * 4, what);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return Array.from({ length: count }, (_, index) => view.getUint32(index * 4, true));
  }

  /** The manifest as JSON has it. @throws IsolaError `saved-state-invalid`, `saved-state-mismatch` (a newer version) */
  async manifest(): Promise<unknown> {
    const header = await this.#bytes(HEADER_BYTES, "its header");
    if (MAGIC.some((byte, index) => header[index] !== byte)) throw savedStateInvalid("it does not begin as one");
    const view = new DataView(header.buffer, header.byteOffset, HEADER_BYTES);
    const version = view.getUint32(MAGIC.length, true);
    if (version !== FORMAT_VERSION) {
      throw savedStateMismatch(
        `its format is version ${version}, this isola reads ${FORMAT_VERSION}; use the isola that saved it`,
      );
    }
    const length = view.getUint32(MAGIC.length + 4, true);
    if (length > MANIFEST_LIMIT_BYTES) {
      throw savedStateInvalid(`its manifest has ${length} bytes, at most ${MANIFEST_LIMIT_BYTES} wanted`);
    }
    const text = await this.#bytes(length, "its manifest");
    if (crc32(text) !== view.getUint32(MAGIC.length + 8, true))
      throw savedStateInvalid("its manifest's checksum is wrong");
    try {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
    } catch (error) {
      throw savedStateInvalid("its manifest is no JSON", error);
    }
  }

  /** The blobs, of the lengths that the manifest gives. */
  async blobs(lengths: readonly number[], codec: StateCodec): Promise<Uint8Array[]> {
    const blobs: Uint8Array[] = [];
    for (const length of lengths) {
      const [stored = 0, sum = 0] = await this.#words(2, "its devices");
      blobs.push(await this.#stored("its devices", { stored, length, sum, before: 0 }, codec));
    }
    return blobs;
  }

  async #stored(
    what: string,
    { stored, length, sum, before }: { stored: number; length: number; sum: number; before: number },
    codec: StateCodec,
  ): Promise<Uint8Array> {
    if (stored > length + CODEC_SLACK_BYTES) throw savedStateInvalid(`${what} takes ${stored} bytes for ${length}`);
    const bytes = await this.#bytes(stored, what);
    if (crc32(bytes, before) !== sum) throw savedStateInvalid(`the checksum of ${what} is wrong`);
    let plain: Uint8Array | undefined;
    try {
      plain = await codec.decompress(bytes, length);
    } catch (error) {
      throw savedStateInvalid(`${what} does not unpack by ${codec.name}`, error);
    }
    if (plain.length !== length) throw savedStateInvalid(`${what} unpacks to ${plain.length} bytes, ${length} wanted`);
    return plain;
  }

  /** Fills fresh RAM, all zeros, and checks that nothing follows. */
  async ram(memory: GuestMemory, codec: StateCodec): Promise<void> {
    let windows = 0;
    let sums = 0;
    let last = -1;
    for (;;) {
      const [window = 0, stored = 0, sum = 0] = await this.#words(3, "its memory");
      if (window === END) {
        if (stored !== windows || sum !== sums) throw savedStateInvalid("parts of its memory are missing");
        break;
      }
      if (window <= last || window * WINDOW_BYTES >= memory.ramBytes) {
        throw savedStateInvalid(`its memory has a part ${window} after ${last}, of ${memory.ramBytes} bytes in all`);
      }
      const bitmap = Uint8Array.from(await this.#bytes(BITMAP_BYTES, "its memory"));
      const pages = Array.from({ length: PAGES }, (_, page) => page).filter(
        (page) => (((bitmap[page >> 3] ?? 0) >> (page & 7)) & 1) !== 0,
      );
      if (((pages.at(-1) ?? 0) + 1) * PAGE_BYTES + window * WINDOW_BYTES > memory.ramBytes) {
        throw savedStateInvalid(`its memory goes beyond ${memory.ramBytes} bytes`);
      }
      const size = { stored, length: pages.length * PAGE_BYTES, sum, before: crc32(bitmap) };
      const bytes = await this.#stored("its memory", size, codec);
      for (const [index, page] of pages.entries()) {
        const at = ENGINE_BYTES + window * WINDOW_BYTES + page * PAGE_BYTES;
        memory.bytes.set(bytes.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES), at);
      }
      last = window;
      windows++;
      sums = crc32(words(sum), sums);
    }
    if ((await this.#source.read(1)).length > 0) throw savedStateInvalid("something follows its end");
  }
}
