/**
 * The vCPU contract: what a board may ask of a virtual processor, and what a processor may ask of its board. It is
 * written for three implementers: the interpreter, the compiler tier and KVM. A vCPU belongs to the thread that made
 * it; every call here is synchronous on that thread.
 */

/** Widths of one port or MMIO access, in bytes. A vCPU splits 8-byte and wider MMIO into 4-byte accesses, lowest first. */
export type AccessSize = 1 | 2 | 4;

/** Where a processor's port and memory-mapped accesses go. Values are unsigned numbers of `size` bytes. Never throws. */
export interface Bus {
  readPort(port: number, size: AccessSize): number;
  writePort(port: number, size: AccessSize, value: number): void;
  /** `address` is guest-physical, and not RAM. Unclaimed reads give all ones, as on a PC. */
  readMmio(address: number, size: AccessSize): number;
  writeMmio(address: number, size: AccessSize, value: number): void;
}

/** The processor's side of its local APIC (and through it of the 8259). Engines with an in-kernel irqchip ignore it. */
export interface InterruptController {
  /** Whether an interrupt is ready to be taken, its priority above the task priority. Cheap: asked at every exit. */
  pending(): boolean;
  /** Whether a non-maskable interrupt waits, which `pending` does not tell; as cheap. Absent: there are none. */
  nmiPending?(): boolean;
  /** Takes the non-maskable interrupt that waits, if there is one still. */
  takeNmi?(): boolean;
  /** Acknowledges the highest interrupt and gives its vector, 0 to 255; only after `pending()` was true. */
  acknowledge(): number;
  /** Model-specific registers of the APIC: IA32_APIC_BASE, IA32_TSC_DEADLINE, x2APIC (0x800-0x8ff).
   * `undefined` (read) or false (write) raises #GP in the guest. */
  readMsr(index: number): bigint | undefined;
  writeMsr(index: number, value: bigint): boolean;
  /** CR8: bits 7:4 of the task priority register, 0 to 15. */
  taskPriority: number;
}

/** Guest time. One clock per VM; it stands still while the VM is paused. */
export interface GuestClock {
  /** Nanoseconds since the VM's power-on; an integer held exactly. */
  now(): number;
  /** Frequency of the time-stamp counter in Hz. TSC = now() * tscHz / 1e9. */
  readonly tscHz: number;
  /** Nanoseconds since the Unix epoch at power-on, for kvmclock's wall clock and the RTC. */
  readonly bootTime: bigint;
}

export interface VcpuHost {
  readonly bus: Bus;
  readonly interrupts: InterruptController;
  readonly clock: GuestClock;
}

/** Why `run` returned. */
export type VcpuExit =
  /** The slice is over, or a kick came; nothing to do but to run again. */
  | { readonly kind: "slice" }
  /** HLT with nothing that would end it: wait for an interrupt. `masked`: RFLAGS.IF is off, and maskable ones, even if
   * pending, end it not. Until something does, `run` returns the same at once. */
  | { readonly kind: "halt"; readonly masked: boolean }
  /** A triple fault. */
  | { readonly kind: "shutdown"; readonly rip: bigint }
  /** A failure of the engine itself, shown with the instruction bytes; `details` are the registers, a line each. */
  | {
      readonly kind: "internal-error";
      readonly message: string;
      readonly rip: bigint;
      readonly details?: readonly string[];
    };

/** Architectural state in the vendor's names; the same for every engine [design: saved state]. */
export interface SegmentState {
  selector: number;
  base: bigint;
  limit: number;
  /** Access rights as in a descriptor's bits 55:40: type, S, DPL, P, AVL, L, D/B, G. */
  attributes: number;
}
export const SEGMENT_NAMES = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"] as const;
export type SegmentName = (typeof SEGMENT_NAMES)[number];
export const GPR_NAMES = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
] as const;
export type GprName = (typeof GPR_NAMES)[number];

/** What a processor does between two instructions. */
export const VCPU_ACTIVITIES = ["running", "halted", "wait-for-startup"] as const;
export type VcpuActivity = (typeof VCPU_ACTIVITIES)[number];

/** How an event came about that was to be delivered next. */
export const PENDING_KINDS = ["exception", "interrupt", "software", "nmi"] as const;
export interface PendingEvent {
  readonly kind: (typeof PENDING_KINDS)[number];
  readonly vector: number;
  /** Absent for events without one. */
  readonly errorCode?: number;
}

/**
 * All of a processor but its local APIC, which is a device of the board. The time-stamp counter is no part of it: it is
 * the guest's clock times `tscHz`, plus IA32_TSC_ADJUST, on every engine.
 */
export interface CpuState {
  gpr: Record<GprName, bigint>;
  rip: bigint;
  rflags: bigint;
  segments: Record<SegmentName, SegmentState>;
  gdtr: { base: bigint; limit: number };
  idtr: { base: bigint; limit: number };
  cr0: bigint;
  cr2: bigint;
  cr3: bigint;
  cr4: bigint;
  xcr0: bigint;
  /** PAE's four directory pointers as they were loaded with CR3 [SDM 3 §4.4.1]; absent: they are loaded from there. */
  pdptes?: [bigint, bigint, bigint, bigint];
  /** DR0-DR3, DR6, DR7. */
  dr: [bigint, bigint, bigint, bigint, bigint, bigint];
  msrs: Map<number, bigint>;
  /** The legacy FXSAVE image, 512 bytes [SDM 1 §10.5.1]. */
  fx: Uint8Array;
  /** The XSAVE area in the standard format [SDM 1 §13.4], where more than x87 and SSE is in use; `fx` is its beginning. */
  xsave?: Uint8Array;
  activity: VcpuActivity;
  /** The last instruction was STI or a load of SS: the next one comes before any interrupt. [SDM 3 §6.8.3] */
  interruptShadow: boolean;
  /** A non-maskable interrupt is being handled, until IRET. [SDM 3 §6.7.1] */
  nmiBlocked: boolean;
  /** An event whose delivery had begun, and which no instruction would raise again. */
  event?: PendingEvent;
}

export interface Vcpu {
  /** Runs guest code for about a millisecond, or until something else ends it. */
  run(): VcpuExit;
  readonly state: { load(state: CpuState): void; save(): CpuState };
  /** Pulls the INIT/reset state of [SDM 3 §10.1.1], RIP at the reset vector. */
  reset(): void;
  /** A device has written `bytes` of RAM at a place in the VM's memory: no code decoded from there is run again. */
  deviceWrote(place: number, bytes: number): void;
}
