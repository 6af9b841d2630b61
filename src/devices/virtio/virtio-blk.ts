/**
 * Block device. [virtio 1.2 §5.2]
 *
 * Requests are independent: as many are in flight as the driver makes available, in no order among them. A flush is
 * durable for every write that was completed before it was made available; a driver that does not take
 * VIRTIO_BLK_F_FLUSH has each write made durable before it is completed.
 */

import { gather, part, scatter, totalBytes } from "./buffers.ts";
import { defineVirtio } from "./define-virtio.ts";
import type { Chain } from "./service.ts";

/** Unit of the disk's capacity and of a request's place, whatever the medium's own. [§5.2.4] */
export const SECTOR_BYTES = 512;

/** What every thread knows of a disk. */
export interface DiskInfo {
  /** Capacity; 512 bytes each. */
  readonly sectors: number;
  readonly readOnly: boolean;
  /** Shown to the guest as the serial number: up to 20 ASCII characters. */
  readonly serial: string;
}

/** Where a disk's bytes are. Calls may overlap in time, also on the same sectors. */
export interface BlockBackend {
  readonly info: DiskInfo;
  /** Fills the buffers from byte `position` on. Rejects where not all could be read. */
  read(position: number, buffers: readonly Uint8Array[]): Promise<void>;
  write(position: number, buffers: readonly Uint8Array[]): Promise<void>;
  /** Resolves once every write that has resolved is on stable storage. */
  flush(): Promise<void>;
  /** The guest stands still or ends: requests under way wait for the medium alone, no more for a limit of theirs. */
  hurry?(): void;
}

const TYPE = { in: 0, out: 1, flush: 4, getId: 8 } as const;
const RESULT = { ok: 0, ioError: 1, unsupported: 2 } as const;
/** Feature bits. [§5.2.3] */
const SIZE_MAX = 1 << 1;
const SEG_MAX = 1 << 2;
const READ_ONLY = 1 << 5;
const BLOCK_SIZE = 1 << 6;
const FLUSH = 1 << 9;

const HEADER_BYTES = 16;
const ID_BYTES = 20;
/** Largest segment that a driver should use, and how many of them: a queue less header and status. */
const SEGMENT_BYTES = 1024 * 1024;
const QUEUE_SIZE = 128;
const SEGMENTS = QUEUE_SIZE - 2;
const REQUEST_BYTES = SEGMENTS * SEGMENT_BYTES;

/** The configuration: capacity, size_max, seg_max, geometry, blk_size. [§5.2.4] */
const CONFIG_BYTES = 24;

const configOf = ({ sectors }: DiskInfo): Uint8Array => {
  const config = new DataView(new ArrayBuffer(CONFIG_BYTES));
  config.setUint32(0, sectors, true);
  config.setUint32(4, Math.floor(sectors / 2 ** 32), true);
  config.setUint32(8, SEGMENT_BYTES, true);
  config.setUint32(12, SEGMENTS, true);
  config.setUint32(20, SECTOR_BYTES, true);
  return new Uint8Array(config.buffer);
};

export const virtioBlk = defineVirtio<DiskInfo, BlockBackend>()({
  name: "virtio-blk",
  version: 1,
  type: 2,
  // Mass storage, other: drivers go by the device's number.
  pciClass: 0x0180,
  queues: { requests: QUEUE_SIZE },
  state: {},
  configBytes: CONFIG_BYTES,
  features: ({ readOnly }) => SIZE_MAX | SEG_MAX | BLOCK_SIZE | FLUSH | (readOnly ? READ_ONLY : 0),
  readConfig: ({ info }, offset) => configOf(info)[offset] ?? 0,
  notified({ queues, port, negotiated }) {
    for (const chain of queues.requests.take()) void serve(chain, port, !negotiated(FLUSH));
  },
});

/** Serves one request to its end; never rejects. [§5.2.6] */
const serve = async (chain: Chain, disk: BlockBackend, writeThrough: boolean): Promise<void> => {
  const { readable, writable } = chain;
  const room = totalBytes(writable);
  if (room === 0 || totalBytes(readable) < HEADER_BYTES) {
    chain.reject(`a request of ${totalBytes(readable)} bytes with ${room} for its answer [virtio 1.2 §5.2.6]`);
    return;
  }
  // The last byte is the status, the others are the data.
  const into = part(writable, 0, room - 1);
  const finish = (status: number, written: number): void => {
    scatter(part(writable, room - 1), Uint8Array.of(status));
    chain.complete(status === RESULT.ok ? written + 1 : room);
  };
  try {
    const header = new DataView(gather(part(readable, 0, HEADER_BYTES)).buffer);
    const sector = header.getUint32(8, true) + header.getUint32(12, true) * 2 ** 32;
    switch (header.getUint32(0, true)) {
      case TYPE.in:
        if (!inside(disk.info, sector, room - 1)) return finish(RESULT.ioError, 0);
        await disk.read(sector * SECTOR_BYTES, into);
        return finish(RESULT.ok, room - 1);
      case TYPE.out: {
        const data = part(readable, HEADER_BYTES);
        if (disk.info.readOnly || !inside(disk.info, sector, totalBytes(data))) return finish(RESULT.ioError, 0);
        await disk.write(sector * SECTOR_BYTES, data);
        if (writeThrough) await disk.flush();
        return finish(RESULT.ok, 0);
      }
      case TYPE.flush:
        await disk.flush();
        return finish(RESULT.ok, 0);
      case TYPE.getId: {
        const id = new Uint8Array(ID_BYTES);
        new TextEncoder().encodeInto(disk.info.serial, id);
        return finish(RESULT.ok, scatter(into, id));
      }
      default:
        return finish(RESULT.unsupported, 0);
    }
  } catch {
    // The backend has told the host; the guest learns that the medium failed.
    finish(RESULT.ioError, 0);
  }
};

/** Whether a request of whole sectors lies on the disk. */
const inside = ({ sectors }: DiskInfo, sector: number, bytes: number): boolean =>
  bytes % SECTOR_BYTES === 0 && bytes <= REQUEST_BYTES && sector + bytes / SECTOR_BYTES <= sectors;
