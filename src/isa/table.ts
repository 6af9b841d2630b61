/** Every instruction there is, from the files of each subject. */

import type { Instruction } from "./instruction.ts";
import { AES } from "./instructions/aes.ts";
import { ALU } from "./instructions/alu.ts";
import { BIT_MANIPULATION } from "./instructions/bit-manipulation.ts";
import { BITS } from "./instructions/bits.ts";
import { CARRY_CHAINS } from "./instructions/carry-chains.ts";
import { CARRYLESS_MULTIPLY } from "./instructions/carryless-multiply.ts";
import { CONTROL } from "./instructions/control.ts";
import { DATA } from "./instructions/data.ts";
import { DECIMAL } from "./instructions/decimal.ts";
import { DESCRIPTOR } from "./instructions/descriptor.ts";
import { IO } from "./instructions/io.ts";
import { MEMORY } from "./instructions/memory.ts";
import { MULTIPLY } from "./instructions/multiply.ts";
import { SHA } from "./instructions/sha.ts";
import { SHIFT } from "./instructions/shift.ts";
import { SSE } from "./instructions/sse.ts";
import { STACK_INSTRUCTIONS } from "./instructions/stack.ts";
import { STRING } from "./instructions/string.ts";
import { SYSTEM } from "./instructions/system.ts";
import { X87 } from "./instructions/x87.ts";

export const INSTRUCTIONS: readonly Instruction[] = [
  ...ALU,
  ...DATA,
  ...SHIFT,
  ...BITS,
  ...BIT_MANIPULATION,
  ...CARRY_CHAINS,
  ...MULTIPLY,
  ...DECIMAL,
  ...STACK_INSTRUCTIONS,
  ...CONTROL,
  ...STRING,
  ...IO,
  ...MEMORY,
  ...SYSTEM,
  ...DESCRIPTOR,
  ...SSE,
  ...AES,
  ...CARRYLESS_MULTIPLY,
  ...SHA,
  ...X87,
];
