/** Where the portable engine keeps its own data: byte offsets in the VM's shared memory; all lie below ENGINE_BYTES [memory/guest-memory.ts]. */

const KIB = 1024;
const MIB = 1024 * KIB;

/** The vCPU's architectural state [isa/state.ts]. Address 0 stays unused, so that 0 can mean "none". */
export const STATE_BASE = 4 * KIB;

/**
 * The software TLB: for each view a table for reads, then one for writes. An entry is {tag i64, addend i32, global i32}:
 * the tag is the linear page address, and linear + addend is the place in the memory. A tag that matches nothing is 1;
 * a translation that stays when CR3 is written has 1 as `global`.
 */
export const TLB = {
  base: 64 * KIB,
  entries: 2048,
  entryBytes: 16,
  /** From a view's read table to its write table. */
  writeDelta: 2048 * 16,
  viewBytes: 2 * 2048 * 16,
  /** 0: supervisor; 1: supervisor with EFLAGS.AC (SMAP lifted); 2: user. */
  views: 3,
  end: 64 * KIB + 3 * 2 * 2048 * 16,
} as const;

/**
 * Addresses of entries filled since the last flush that forgets such ones, i32 each, so that a small working set is
 * flushed cheaply: translations that are not global, which a write of CR3 goes through, and global ones.
 */
export const TLB_LOGS = {
  local: { base: 512 * KIB, capacity: 1024, count: 516 * KIB },
  global: { base: 548 * KIB, capacity: 1024, count: 552 * KIB },
} as const;
/** Pages that the running region keeps: {last byte's linear address or 0 i64, addend i32, pad}; all 0 while none runs. */
export const KEPT_PAGES = { base: 517 * KIB, entries: 12, entryBytes: 16 } as const;
/** A bit for each hash of a 2 MiB or 1 GiB region that a large page was filled from: INVLPG there flushes all. */
export const LARGE_PAGES = { base: 520 * KIB, bytes: 4 * KIB } as const;
/** Instruction-fetch TLB: {tag i64, physical page i64}. */
export const FETCH_TLB = { base: 528 * KIB, entries: 256, entryBytes: 16 } as const;
/** By entry of it a byte: 1 where the translation is global. */
export const FETCH_GLOBAL = 532 * KIB;
/**
 * Pages that code was fetched from since the jump cache last lost their rights' entries: for the supervisor, then for the
 * user, a byte for each hash of a page, so that INVLPG of data leaves the jump cache alone. `local`: a byte each, 1 where
 * a translation that is not global was among them since the last write of CR3.
 */
export const FETCHED_PAGES = { base: 536 * KIB, pages: 4 * KIB, local: 544 * KIB } as const;
/** Whose entries of the jump cache a flush ends, a bit each. */
export const FETCH_RIGHTS = { supervisor: 1, user: 2, all: 3 } as const;
/** Jump cache: {RIP i64, record i32, jumpContext i32}. A context is never 0. */
export const JUMP_CACHE = { base: 576 * KIB, entries: 4096 } as const;

/** By region: the jump context in which its pages were last found to be the ones that were compiled. */
export const REGION_STAMP = { base: 704 * KIB, regions: 16384 } as const;

/**
 * Where a region's indirect jumps and returns led that it did not follow: {exits left until that is looked at i32, pad,
 * targets}. A target's slot is its hash: {offset from the page of the region's head i32, how often i32}.
 */
export const INDIRECT_SITES = {
  base: 768 * KIB,
  sites: 992,
  bytes: 8 + 32 * 8,
  slots: 32,
  slotBytes: 8,
  first: 8,
} as const;

/** One byte a RAM page: 1 where decoded code lies. */
export const CODE_MAP = 1 * MIB;
/**
 * Traces by physical address and decode context: {key i64, record i32, pad}; key 0 ends a probe, -1 is deleted. Where so many
 * probes find no place, all code is forgotten; a boot and a C compiler make 145,000 traces.
 */
export const TRACE_HASH = { base: 2 * MIB, entries: 262144, probes: 64 } as const;
/** A trace's key: physical address (40 bits), decode context from here on, and a bit that keeps it from being 0. */
export const TRACE_KEY = { context: 44, mark: 60 } as const;
/** Decoded records. */
export const ARENA = { base: 8 * MIB, end: 104 * MIB } as const;
/**
 * What records may take of the host's memory: so much in a small guest, where a Debian boot, which decodes 15 MiB of them,
 * most of it once, begins anew; and of a larger one's RAM a part, since beginning anew costs compiled code, too: a C
 * compiler's records are 60 MiB.
 */
const LEAST_DECODED_BYTES = 8 * MIB;
const SMALL_GUEST_BYTES = 96 * MIB;
const RAM_PER_DECODED = 5;

/** How much of ARENA a guest with so much RAM may use, in bytes: the host never gets back what was touched. */
export function decodedBytes(ramBytes: number): number {
  const more = Math.ceil(Math.max(ramBytes - SMALL_GUEST_BYTES, 0) / RAM_PER_DECODED);
  return Math.min(ARENA.end - ARENA.base, LEAST_DECODED_BYTES + more);
}
/** Executions by record, i32 each, where the interpreter was built to count. */
export const PROFILE = 104 * MIB;

/**
 * A decoded instruction. Register fields are byte offsets into the state.
 *
 *   0 u16 handler    2 u16 offset in the page     4 u16 reg0    6 u16 reg1
 *   8 u16 base      10 u16 index    12 u16 address context    14 u8 scale    15 u8 length
 *  16 i32 displacement, the linked record of a direct jump, or a region's account    20 u16 reg2    22 u16 instructions since the last exit
 *  24 i64 immediate, or a relative target from the page's start
 */
export const RECORD = {
  bytes: 32,
  handler: 0,
  offset: 2,
  reg: [4, 6, 20],
  base: 8,
  index: 10,
  context: 12,
  scale: 14,
  length: 15,
  displacement: 16,
  link: 16,
  account: 16,
  count: 22,
  immediate: 24,
} as const;

/** Handlers that no instruction stands for. */
export const HANDLER = {
  /** Code that has been overwritten: look RIP up again. */
  stale: 0,
  /** The trace goes on elsewhere: at `immediate` from the page's start. */
  goto: 1,
  /** The same, after a look for interrupts. */
  poll: 2,
  /** An instruction crosses into the next page: go on if that page is still at physical `immediate`. */
  crossing: 3,
  /** The trace's `immediate` + 1 bytes from here on must lie within CS's limit. */
  limit: 4,
  /** Leaves where `immediate` is not 0 or a debug trap waits. */
  debug: 5,
  /** Begins a trace that is not compiled: `immediate` counts down to that. */
  head: 6,
  /** Begins a trace that is compiled: `immediate` is its region's place in the table. */
  region: 7,
  /** First of the generated ones. */
  first: 8,
} as const;

/** Executions that a head counts down from where it is not to be compiled: it takes for ever. */
export const NEVER = 0x7fff_ffff;

/**
 * A region's account, in instructions: what it does each time it is entered is paid in, what entering it costs is taken
 * out. Below 0 it is entered no more: the interpreter is as fast. Measured for a guest that starts processes, whose
 * regions do some 16 instructions each time.
 */
export const REGION_ACCOUNT = { first: 20_000, most: 200_000, entry: 16 } as const;

/** Interrupts that wait, in the state's `interruptHint`. Maskable ones are its lowest bit. */
export const HINT = { maskable: 1, unmaskable: 2 } as const;

/** What the interpreter's loop returns. */
export const EXIT = { slice: 1, decode: 2, fault: 3, poll: 4, limit: 5, debug: 6, compile: 7 } as const;

/** What a handler outside the loop returns. */
export const STATUS = { next: 0, dispatch: 1, fault: 2, repeat: 3, poll: 4 } as const;

/** What a compiled region returns besides the fuel that is left. */
export const REGION_STATUS = {
  /** Go on at RIP. */
  dispatch: 0,
  /** The interpreter is to run the instruction at RIP. */
  retry: 1,
  fault: 2,
  /** Look for interrupts, then go on at RIP. */
  poll: 3,
} as const;
