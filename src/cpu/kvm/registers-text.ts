/** A stopped processor for a person: its registers, and the bytes of the instruction that it was at. */

import type { GuestMemory } from "../../memory/guest-memory.ts";
import { type CpuState, GPR_NAMES, SEGMENT_NAMES } from "../vcpu.ts";
import type { VcpuFile } from "./vcpu-file.ts";

/** The longest instruction. [SDM 2 §2.3.11] */
const INSTRUCTION_BYTES = 15;

const hex = (value: bigint, digits = 16): string => value.toString(16).padStart(digits, "0");

/** Bytes at CS:RIP as far as they are mapped to RAM; in words where none are. */
export function instructionBytes(file: VcpuFile, memory: GuestMemory, state: CpuState): string {
  const bytes: string[] = [];
  for (let i = 0n; i < INSTRUCTION_BYTES; i++) {
    const physical = file.translate(BigInt.asUintN(64, state.segments.cs.base + state.rip + i));
    const offset = physical < 0 ? -1 : memory.offsetOf(physical, 1);
    if (offset < 0) break;
    bytes.push((memory.bytes[offset] ?? 0).toString(16).padStart(2, "0"));
  }
  return bytes.length === 0 ? "not in memory" : bytes.join(" ");
}

/** Registers, a few in a line. */
export function describeRegisters(state: CpuState): string[] {
  const lines: string[] = [];
  for (let i = 0; i < GPR_NAMES.length; i += 4) {
    lines.push(
      GPR_NAMES.slice(i, i + 4)
        .map((name) => `${name.padEnd(3)} ${hex(state.gpr[name])}`)
        .join("  "),
    );
  }
  lines.push(`rip ${hex(state.rip)}  rflags ${hex(state.rflags, 8)}  efer ${hex(state.msrs.get(0xc0000080) ?? 0n, 4)}`);
  lines.push(`cr0 ${hex(state.cr0, 8)}  cr2 ${hex(state.cr2)}  cr3 ${hex(state.cr3)}  cr4 ${hex(state.cr4, 8)}`);
  for (const name of SEGMENT_NAMES) {
    const { selector, base, limit, attributes } = state.segments[name];
    const fields = [hex(BigInt(selector), 4), hex(base), hex(BigInt(limit), 8), hex(BigInt(attributes), 4)];
    lines.push(`${name.padEnd(4)} ${fields.join(" ")}`);
  }
  for (const [name, { base, limit }] of [["gdtr", state.gdtr] as const, ["idtr", state.idtr] as const]) {
    lines.push(`${name} ${hex(base)} ${hex(BigInt(limit), 4)}`);
  }
  return lines;
}
