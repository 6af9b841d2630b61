/** A failure as a person reads it: seed, case, bytes, disassembly, inputs and every difference. */

import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from "iced-x86";
import { GPR_NAMES } from "../../src/cpu/vcpu.ts";
import type { TestCase } from "./cases.ts";
import { type Difference, wide } from "./compare.ts";
import { CODE_ADDRESS, CODE_ADDRESS_32 } from "./image.ts";
import { BLOCK, type CodeBits } from "./layout.ts";
import { DROPPED } from "./shrink.ts";

export function disassemble(code: Uint8Array, address: bigint, bits: CodeBits): string[] {
  const decoder = new Decoder(bits, code, DecoderOptions.AMD);
  decoder.ip = address;
  const formatter = new Formatter(FormatterSyntax.Intel);
  const lines: string[] = [];
  while (decoder.canDecode) {
    const start = decoder.position;
    const instruction = decoder.decode();
    const bytes = Buffer.from(code.subarray(start, decoder.position)).toString("hex");
    const place = (address + BigInt(start)).toString(16);
    lines.push(`${place}  ${bytes.padEnd(24)}  ${formatter.format(instruction)}`);
    instruction.free();
  }
  decoder.free();
  formatter.free();
  return lines;
}

/** The state before the case; what is zero is left out. */
function inputLines(input: Uint8Array): string[] {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const lines: string[] = [];
  for (const [index, name] of GPR_NAMES.entries()) {
    const value = view.getBigUint64(BLOCK.gpr + 8 * index, true);
    if (value !== 0n) lines.push(`${name} 0x${value.toString(16)}`);
  }
  lines.push(`rflags 0x${view.getUint32(BLOCK.rflags, true).toString(16)}`);
  lines.push(`mxcsr 0x${view.getUint32(BLOCK.fx + 24, true).toString(16)}`);
  for (let i = 0; i < 16; i++) {
    const value = wide(view, BLOCK.fx + 160 + 16 * i);
    if (/[1-9a-f]/.test(value)) lines.push(`xmm${i} ${value}`);
  }
  return lines;
}

export interface FailureReport {
  readonly seed: number;
  /** Options with which the case was made, besides the seed. */
  readonly selection?: string;
  /** It comes from a file of vectors, not from the generator. */
  readonly recorded?: boolean;
  readonly test: TestCase;
  readonly expectedName: string;
  readonly actualName: string;
  readonly differences: readonly Difference[];
}

export function describeFailure({
  seed,
  selection = "",
  recorded = false,
  test,
  expectedName,
  actualName,
  differences,
}: FailureReport): string {
  const codeAddress = test.bits === 64 ? CODE_ADDRESS : CODE_ADDRESS_32;
  const again = `npm run fuzz -- --seed ${seed} --start ${test.number} --count 1${selection}`;
  const lines = [
    `mismatch: seed ${seed} case ${test.number}${recorded ? "" : ` (again: ${again})`}`,
    ...test.instructions.filter(({ name }) => name !== DROPPED).map(({ name }) => `  form    ${name}`),
    ...disassemble(test.code, codeAddress + BigInt(test.codeOffset), test.bits)
      .filter((line) => !line.endsWith("  nop"))
      .map((line) => `  code    ${line}`),
    ...inputLines(test.input).map((line) => `  before  ${line}`),
    ...differences.map(
      ({ what, expected, actual }) => `  after   ${what}: ${expectedName} ${expected}, ${actualName} ${actual}`,
    ),
  ];
  return lines.join("\n");
}
