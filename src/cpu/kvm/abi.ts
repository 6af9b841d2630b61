/**
 * KVM's ABI for x86-64 as tables: requests, capabilities, exit reasons and structures, from Linux's
 * Documentation/virt/kvm/api.rst (cited as [kvm api §n]) and include/uapi/linux/kvm.h, asm/kvm.h.
 */

import { struct } from "../../sys/struct.ts";

export const KVM_API_VERSION = 12;

// Structures.

/** [kvm api §4.11] */
export const KVM_REGS = struct({
  rax: "u64",
  rbx: "u64",
  rcx: "u64",
  rdx: "u64",
  rsi: "u64",
  rdi: "u64",
  rsp: "u64",
  rbp: "u64",
  r8: "u64",
  r9: "u64",
  r10: "u64",
  r11: "u64",
  r12: "u64",
  r13: "u64",
  r14: "u64",
  r15: "u64",
  rip: "u64",
  rflags: "u64",
});

/** [kvm api §4.13] */
export const KVM_SEGMENT = struct({
  base: "u64",
  limit: "u32",
  selector: "u16",
  type: "u8",
  present: "u8",
  dpl: "u8",
  db: "u8",
  s: "u8",
  l: "u8",
  g: "u8",
  avl: "u8",
  unusable: "u8",
  padding: "u8",
});

export const KVM_DTABLE = struct({ base: "u64", limit: "u16", padding: 6 });

/** [kvm api §4.13] */
export const KVM_SREGS = struct({
  cs: KVM_SEGMENT,
  ds: KVM_SEGMENT,
  es: KVM_SEGMENT,
  fs: KVM_SEGMENT,
  gs: KVM_SEGMENT,
  ss: KVM_SEGMENT,
  tr: KVM_SEGMENT,
  ldt: KVM_SEGMENT,
  gdt: KVM_DTABLE,
  idt: KVM_DTABLE,
  cr0: "u64",
  cr2: "u64",
  cr3: "u64",
  cr4: "u64",
  cr8: "u64",
  efer: "u64",
  apicBase: "u64",
  interruptBitmap: 32,
});

/** [kvm api §4.22] */
export const KVM_FPU = struct({
  fpr: 128,
  fcw: "u16",
  fsw: "u16",
  ftwx: "u8",
  pad1: "u8",
  lastOpcode: "u16",
  lastIp: "u64",
  lastDp: "u64",
  xmm: 256,
  mxcsr: "u32",
  pad2: "u32",
});

/** The legacy part of the area that KVM_GET_XSAVE gives; dynamic features would make it larger [kvm api §4.42]. */
export const KVM_XSAVE_BYTES = 4096;

const KVM_XCR = struct({ xcr: "u32", reserved: "u32", value: "u64" });
/** The first of 16 places for an extended control register; only XCR0 exists [kvm api §4.44]. */
export const KVM_XCRS = struct({ count: "u32", flags: "u32", xcr0: KVM_XCR, others: 15 * KVM_XCR.size, padding: 128 });

/** [kvm api §4.46] */
export const KVM_CPUID_ENTRY2 = struct({
  function: "u32",
  index: "u32",
  flags: "u32",
  eax: "u32",
  ebx: "u32",
  ecx: "u32",
  edx: "u32",
  padding: 12,
});
/** The head of struct kvm_cpuid2; entries follow it. */
export const KVM_CPUID2 = struct({ count: "u32", padding: "u32" });

/** [kvm api §4.35] */
export const KVM_USERSPACE_MEMORY_REGION = struct({
  slot: "u32",
  flags: "u32",
  guestPhysical: "u64",
  sizeBytes: "u64",
  address: "u64",
});
export const KVM_MEM_READONLY = 2;

/** [kvm api §4.18]: the head; entries follow. */
export const KVM_MSRS = struct({ count: "u32", padding: "u32" });
export const KVM_MSR_ENTRY = struct({ index: "u32", reserved: "u32", data: "u64" });

/** [kvm api §4.33] */
export const KVM_DEBUGREGS = struct({ db: 32, dr6: "u64", dr7: "u64", flags: "u64", reserved: 72 });

/** [kvm api §4.71] */
export const KVM_PIT_CONFIG = struct({ flags: "u32", padding: 60 });
/** The kernel answers port 0x61 as well. */
export const KVM_PIT_SPEAKER_DUMMY = 1;
/** [kvm api §4.72] */
export const KVM_PIT_CHANNEL = struct({
  count: "u32",
  latchedCount: "u16",
  countLatched: "u8",
  statusLatched: "u8",
  status: "u8",
  readState: "u8",
  writeState: "u8",
  writeLatch: "u8",
  rwMode: "u8",
  mode: "u8",
  bcd: "u8",
  gate: "u8",
  /** ns of CLOCK_MONOTONIC. */
  countLoadTime: "u64",
});
export const KVM_PIT_STATE2 = struct({ channels: 3 * KVM_PIT_CHANNEL.size, flags: "u32", reserved: 36 });
export const KVM_PIT_FLAGS_HPET_LEGACY = 1;
export const KVM_PIT_FLAGS_SPEAKER_DATA_ON = 2;

/** [kvm api §4.26]: one chip's number, then its state. */
export const KVM_IRQCHIP_STATE = struct({ chip: "u32", padding: "u32", state: 512 });
export const KVM_PIC_STATE = struct({
  lastIrr: "u8",
  irr: "u8",
  imr: "u8",
  isr: "u8",
  priorityAdd: "u8",
  irqBase: "u8",
  readRegisterSelect: "u8",
  poll: "u8",
  specialMask: "u8",
  initState: "u8",
  autoEoi: "u8",
  rotateOnAutoEoi: "u8",
  specialFullyNestedMode: "u8",
  init4: "u8",
  elcr: "u8",
  elcrMask: "u8",
});
export const KVM_IOAPIC_STATE = struct({
  baseAddress: "u64",
  select: "u32",
  id: "u32",
  irr: "u32",
  padding: "u32",
  redirections: 24 * 8,
});

/** Registers of a local APIC as they lie in its page [kvm api §4.57]. */
export const KVM_LAPIC_BYTES = 0x400;

/** [kvm api §4.31] */
export const KVM_VCPU_EVENTS = struct({
  exceptionInjected: "u8",
  exceptionNumber: "u8",
  exceptionHasErrorCode: "u8",
  exceptionPending: "u8",
  exceptionErrorCode: "u32",
  interruptInjected: "u8",
  interruptNumber: "u8",
  interruptSoft: "u8",
  interruptShadow: "u8",
  nmiInjected: "u8",
  nmiPending: "u8",
  nmiMasked: "u8",
  padding: "u8",
  sipiVector: "u32",
  flags: "u32",
  rest: 40,
});
/** What of the events is to be taken besides exceptions, interrupts and the blocking of NMIs. */
export const KVM_VCPUEVENT_VALID = { NMI_PENDING: 1, SIPI_VECTOR: 2, SHADOW: 4 } as const;
export const KVM_X86_SHADOW_INT_STI = 2;

/** [kvm api §4.38] */
export const KVM_MP_STATE = { RUNNABLE: 0, UNINITIALIZED: 1, INIT_RECEIVED: 2, HALTED: 3, SIPI_RECEIVED: 4 } as const;

/** [kvm api §4.29] */
export const KVM_CLOCK_DATA = struct({ clock: "u64", flags: "u32", padding: "u32", rest: 32 });

/** [kvm api §4.25]: `status` where asked for, else unused. */
export const KVM_IRQ_LEVEL = struct({ irq: "u32", level: "u32" });

/** [kvm api §4.52]: the head; entries follow. */
export const KVM_IRQ_ROUTING = struct({ count: "u32", flags: "u32" });
/** An entry of type KVM_IRQ_ROUTING_IRQCHIP; the union has 32 bytes. */
export const KVM_IRQ_ROUTING_ENTRY = struct({
  gsi: "u32",
  type: "u32",
  flags: "u32",
  padding: "u32",
  irqchip: "u32",
  pin: "u32",
  rest: 24,
});
export const KVM_IRQ_ROUTING_IRQCHIP = 1;
export const KVM_IRQCHIP = { PIC_MASTER: 0, PIC_SLAVE: 1, IOAPIC: 2 } as const;

/** [kvm api §4.69] */
export const KVM_MSI = struct({ addressLow: "u32", addressHigh: "u32", data: "u32", flags: "u32", rest: 16 });

/** [kvm api §4.5] */
export const KVM_TRANSLATION = struct({
  linear: "u64",
  physical: "u64",
  valid: "u8",
  writable: "u8",
  user: "u8",
  padding: 5,
});

/** The fixed head of struct kvm_run, and where its union of exits begins [kvm api §5]. */
export const KVM_RUN_STATE = struct({
  requestInterruptWindow: "u8",
  immediateExit: "u8",
  padding: 6,
  exitReason: "u32",
  readyForInterruptInjection: "u8",
  ifFlag: "u8",
  flags: "u16",
  cr8: "u64",
  apicBase: "u64",
  exit: "u64",
});
const EXIT_OFFSET = KVM_RUN_STATE.offset.exit;

/** Offsets in struct kvm_run of the exits' data [kvm api §5]. */
export const KVM_RUN_IO = {
  direction: EXIT_OFFSET,
  size: EXIT_OFFSET + 1,
  port: EXIT_OFFSET + 2,
  count: EXIT_OFFSET + 4,
  /** Bytes from the start of kvm_run to the data. */
  dataOffset: EXIT_OFFSET + 8,
} as const;
export const KVM_EXIT_IO_OUT = 1;
export const KVM_RUN_MMIO = {
  address: EXIT_OFFSET,
  data: EXIT_OFFSET + 8,
  length: EXIT_OFFSET + 16,
  isWrite: EXIT_OFFSET + 20,
} as const;
export const KVM_RUN_INTERNAL = { suberror: EXIT_OFFSET, count: EXIT_OFFSET + 4, data: EXIT_OFFSET + 8 } as const;
export const KVM_RUN_FAIL_ENTRY = { reason: EXIT_OFFSET, cpu: EXIT_OFFSET + 8 } as const;
export const KVM_RUN_HARDWARE_REASON = EXIT_OFFSET;

/** Why KVM_RUN returned [kvm api §5]. */
export const KVM_EXIT = {
  UNKNOWN: 0,
  EXCEPTION: 1,
  IO: 2,
  HYPERCALL: 3,
  DEBUG: 4,
  HLT: 5,
  MMIO: 6,
  IRQ_WINDOW_OPEN: 7,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  INTERNAL_ERROR: 17,
  SYSTEM_EVENT: 24,
} as const;

const EXIT_NAMES = new Map<number, string>(Object.entries(KVM_EXIT).map(([name, number]) => [number, name]));
export function kvmExitName(reason: number): string {
  return EXIT_NAMES.get(reason) ?? `exit ${reason}`;
}

/** Capabilities, by name: what isola asks of a host's KVM. [kvm api §4.4, §8] */
export const KVM_CAP = {
  IRQCHIP: 0,
  USER_MEMORY: 3,
  SET_TSS_ADDR: 4,
  EXT_CPUID: 7,
  NR_VCPUS: 9,
  MP_STATE: 14,
  IRQ_ROUTING: 25,
  PIT2: 33,
  DEBUGREGS: 50,
  TSC_CONTROL: 60,
  GET_TSC_KHZ: 61,
  MAX_VCPUS: 66,
  TSC_DEADLINE_TIMER: 72,
  SIGNAL_MSI: 77,
  IMMEDIATE_EXIT: 136,
} as const;
export type KvmCapability = keyof typeof KVM_CAP;

// Requests, encoded as Linux's _IOC does: direction, size of the argument, type, number.

const KVMIO = 0xae;
const request = (direction: number, number: number, size: number): number =>
  direction * 2 ** 30 + size * 2 ** 16 + KVMIO * 2 ** 8 + number;
const io = (number: number): number => request(0, number, 0);
const iow = (number: number, argument: { size: number }): number => request(1, number, argument.size);
const ior = (number: number, argument: { size: number }): number => request(2, number, argument.size);
const iowr = (number: number, argument: { size: number }): number => request(3, number, argument.size);

export const KVM_GET_API_VERSION = io(0x00);
export const KVM_CREATE_VM = io(0x01);
export const KVM_CHECK_EXTENSION = io(0x03);
export const KVM_GET_VCPU_MMAP_SIZE = io(0x04);
export const KVM_GET_SUPPORTED_CPUID = iowr(0x05, KVM_CPUID2);
export const KVM_CREATE_VCPU = io(0x41);
export const KVM_SET_USER_MEMORY_REGION = iow(0x46, KVM_USERSPACE_MEMORY_REGION);
export const KVM_SET_TSS_ADDR = io(0x47);
export const KVM_SET_IDENTITY_MAP_ADDR = iow(0x48, { size: 8 });
export const KVM_CREATE_IRQCHIP = io(0x60);
export const KVM_IRQ_LINE = iow(0x61, KVM_IRQ_LEVEL);
export const KVM_GET_IRQCHIP = iowr(0x62, KVM_IRQCHIP_STATE);
export const KVM_SET_IRQCHIP = ior(0x63, KVM_IRQCHIP_STATE);
export const KVM_SET_GSI_ROUTING = iow(0x6a, KVM_IRQ_ROUTING);
export const KVM_CREATE_PIT2 = iow(0x77, KVM_PIT_CONFIG);
export const KVM_SET_CLOCK = iow(0x7b, KVM_CLOCK_DATA);
export const KVM_GET_CLOCK = ior(0x7c, KVM_CLOCK_DATA);
export const KVM_RUN = io(0x80);
export const KVM_GET_REGS = ior(0x81, KVM_REGS);
export const KVM_SET_REGS = iow(0x82, KVM_REGS);
export const KVM_GET_SREGS = ior(0x83, KVM_SREGS);
export const KVM_SET_SREGS = iow(0x84, KVM_SREGS);
export const KVM_TRANSLATE = iowr(0x85, KVM_TRANSLATION);
export const KVM_GET_MSRS = iowr(0x88, KVM_MSRS);
export const KVM_SET_MSRS = iow(0x89, KVM_MSRS);
export const KVM_GET_FPU = ior(0x8c, KVM_FPU);
export const KVM_SET_FPU = iow(0x8d, KVM_FPU);
export const KVM_GET_LAPIC = ior(0x8e, { size: KVM_LAPIC_BYTES });
export const KVM_SET_LAPIC = iow(0x8f, { size: KVM_LAPIC_BYTES });
export const KVM_SET_CPUID2 = iow(0x90, KVM_CPUID2);
export const KVM_GET_MP_STATE = ior(0x98, { size: 4 });
export const KVM_SET_MP_STATE = iow(0x99, { size: 4 });
export const KVM_GET_VCPU_EVENTS = ior(0x9f, KVM_VCPU_EVENTS);
export const KVM_SET_VCPU_EVENTS = iow(0xa0, KVM_VCPU_EVENTS);
export const KVM_GET_PIT2 = ior(0x9f, KVM_PIT_STATE2);
export const KVM_SET_PIT2 = iow(0xa0, KVM_PIT_STATE2);
export const KVM_GET_DEBUGREGS = ior(0xa1, KVM_DEBUGREGS);
export const KVM_SET_DEBUGREGS = iow(0xa2, KVM_DEBUGREGS);
export const KVM_SET_TSC_KHZ = io(0xa2);
export const KVM_GET_TSC_KHZ = io(0xa3);
export const KVM_SIGNAL_MSI = iow(0xa5, KVM_MSI);
export const KVM_GET_XSAVE = ior(0xa4, { size: KVM_XSAVE_BYTES });
export const KVM_SET_XSAVE = iow(0xa5, { size: KVM_XSAVE_BYTES });
export const KVM_GET_XCRS = ior(0xa6, KVM_XCRS);
export const KVM_SET_XCRS = iow(0xa7, KVM_XCRS);
