/**
 * The program by which a host's KVM shows whether it runs a kernel's own instructions, and how fast: 64-bit code in
 * ring 0 that does what kernels do, then counts. Some hosts offer a KVM that emulates ring 0, slowly and in part.
 *
 * It runs with an empty interrupt descriptor table: any exception ends it by a triple fault.
 */

import { FLAT_CODE64, FLAT_DATA, flatDescriptor } from "../reset-state.ts";

/** Bytes of memory, at guest-physical 0, all mapped to itself. */
export const PROBE_BYTES = 0x10000;
/** The program writes a byte to this port after each round of counting. */
export const PROBE_PORT = 0xe0;
/** Instructions of one round. */
export const PROBE_INSTRUCTIONS = 100_000;

const PML4 = 0x1000;
const PDPT = 0x2000;
const PAGE_DIRECTORY = 0x3000;
const CODE = 0x4000;
const SCRATCH = 0x5000;
const STACK = 0x7000;
const GDT = 0x8000;
const TABLE_REGISTERS = 0x8100;

/** What the vCPU starts with. */
export const PROBE_STATE = {
  rip: BigInt(CODE),
  rsp: BigInt(STACK),
  cr3: BigInt(PML4),
  /** PE, MP, ET, NE, WP, PG */
  cr0: 0x8001_0033n,
  /** PAE, OSFXSR, OSXMMEXCPT */
  cr4: 0x620n,
  /** LME, LMA */
  efer: 0x500n,
  code: { selector: 8, attributes: FLAT_CODE64 },
  data: { selector: 16, attributes: FLAT_DATA },
} as const;

const dword = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);
/** ModRM and SIB of an absolute 32-bit address, with the opcode's extension `reg`. */
const at = (reg: number, address: number): number[] => [(reg << 3) | 4, 0x25, ...dword(address)];
const MOV_ECX = 0xb9;
const RDMSR_WRMSR = [0x0f, 0x32, 0x0f, 0x30];

/** Everything up to IRETQ, whose frame leads to what follows it. */
function kernelInstructions(): number[] {
  const code = [
    [0x0f, 0x01, ...at(2, TABLE_REGISTERS)], // LGDT
    [0x0f, 0x01, ...at(3, TABLE_REGISTERS + 16)], // LIDT
    [0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0], // MOV RAX, CR0; MOV CR0, RAX
    [0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8], // the same with CR3
    [0x0f, 0x20, 0xe0, 0x0f, 0x22, 0xe0], // and CR4
    [0x0f, 0x21, 0xf8, 0x0f, 0x23, 0xf8], // and DR7
    [MOV_ECX, ...dword(0xc000_0080), ...RDMSR_WRMSR], // IA32_EFER
    [MOV_ECX, ...dword(0xc000_0082), ...RDMSR_WRMSR], // IA32_LSTAR
    [0x0f, 0x01, 0xf8, 0x0f, 0x01, 0xf8], // SWAPGS, twice
    [0x31, 0xc0, 0x31, 0xc9, 0x0f, 0xa2], // CPUID, leaf 0
    [0x0f, 0x31], // RDTSC
    [0x0f, 0x01, ...at(7, SCRATCH)], // INVLPG
    [0x0f, 0x06], // CLTS
    [0xfa, 0x9c, 0x9d], // CLI; PUSHFQ; POPFQ
    [0xdb, 0xe3], // FNINIT
    [0x0f, 0x57, 0xc0], // XORPS XMM0, XMM0
    [0xf3, 0x0f, 0x7f, ...at(0, SCRATCH)], // MOVDQU [SCRATCH], XMM0
    [0x0f, 0xae, ...at(0, SCRATCH)], // FXSAVE
    [0x0f, 0xae, ...at(1, SCRATCH)], // FXRSTOR
    [0x31, 0xc0, 0x31, 0xd2, 0x31, 0xdb, 0x31, 0xc9], // XOR EAX, EDX, EBX, ECX with themselves
    [0xf0, 0x48, 0x0f, 0xc7, ...at(1, SCRATCH + 0x400)], // LOCK CMPXCHG16B
    [0x48, 0x89, 0xe0], // MOV RAX, RSP
    [0x6a, PROBE_STATE.data.selector, 0x50, 0x9c, 0x6a, PROBE_STATE.code.selector], // PUSH SS, RAX, flags, CS
  ].flat();
  const push = 5;
  const iretq = [0x48, 0xcf];
  return [...code, 0x68, ...dword(CODE + code.length + push + iretq.length), ...iretq];
}

/** Counts, tells, and counts again. */
function rounds(): number[] {
  const count = [MOV_ECX, ...dword(PROBE_INSTRUCTIONS / 2), 0xff, 0xc9, 0x75, 0xfc]; // DEC ECX; JNZ
  const tell = [0xe6, PROBE_PORT]; // OUT
  const again = count.length + tell.length + 2;
  return [...count, ...tell, 0xeb, -again & 0xff];
}

/** Writes page tables, descriptors and the program. */
export function writeProbe(memory: Uint8Array): void {
  const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  // Present and writable; the page directory's one entry is a page of 2 MiB.
  view.setUint32(PML4, PDPT | 3, true);
  view.setUint32(PDPT, PAGE_DIRECTORY | 3, true);
  view.setUint32(PAGE_DIRECTORY, 0x83, true);
  view.setBigUint64(GDT + PROBE_STATE.code.selector, flatDescriptor(PROBE_STATE.code.attributes), true);
  view.setBigUint64(GDT + PROBE_STATE.data.selector, flatDescriptor(PROBE_STATE.data.attributes), true);
  view.setUint16(TABLE_REGISTERS, 0x17, true);
  view.setUint32(TABLE_REGISTERS + 2, GDT, true);
  memory.set([...kernelInstructions(), ...rounds()], CODE);
}
