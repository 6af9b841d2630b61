/** All of SSE and MMX, from the files of each subject. */

import type { Instruction } from "../instruction.ts";
import { MMX } from "./mmx.ts";
import { SSE_ARITHMETIC } from "./sse-arithmetic.ts";
import { SSE_COMPARE } from "./sse-compare.ts";
import { SSE_CONVERT } from "./sse-convert.ts";
import { SSE_INTEGER } from "./sse-integer.ts";
import { SSE_MOVES } from "./sse-moves.ts";
import { SSE_SHIFTS } from "./sse-shifts.ts";
import { SSE_SHUFFLES } from "./sse-shuffles.ts";
import { SSE41 } from "./sse41.ts";
import { SSE42 } from "./sse42.ts";
import { SSSE3 } from "./ssse3.ts";

export const SSE: readonly Instruction[] = [
  ...SSE_MOVES,
  ...SSE_INTEGER,
  ...SSE_SHIFTS,
  ...SSE_SHUFFLES,
  ...SSE_ARITHMETIC,
  ...SSE_COMPARE,
  ...SSE_CONVERT,
  ...MMX,
  ...SSSE3,
  ...SSE41,
  ...SSE42,
];
