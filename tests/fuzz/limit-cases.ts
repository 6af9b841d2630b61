/** Code whose exception the processor decides by segments and alignment, not by pages; each was wrong here once. */

import { INSTRUCTIONS } from "../../src/isa/table.ts";
import { CaseMaker, toBatch } from "./cases.ts";
import { FormGenerator } from "./form-generator.ts";
import type { Ring3Engine } from "./image.ts";
import { BLOCK, type CodeBits } from "./layout.ts";

export interface LimitCase {
  readonly name: string;
  readonly bits: CodeBits;
  /** Hexadecimal. */
  readonly code: string;
  readonly vector: number;
  /** What processors raise that let a flat segment's operand wrap, as the SDM allows [SDM 3 §5.3]. */
  readonly wrapped?: number;
}

const SS = 12;
const GP = 13;
const PF = 14;

export const LIMIT_CASES: readonly LimitCase[] = [
  { name: "a push that runs over the end of 4 GiB", bits: 32, code: "bc01000000 68ff7f0000", vector: SS, wrapped: PF },
  { name: "a load by SS over the end", bits: 32, code: "b9ffffffff 363911", vector: SS, wrapped: PF },
  { name: "an x87 store over the end", bits: 32, code: "b9ffffffff d911", vector: GP, wrapped: PF },
  { name: "16 bytes over the end", bits: 32, code: "b9f8ffffff 0f1019", vector: GP, wrapped: PF },
  { name: "an x87 store into a code segment", bits: 32, code: "2ed91425d82f815a", vector: GP },
  { name: "a bit of a code segment, by a register", bits: 32, code: "2e0fb33dd82f815a", vector: GP },
  {
    name: "a misaligned operand that is not canonical, by RSP",
    bits: 64,
    code: "48bc0100000000000070 0f580c24",
    vector: GP,
  },
];

/** The exception that a case raises on an engine. */
export function vectorOf({ bits, code }: LimitCase, engine: Ring3Engine): number {
  const maker = new CaseMaker(1, new FormGenerator(INSTRUCTIONS, undefined, "", bits));
  const bytes = new Uint8Array(Buffer.from(code.replaceAll(" ", ""), "hex"));
  const { outputs } = engine.run(toBatch([maker.makeWith(0, bytes, [], 0)], maker.window));
  return new DataView(outputs.buffer, outputs.byteOffset).getUint32(BLOCK.vector, true);
}
