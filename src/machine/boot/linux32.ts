/**
 * The 32-bit Linux boot protocol: protected mode without paging, flat segments, ESI pointing at boot_params.
 * [Linux Documentation/arch/x86/boot.rst "32-bit Boot Protocol"]
 * Guest-physical layout: the GDT, boot_params and the command line lie where linux64.ts has them.
 */

import { FLAT_CODE32, FLAT_DATA, flatDescriptor, flatSegment, resetState } from "../../cpu/reset-state.ts";
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

const CR0_PE = 1n;
const CR0_ET = 0x10n;
const CR0_NE = 0x20n;

/** Writes boot_params and GDT; `boot.entry` is startup_32's. Gives the boot processor's first state. */
export function prepareLinux32(boot: LinuxBoot): CpuState {
  const gdt = new Uint8Array(BOOT_DS + 8);
  const gdtView = new DataView(gdt.buffer);
  gdtView.setBigUint64(BOOT_CS, flatDescriptor(FLAT_CODE32), true);
  gdtView.setBigUint64(BOOT_DS, flatDescriptor(FLAT_DATA), true);
  place(boot.memory, "the GDT", GDT_ADDRESS, gdt);
  placeBootParams(boot);

  const state = resetState();
  state.segments.cs = flatSegment(BOOT_CS, FLAT_CODE32);
  for (const name of ["ds", "es", "fs", "gs", "ss"] as const) {
    state.segments[name] = flatSegment(BOOT_DS, FLAT_DATA);
  }
  state.gdtr = { base: BigInt(GDT_ADDRESS), limit: gdt.length - 1 };
  state.idtr = { base: 0n, limit: 0 };
  state.cr0 = CR0_PE | CR0_ET | CR0_NE;
  // The protocol wants EBP, EDI and EBX zero; reset leaves the signature in EDX, which no protocol speaks of.
  state.gpr.rdx = 0n;
  state.gpr.rsi = BigInt(BOOT_PARAMS_ADDRESS);
  state.gpr.rsp = BigInt(STACK_ADDRESS);
  state.rip = BigInt(boot.entry);
  return state;
}
