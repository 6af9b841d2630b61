/**
 * Decompression of what guests come in: gzip, zstd, xz, LZ4 (legacy and current frame), or plain data, told apart by
 * the first bytes. Input is hostile: every failure is an IsolaError, and output is bounded.
 */

import { createGunzip, createZstdDecompress } from "node:zlib";
import type { Transform } from "node:stream";
import xz from "xz-decompress";
import { IsolaError } from "../../base/errors.ts";
import { decompressLz4Frame, decompressLz4Legacy } from "./lz4.ts";
import { decompressX86Xz, usesX86Filter } from "./xz-x86.ts";

/** Most bytes that one file may become. */
export const DECOMPRESS_LIMIT = 512 * 1024 * 1024;

export type CompressionFormat = "gzip" | "zstd" | "xz" | "lz4-legacy" | "lz4" | "bzip2" | "lzma" | "lzop" | "plain";

/** First bytes of each format; the ones that cannot be read are here so that an error can name them. */
const MAGICS: readonly (readonly [CompressionFormat, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["lz4-legacy", [0x02, 0x21, 0x4c, 0x18]],
  ["lz4", [0x04, 0x22, 0x4d, 0x18]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["lzma", [0x5d, 0x00, 0x00]],
  ["lzop", [0x89, 0x4c, 0x5a, 0x4f, 0x00]],
];

export function detectCompression(bytes: Uint8Array): CompressionFormat {
  const found = MAGICS.find(([, magic]) => magic.every((byte, index) => bytes[index] === byte));
  return found?.[0] ?? "plain";
}

function tooLarge(format: string, limit: number): IsolaError {
  return new IsolaError({
    code: "decompress-too-large",
    message: `decompressing ${format}: the data is larger than the ${limit} bytes allowed`,
  });
}

function damaged(format: string, cause: unknown): IsolaError {
  if (cause instanceof IsolaError) return cause;
  const text = cause instanceof Error ? cause.message : String(cause);
  // What the xz library calls 4 is memory beyond its limit, 6 an option that it lacks.
  const code = format === "xz" ? /error code ([0-9]+)/.exec(text)?.[1] : undefined;
  if (code === "4" || code === "6") {
    const what = code === "4" ? "a dictionary of more than 64 MiB" : "a check or filter of this file";
    return new IsolaError({
      code: "decompress-unsupported",
      message: `decompressing xz: ${what} is not supported; recompress it with "xz --check=crc32"`,
      cause,
    });
  }
  const reason = text.split("\n")[0];
  return new IsolaError({
    code: "decompress-damaged",
    message: `decompressing ${format}: ${reason}; the file is damaged or truncated`,
    cause,
  });
}

/** Feeds `bytes` in slices, so that a consumer that stops early does not pay for the rest. */
function* slices(bytes: Uint8Array): Generator<Uint8Array> {
  const SLICE_BYTES = 256 * 1024;
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) yield bytes.subarray(at, at + SLICE_BYTES);
}

async function* throughZlib(bytes: Uint8Array, transform: Transform): AsyncGenerator<Uint8Array> {
  transform.end(bytes);
  yield* transform as AsyncIterable<Uint8Array>;
}

async function* throughXz(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  const source = slices(bytes);
  const input = new ReadableStream<Uint8Array>({
    pull(controller) {
      const next = source.next();
      // The decoder would wait for ever for the rest of a truncated file unless it meets an end.
      if (next.done) controller.close();
      else controller.enqueue(next.value);
    },
  });
  const reader = new xz.XzReadableStream(input).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      // The chunk is a view of the decoder's own memory, which the next step overwrites.
      yield value.slice();
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function chunks(bytes: Uint8Array, format: CompressionFormat, limit: number): AsyncIterable<Uint8Array> {
  const once = async function* (decode: () => Uint8Array | Promise<Uint8Array>) {
    yield await decode();
  };
  switch (format) {
    case "gzip":
      return throughZlib(bytes, createGunzip());
    case "zstd":
      return throughZlib(bytes, createZstdDecompress());
    case "xz":
      // Called again for each block, now without the filter.
      return usesX86Filter(bytes) ? once(() => decompressX86Xz(bytes, limit, decompress)) : throughXz(bytes);
    case "lz4-legacy":
      return once(() => decompressLz4Legacy(bytes, limit));
    case "lz4":
      return once(() => decompressLz4Frame(bytes, limit));
    case "plain":
      return once(() => bytes);
    default:
      throw new IsolaError({
        code: "decompress-unsupported",
        message: `decompressing: the data is ${format}, wanted gzip, zstd, xz or LZ4; recompress it`,
      });
  }
}

/**
 * Decompressed data of `bytes` piece by piece, in a format found by its magic; plain data comes back as it is.
 * @param limit most bytes to give in all
 * @throws IsolaError `decompress-damaged`, `decompress-too-large`, `decompress-unsupported`
 */
export async function* decompressStream(bytes: Uint8Array, limit = DECOMPRESS_LIMIT): AsyncGenerator<Uint8Array> {
  const format = detectCompression(bytes);
  let total = 0;
  try {
    for await (const chunk of chunks(bytes, format, limit)) {
      total += chunk.length;
      if (total > limit) throw tooLarge(format, limit);
      yield chunk;
    }
  } catch (error) {
    throw damaged(format, error);
  }
}

/** All of `decompressStream` in one array. */
export async function decompress(bytes: Uint8Array, limit = DECOMPRESS_LIMIT): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let total = 0;
  for await (const part of decompressStream(bytes, limit)) {
    parts.push(part);
    total += part.length;
  }
  if (parts.length === 1 && parts[0] !== undefined) return parts[0];
  const whole = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
