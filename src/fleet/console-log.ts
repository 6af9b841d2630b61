/**
 * A console's text on disk, in a file that never grows beyond its capacity: a header, then a ring. The VM's process
 * writes it through a descriptor that it was handed, so it needs no right on any directory; whoever holds the state
 * folder reads it, also while it is written and after the process was killed.
 *
 *   0   magic "isolalog"
 *   8   capacity in bytes, u64
 *   16  bytes ever written, u64; the ring's next byte is that modulo the capacity
 *   64  the ring
 */

import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";

const MAGIC = 0x676f_6c61_6c6f_7369n;
const HEADER_BYTES = 64;
export const CONSOLE_LOG_BYTES = 1024 * 1024;

interface Header {
  readonly capacity: number;
  readonly written: number;
}

function readHeader(fd: number): Header | undefined {
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  if (readSync(fd, header, 0, HEADER_BYTES, 0) < HEADER_BYTES || header.getBigUint64(0, true) !== MAGIC)
    return undefined;
  const capacity = Number(header.getBigUint64(8, true));
  const written = Number(header.getBigUint64(16, true));
  // Written by the VM's process, which may be in a guest's hands.
  if (capacity < 1 || capacity > CONSOLE_LOG_BYTES || !Number.isSafeInteger(written)) return undefined;
  return { capacity, written };
}

export class ConsoleLogWriter {
  readonly #fd: number;
  readonly #capacity: number;
  #written: number;

  /** `fd`: opened for reading and writing. What it holds is kept if it is a log; else it is begun anew. */
  constructor(fd: number, capacity = CONSOLE_LOG_BYTES) {
    this.#fd = fd;
    const found = readHeader(fd);
    this.#capacity = found?.capacity ?? capacity;
    this.#written = found?.written ?? 0;
    if (found === undefined) {
      ftruncateSync(fd, 0);
      this.#writeHeader();
    }
  }

  add(bytes: Uint8Array): void {
    const kept = bytes.subarray(Math.max(0, bytes.length - this.#capacity));
    const at = (this.#written + bytes.length - kept.length) % this.#capacity;
    const first = Math.min(kept.length, this.#capacity - at);
    if (first > 0) writeSync(this.#fd, kept, 0, first, HEADER_BYTES + at);
    if (first < kept.length) writeSync(this.#fd, kept, first, kept.length - first, HEADER_BYTES);
    this.#written += bytes.length;
    this.#writeHeader();
  }

  #writeHeader(): void {
    const header = new DataView(new ArrayBuffer(HEADER_BYTES));
    header.setBigUint64(0, MAGIC, true);
    header.setBigUint64(8, BigInt(this.#capacity), true);
    header.setBigUint64(16, BigInt(this.#written), true);
    writeSync(this.#fd, header, 0, HEADER_BYTES, 0);
  }
}

/** The log's last bytes, `tailBytes` at the most; empty where there is no log. */
export function readConsoleLog(path: string, tailBytes = CONSOLE_LOG_BYTES): Uint8Array {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return new Uint8Array(0);
  }
  try {
    const header = readHeader(fd);
    if (header === undefined) return new Uint8Array(0);
    const { capacity, written } = header;
    const length = Math.min(tailBytes, written, capacity);
    const bytes = new Uint8Array(length);
    const at = (written - length) % capacity;
    const first = Math.min(length, capacity - at);
    if (fstatSync(fd).size < HEADER_BYTES + Math.min(written, capacity)) return new Uint8Array(0);
    readSync(fd, bytes, 0, first, HEADER_BYTES + at);
    if (first < length) readSync(fd, bytes, first, length - first, HEADER_BYTES);
    return bytes;
  } finally {
    closeSync(fd);
  }
}
