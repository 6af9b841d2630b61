/**
 * Dispatch of port and memory-mapped accesses to devices. Unclaimed reads give all ones and unclaimed writes vanish,
 * as on a PC whose bus nobody drives.
 */

import type { AccessSize, Bus } from "../cpu/vcpu.ts";
import { IsolaError } from "../base/errors.ts";
import type { Device, Range } from "./device.ts";

/** One range of one device; `bias` turns a port or an address into the device's offset. */
interface Claim {
  readonly device: Device;
  readonly start: number;
  readonly end: number;
  readonly bias: number;
}

/** Told of accesses that no device claims. */
export type UnclaimedSink = (space: "pio" | "mmio", address: number, size: AccessSize, write: boolean) => void;

const ALL_ONES: Record<AccessSize, number> = { 1: 0xff, 2: 0xffff, 4: 0xffffffff };
const PORTS = 0x10000;

export class DeviceBus implements Bus {
  /** By port: index into `#portClaims`, plus 1; 0 is unclaimed. */
  readonly #ports = new Uint16Array(PORTS);
  readonly #portClaims: Claim[] = [];
  /** Ordered by start. */
  readonly #mmioClaims: Claim[] = [];
  #lastMmio: Claim | undefined;
  /** The device of the last access, by whichever processor of this thread: whose timers it may have set. */
  touched: Device | undefined;
  /** Set to trace what a guest looks for in vain. */
  onUnclaimed: UnclaimedSink | undefined;

  /** Claims all of the device's ranges; throws `bus-conflict` where one is taken. */
  attach(device: Device): void {
    let offset = 0;
    for (const range of device.ranges) {
      this.#claim(device, range, offset);
      offset += range.size;
    }
  }

  #claim(device: Device, range: Range, offset: number): void {
    const { start, size } = range;
    const claim: Claim = { device, start, end: start + size, bias: start - offset };
    const taken =
      range.space === "pio"
        ? this.#portClaims.find((other) => other.start < claim.end && claim.start < other.end)
        : this.#mmioClaims.find((other) => other.start < claim.end && claim.start < other.end);
    if (taken !== undefined || (range.space === "pio" && claim.end > PORTS)) {
      throw new IsolaError({
        code: "bus-conflict",
        message: `attaching ${device.name}: ${range.space} 0x${start.toString(16)}+${size} is ${
          taken === undefined ? "beyond the last port" : `taken by ${taken.device.name}`
        }; give each device its own range`,
      });
    }
    if (range.space === "pio") {
      this.#portClaims.push(claim);
      this.#ports.fill(this.#portClaims.length, start, claim.end);
    } else {
      this.#mmioClaims.push(claim);
      this.#mmioClaims.sort((a, b) => a.start - b.start);
    }
  }

  readPort(port: number, size: AccessSize): number {
    const claim = this.#portClaims[(this.#ports[port] ?? 0) - 1];
    if (claim !== undefined && port + size <= claim.end) {
      this.touched = claim.device;
      return claim.device.read(port - claim.bias, size);
    }
    if (size > 1 && this.#touchesPorts(port, size)) {
      let value = 0;
      for (let i = 0; i < size; i++) value |= this.readPort(port + i, 1) << (8 * i);
      return value >>> 0;
    }
    this.onUnclaimed?.("pio", port, size, false);
    return ALL_ONES[size];
  }

  writePort(port: number, size: AccessSize, value: number): void {
    const claim = this.#portClaims[(this.#ports[port] ?? 0) - 1];
    if (claim !== undefined && port + size <= claim.end) {
      this.touched = claim.device;
      claim.device.write(port - claim.bias, size, value);
    } else if (size > 1 && this.#touchesPorts(port, size)) {
      for (let i = 0; i < size; i++) this.writePort(port + i, 1, (value >>> (8 * i)) & 0xff);
    } else {
      this.onUnclaimed?.("pio", port, size, true);
    }
  }

  /** Whether any of the ports is claimed: then an access across the edge of a range is split into bytes. */
  #touchesPorts(port: number, size: number): boolean {
    for (let i = 0; i < size; i++) if ((this.#ports[port + i] ?? 0) !== 0) return true;
    return false;
  }

  readMmio(address: number, size: AccessSize): number {
    const claim = this.#findMmio(address, size);
    if (claim !== undefined) {
      this.touched = claim.device;
      return claim.device.read(address - claim.bias, size);
    }
    this.onUnclaimed?.("mmio", address, size, false);
    return ALL_ONES[size];
  }

  writeMmio(address: number, size: AccessSize, value: number): void {
    const claim = this.#findMmio(address, size);
    if (claim !== undefined) {
      this.touched = claim.device;
      claim.device.write(address - claim.bias, size, value);
    } else this.onUnclaimed?.("mmio", address, size, true);
  }

  /** The claim that holds the whole access. Windows are whole pages apart, so an access across an edge is unclaimed. */
  #findMmio(address: number, size: number): Claim | undefined {
    const last = this.#lastMmio;
    if (last !== undefined && address >= last.start && address + size <= last.end) return last;
    for (const claim of this.#mmioClaims) {
      if (address < claim.start) return undefined;
      if (address + size <= claim.end) {
        this.#lastMmio = claim;
        return claim;
      }
    }
    return undefined;
  }
}
