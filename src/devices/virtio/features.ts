/** Bits that all virtio devices share. [virtio 1.2 §2.1, §6] */

/** Device status. */
export const STATUS = {
  acknowledge: 1,
  driver: 2,
  driverOk: 4,
  featuresOk: 8,
  needsReset: 64,
  failed: 128,
} as const;

/** Feature words are 32 bits: word 0 holds bits 0 to 31. */
export const INDIRECT_DESC = 2 ** 28;
/** In word 1. */
export const VERSION_1 = 1;

/** Bits of the interrupt status register. */
export const ISR_QUEUE = 1;
export const ISR_CONFIG = 2;

/** A vector register that names no vector. */
export const NO_VECTOR = 0xffff;
