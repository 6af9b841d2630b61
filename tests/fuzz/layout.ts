/**
 * Where things lie in the guest that runs a batch of cases: one physical and one virtual layout, for every engine.
 *
 * Virtual memory: all of the harness lies above BASE, far from any address that a random instruction is likely to
 * compute. The data window that instructions are meant to hit lies in reach of RIP-relative addressing, and once more
 * below 2 GiB for 32-bit addresses. Around it: a page that can only be read, then unmapped pages.
 *
 *   16-bit and low alias / BASE + WINDOW_DISTANCE:  [unmapped] [read-only] [page A] [page B] [unmapped]
 *                                                            hot bytes: ^ around the seam of A and B
 */

export const PAGE = 4096;
const MIB = 1024 * 1024;
export const RAM_BYTES = 16 * MIB;

/** What ring 3 runs a case's code as: 64-bit mode, or compatibility mode with 32-bit segments. */
export type CodeBits = 64 | 32;

/** Cases per batch at the most. */
export const MAX_CASES = 4096;

/** Guest-physical places; the part below 1 MiB is mapped page by page at BASE + the same offset. */
export const PHYSICAL = {
  gdt: 0x1000,
  tss: 0x1800,
  idt: 0x2000,
  /** The IDT's stubs (ring 0), then the runtime (ring 3): see runtime.s. */
  stubs: 0x3000,
  runtime: 0x4000,
  /**
   * Top page of the ring-0 stack; ring 3 reads the exception's frame from it. Unmapped pages lie around it and around the
   * data: a repeated string instruction that begins in the runtime must not run into what carries the batch.
   */
  stack: 0x6000,
  data: 0x8000,
  window: 0x10000,
  /** What pages A and B hold before a batch, and again after every wild case. */
  template: 0x14000,
  pageTables: 0x20000,
  /** Test code; 1 MiB. */
  code: 0x100000,
  inputs: 2 * MIB,
  outputs: 8 * MIB,
} as const;
export const CODE_BYTES = MIB;
export const BLOCKS_BYTES = 6 * MIB;

/** A 1 GiB boundary in the lower half; an arbitrary one. */
export const BASE = 0x3a5c_4000_0000n;
export const WINDOW_DISTANCE = 0x1001_0000;
/**
 * Where cases' results are written: farther away than a displacement or an index of 32 bits reaches, since what is found
 * there follows from the known differences of earlier cases.
 */
export const OUTPUT_ADDRESS = BASE + 0x40_0000_0000n;
/** The first of four pages: unmapped, read-only, A, B (then unmapped again). */
export const WINDOW_HIGH = BASE + BigInt(WINDOW_DISTANCE);
export const WINDOW_LOW = 0x5a81_0000n;
/** For 16-bit addresses: those that the low alias's addresses have in their low 16 bits. */
export const WINDOW_16 = 0n;
/** The runtime and the code area once more, in reach of 32-bit code; as far from this as they are from BASE. */
export const BASE_32 = 0x6000_0000n;
export const WINDOW_READ_ONLY = 1 * PAGE;
/** The seam between A and B, from the window's start: the centre of the hot bytes. */
export const WINDOW_SEAM = 3 * PAGE;
/** Bytes on each side of the seam that a case loads and that are compared. */
export const HOT_REACH = 256;

/** One block: the state before a case (input) or after it (output). Bytes. */
export const BLOCK = {
  /** FXSAVE64 image [SDM 1 §10.5.1]. */
  fx: 0,
  fxBytes: 512,
  /** RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8-R15: in the order of their numbers, 8 bytes each. */
  gpr: 512,
  rflags: 640,
  /** Input: where the case's code begins. Output: RIP of the frame, or 0 where nothing was raised. */
  rip: 648,
  /** Output: exception vector, NO_EXCEPTION or HUNG. Input of a 32-bit case: the far pointer to its code. */
  vector: 656,
  errorCode: 664,
  /** After #PF only; else 0. */
  cr2: 672,
  /** Input: not 0 for a case that may write far into the window. Output: then a checksum of pages A and B. */
  wild: 680,
  hot: 704,
  hotBytes: 2 * HOT_REACH,
  size: 1216,
} as const;
export const NO_EXCEPTION = 0x100;
/** A vector that no exception has: the case did not end in time. */
export const HUNG = 31;

/** Words in the data page. Bytes from its start. */
export const DATA = {
  input: 0,
  output: 8,
  /** Cases still to do; INT3 with none left is the batch's end. */
  remaining: 16,
  entry: 24,
  savedRbx: 32,
  savedRax: 40,
  vector: 48,
  rip: 56,
  errorCode: 64,
  cr2: 72,
  farEntry: 80,
  scratchTop: 256,
} as const;

/** A write to this port ends a batch. */
export const DONE_PORT = 0xe0;

/**
 * Linux's selectors for ring 3: on a paravirtual KVM they are the host's, whatever the guest's tables say.
 */
export const SELECTOR = {
  kernelCode: 0x08,
  kernelData: 0x10,
  /** 32-bit: compatibility mode. */
  userCode32: 0x23,
  userData: 0x2b,
  userCode: 0x33,
  tss: 0x40,
} as const;
