/**
 * The 64-bit Linux boot protocol: memory and registers as startup_64 wants them.
 * [Linux Documentation/arch/x86/boot.rst "64-bit Boot Protocol"; arch/x86/zero-page.rst]
 *
 * Guest-physical layout, all below the video window:
 *   0x500    GDT      0x7000  boot_params ("zero page")      0x8ff0  stack, unused by Linux
 *   0x9000   PML4     0xa000  PDPT     0xb000-0xefff  four page directories: the first 4 GiB one to one
 *   0x20000  command line
 * The kernel's ELF is entered at its linked physical address, so no relocation is needed; KASLR is the self-extractor's
 * work and does not happen.
 */

import { FLAT_CODE64, FLAT_DATA, MSR, flatDescriptor, flatSegment, resetState } from "../../cpu/reset-state.ts";
import type { CpuState } from "../../cpu/vcpu.ts";
import {
  BOOT_CS,
  BOOT_DS,
  BOOT_PARAMS_ADDRESS,
  GDT_ADDRESS,
  type LinuxBoot,
  placeBootParams,
  STACK_ADDRESS,
} from "./boot-params.ts";
import { place } from "./placement.ts";

const PML4_ADDRESS = 0x9000;
const PDPT_ADDRESS = 0xa000;
const PD_ADDRESS = 0xb000;
const PAGE_BYTES = 4096;
const MAPPED_GIB = 4;

const CR0_PE = 1n;
const CR0_ET = 0x10n;
const CR0_NE = 0x20n;
const CR0_PG = 0x8000_0000n;
const CR4_PAE = 0x20n;
const EFER_LME = 0x100n;
const EFER_LMA = 0x400n;
const PRESENT_WRITABLE = 3n;
/** Present, writable, 2 MiB page. */
const PDE_LARGE = 0x83n;

/** One PML4 entry, four PDPT entries, 2048 large pages. [SDM 3 §4.5] */
function pageTables(): Uint8Array {
  const bytes = new Uint8Array(PD_ADDRESS - PML4_ADDRESS + MAPPED_GIB * PAGE_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(PDPT_ADDRESS) | PRESENT_WRITABLE, true);
  for (let gib = 0; gib < MAPPED_GIB; gib++) {
    const entry = BigInt(PD_ADDRESS + gib * PAGE_BYTES) | PRESENT_WRITABLE;
    view.setBigUint64(PDPT_ADDRESS - PML4_ADDRESS + gib * 8, entry, true);
  }
  for (let page = 0; page < MAPPED_GIB * 512; page++) {
    view.setBigUint64(PD_ADDRESS - PML4_ADDRESS + page * 8, (BigInt(page) << 21n) | PDE_LARGE, true);
  }
  return bytes;
}

/** Writes boot_params, GDT and page tables; `boot.entry` is startup_64's. Gives the boot processor's first state. */
export function prepareLinux64(boot: LinuxBoot): CpuState {
  const gdt = new Uint8Array(BOOT_DS + 8);
  const gdtView = new DataView(gdt.buffer);
  gdtView.setBigUint64(BOOT_CS, flatDescriptor(FLAT_CODE64), true);
  gdtView.setBigUint64(BOOT_DS, flatDescriptor(FLAT_DATA), true);
  place(boot.memory, "the GDT", GDT_ADDRESS, gdt);
  placeBootParams(boot);
  place(boot.memory, "page tables", PML4_ADDRESS, pageTables());

  const state = resetState();
  state.segments.cs = flatSegment(BOOT_CS, FLAT_CODE64);
  for (const name of ["ds", "es", "fs", "gs", "ss"] as const) {
    state.segments[name] = flatSegment(BOOT_DS, FLAT_DATA);
  }
  state.gdtr = { base: BigInt(GDT_ADDRESS), limit: gdt.length - 1 };
  // Nothing may interrupt before the kernel has an IDT of its own.
  state.idtr = { base: 0n, limit: 0 };
  state.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
  state.cr3 = BigInt(PML4_ADDRESS);
  state.cr4 = CR4_PAE;
  state.msrs.set(MSR.IA32_EFER, EFER_LME | EFER_LMA);
  state.gpr.rsi = BigInt(BOOT_PARAMS_ADDRESS);
  state.gpr.rsp = BigInt(STACK_ADDRESS);
  state.rip = BigInt(boot.entry);
  return state;
}
