/**
 * PCI configuration space as an ordered table of registers. [PCI 3.0 §6]
 *
 * A table row gives a register's power-on value, the bits that a guest may write, and the bits that a written 1
 * clears. What is in no row reads as zero and ignores writes, as reserved registers do.
 */

import { IsolaError } from "../../base/errors.ts";

export interface ConfigRegister {
  readonly name: string;
  readonly offset: number;
  readonly size: 1 | 2 | 4;
  readonly value: number;
  /** Bits that a write changes; none by default. */
  readonly writable?: number;
  /** Bits that writing 1 clears; none by default. */
  readonly clearable?: number;
}

/** Bytes of a conventional function's configuration space. */
export const CONFIG_BYTES = 256;

export class ConfigLayout {
  readonly #initial = new Uint8Array(CONFIG_BYTES);
  readonly #writable = new Uint8Array(CONFIG_BYTES);
  readonly #clearable = new Uint8Array(CONFIG_BYTES);

  /** Throws `pci-layout` where registers overlap, are out of order or lie outside. */
  constructor(registers: readonly ConfigRegister[]) {
    let end = 0;
    for (const { name, offset, size, value, writable = 0, clearable = 0 } of registers) {
      if (offset < end || offset % size !== 0 || offset + size > CONFIG_BYTES) {
        throw new IsolaError({
          code: "pci-layout",
          message: `laying out PCI configuration space: register ${name} at 0x${offset.toString(16)}, wanted one aligned to ${size} at 0x${end.toString(16)} or after; order the table`,
        });
      }
      end = offset + size;
      for (let i = 0; i < size; i++) {
        this.#initial[offset + i] = value >>> (8 * i);
        this.#writable[offset + i] = writable >>> (8 * i);
        this.#clearable[offset + i] = clearable >>> (8 * i);
      }
    }
  }

  reset(config: Uint8Array): void {
    config.set(this.#initial);
  }

  read(config: Uint8Array, offset: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) value |= (config[offset + i] ?? 0) << (8 * i);
    return value >>> 0;
  }

  write(config: Uint8Array, offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      if (at >= CONFIG_BYTES) return;
      const byte = (value >>> (8 * i)) & 0xff;
      const writable = this.#writable[at] ?? 0;
      const before = config[at] ?? 0;
      config[at] = ((before & ~writable) | (byte & writable)) & ~(byte & (this.#clearable[at] ?? 0));
    }
  }
}
