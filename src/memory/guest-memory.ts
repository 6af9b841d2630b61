/**
 * Guest-physical space over one shared WebAssembly.Memory.
 *
 * The memory begins with an engine area (vCPU state, TLB, decoded code) of `ENGINE_BYTES`; RAM follows it. Guest RAM is
 * laid out as on a PC: up to 3 GiB from address 0, the rest from 4 GiB, so that the devices' window lies between.
 */

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const WASM_PAGE_BYTES = 65536;

/** Bytes before RAM in the memory; a multiple of 2 MiB, so that RAM may be mapped by huge pages. */
export const ENGINE_BYTES = 128 * MIB;
/** Guest-physical end of low RAM at the most; above it lie PCI, IOAPIC, HPET and LAPIC windows. */
export const LOW_RAM_LIMIT = 3 * GIB;
export const HIGH_RAM_START = 4 * GIB;
/** The legacy VGA window: never RAM. */
export const VGA_WINDOW = { start: 0xa0000, end: 0xc0000 } as const;

export const MIN_RAM_BYTES = 2 * MIB;
/** RAM is cut into WebAssembly's pages. */
export const RAM_STEP_BYTES = WASM_PAGE_BYTES;
/** A 32-bit WebAssembly memory holds 4 GiB; the engine area is part of it. */
export const MAX_RAM_BYTES = 4 * GIB - ENGINE_BYTES - 2 * MIB;

/** A span of guest-physical addresses that is RAM; `offset` is its place in the memory's buffer. All in bytes. */
export interface RamRegion {
  readonly start: number;
  readonly size: number;
  readonly offset: number;
}

export class GuestMemory {
  readonly memory: WebAssembly.Memory;
  /** RAM size in bytes. */
  readonly ramBytes: number;
  /** Ordered by address; the VGA window is a hole in access, not in the layout. */
  readonly regions: readonly RamRegion[];
  readonly bytes: Uint8Array;
  readonly view: DataView;

  private constructor(memory: WebAssembly.Memory, ramBytes: number) {
    this.memory = memory;
    this.ramBytes = ramBytes;
    this.bytes = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    const low = Math.min(ramBytes, LOW_RAM_LIMIT);
    const regions: RamRegion[] = [{ start: 0, size: low, offset: ENGINE_BYTES }];
    if (ramBytes > low) regions.push({ start: HIGH_RAM_START, size: ramBytes - low, offset: ENGINE_BYTES + low });
    this.regions = regions;
  }

  /** Allocates RAM of `ramBytes` (a multiple of 64 KiB, MIN_RAM_BYTES to MAX_RAM_BYTES); pages are resident when touched. */
  static create(ramBytes: number): GuestMemory {
    const pages = (ENGINE_BYTES + ramBytes) / WASM_PAGE_BYTES;
    return new GuestMemory(new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }), ramBytes);
  }

  /** The same memory seen from another thread, which got `memory` by a message. */
  static attach(memory: WebAssembly.Memory, ramBytes: number): GuestMemory {
    return new GuestMemory(memory, ramBytes);
  }

  /** The offset in the buffer of `length` bytes at guest-physical `address`, or -1 where not all of them are RAM. */
  offsetOf(address: number, length: number): number {
    for (const { start, size, offset } of this.regions) {
      if (address >= start && address + length <= start + size) {
        if (address < VGA_WINDOW.end && address + length > VGA_WINDOW.start) return -1;
        return offset + (address - start);
      }
    }
    return -1;
  }

  /** A view (not a copy) of guest RAM, or undefined where not all of it is RAM. */
  slice(address: number, length: number): Uint8Array | undefined {
    const offset = this.offsetOf(address, length);
    return offset < 0 ? undefined : this.bytes.subarray(offset, offset + length);
  }
}
