/**
 * Where things lie in the memory of the long-mode test guest. All of it is mapped one to one for ring 0; ring 3 sees
 * the first 512 MiB once more from ALIAS on, as its own pages.
 */

/** User pages onto physical 0. */
export const ALIAS = 0x4000_0000;

/** Variables of the guest's runtime, then its log; below 64 KiB of real mode's segment 0x1000. */
export const VARIABLES = 0x1_0000;
export const VARIABLE = {
  /** Offset from VARIABLES of the next entry of the log. */
  pointer: VARIABLES,
  scratch: VARIABLES + 0x08,
  scratch2: VARIABLES + 0x10,
  /** Where ring 0 goes on after an exception. */
  resume: VARIABLES + 0x18,
  /** Bit i: log register i at an exception. */
  registers: VARIABLES + 0x20,
  /** Address of the case's first byte. */
  base: VARIABLES + 0x28,
  /** Exceptions so far in this case. */
  count: VARIABLES + 0x30,
  /** Number of the case. */
  index: VARIABLES + 0x38,
  vector: VARIABLES + 0x40,
  /** Not 0: exceptions log vector, error code and CR2 alone. */
  terse: VARIABLES + 0x48,
  /** Where 32-bit code of ring 0 goes on after an exception. */
  resume32: VARIABLES + 0x98,
  /** For the cases: 8 quadwords, zero at their start. */
  free: VARIABLES + 0x50,
  /** The sixteen registers at an exception. */
  gpr: VARIABLES + 0x100,
} as const;
export const LOG_START = 0x200;

/** The program; the first instructions of each exception's handler lie STUB_BYTES apart. */
export const IMAGE = 0x10_0000;
export const STUBS = IMAGE + 0x1000;
export const STUB_BYTES = 32;
/** The same for 32-bit gates. */
export const STUBS32 = STUBS + 256 * STUB_BYTES;
export const STUB32_BYTES = 32;

/** Tables that every case may change; PRISTINE_TABLES holds them as they were. */
export const TABLES = 0x20_0000;
export const PRISTINE_TABLES = 0x30_0000;
export const TABLES_BYTES = 0x1_8000;
export const GDT = TABLES + 0;
export const IDT = TABLES + 0x1000;
export const TSS = TABLES + 0x2000;
/** Offset of the I/O permission bitmap in the TSS; it covers all ports, all of them refused. */
export const IO_MAP = 0x68;
export const TSS_BYTES = IO_MAP + 0x2001;
export const LDT = TABLES + 0x5000;
export const PML4 = TABLES + 0x6000;
export const PDPT = TABLES + 0x7000;
export const PD0 = TABLES + 0x8000;
export const PD1 = TABLES + 0x9000;
/** 3 to 4 GiB: the windows of APICs. */
export const PD3 = TABLES + 0xa000;
export const PT_TEST = TABLES + 0xb000;
export const PDPT_B = TABLES + 0xd000;
export const PD_B = TABLES + 0xe000;
export const PT_B = TABLES + 0xf000;
// What the older modes use [legacy.ts]: gates of 8 bytes, two TSS of 32 bits, tables of two levels, tables of PAE.
export const IDT32 = TABLES + 0x1_0000;
export const TSS32 = TABLES + 0x1_0800;
export const TSS32_B = TABLES + 0x1_0900;
export const PDPT_PAE = TABLES + 0x1_0c00;
export const PD_LEGACY = TABLES + 0x1_1000;
export const PT_LEGACY = TABLES + 0x1_2000;
export const PD0_PAE = TABLES + 0x1_3000;
export const PD1_PAE = TABLES + 0x1_4000;
export const PT_PAE = TABLES + 0x1_5000;

/** Stacks, by their tops. */
export const STACK = {
  /** Ring 0's in a case. */
  kernel: 0x28_8000,
  /** RSP0 of the TSS. */
  rsp0: 0x28_a000,
  rsp1: 0x28_c000,
  rsp2: 0x28_e000,
  ist1: 0x29_0000,
  ist2: 0x29_2000,
  /** #DF's, and #SS's: a bad stack ends no case. */
  ist3: 0x29_4000,
  ist4: 0x29_6000,
  /** Physical; ring 3 has it at ALIAS. */
  user: 0x29_8000,
  runtime: 0x29_c000,
} as const;

/** Physical pages for the cases; every quadword of the first PLAY_BYTES holds its own address when a case begins. */
export const PLAY = 0x80_0000;
export const PLAY_BYTES = 0x8000;

/** Virtual windows onto PLAY: by PT_TEST (512 pages), as one 2 MiB page, by tables of all four levels. */
export const WINDOW = 0x6000_0000;
export const WINDOW_2M = 0x6020_0000;
/** PML4[1], PDPT_B[0], PD_B[0], PT_B. */
export const WINDOW_B = 0x80_0000_0000n;
/** A 1 GiB user page onto physical 0: PDPT[4]. */
export const WINDOW_1G = 0x1_0000_0000n;
/** PML4[511] is PML4[0]: the same again in the upper half. */
export const UPPER = 0xffff_ff80_0000_0000n;

/** Address of the entry in PT_TEST for page `i` of WINDOW. */
export const pte = (i: number): number => PT_TEST + i * 8;
/** Address of the entry that maps WINDOW_2M, and of the one that leads to PT_TEST. */
export const PDE_2M = PD1 + 257 * 8;
export const PDE_TEST = PD1 + 256 * 8;

export const PAGE = {
  P: 1n,
  W: 2n,
  U: 4n,
  PWT: 8n,
  PCD: 16n,
  A: 32n,
  D: 64n,
  PS: 128n,
  G: 256n,
  NX: 1n << 63n,
} as const;

/** Selectors of the GDT, without RPL. */
export const SELECTOR = {
  kernelCode: 0x08,
  kernelData: 0x10,
  kernelCode32: 0x18,
  userCode32: 0x20,
  userData: 0x28,
  userCode: 0x30,
  tss: 0x40,
  ldt: 0x50,
  conforming: 0x60,
  kernelCode16: 0x68,
  kernelData16: 0x70,
  /** From here on entries are the cases' own. */
  free: 0x80,
  tss32: 0xf0,
  tss32B: 0xf8,
} as const;

export const CR0_BASE = 0x8001_0033;
/** PAE, OSFXSR, OSXMMEXCPT. */
export const CR4_BASE = 0x620;
/** SCE, LME, NXE; LMA follows. */
export const EFER_BASE = 0x901;

/** The vector by which ring 3 ends a case. */
export const END_VECTOR = 0xff;
export const EXIT_PORT = 0xf4;
export const EXIT_VALUE = 0x10;
export const SERIAL = 0x3f8;
