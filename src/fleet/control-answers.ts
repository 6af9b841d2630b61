/** What a VM's process says, as the server checks it: a guest that broke out of its engine would speak here. */

import { z } from "zod";
import { type ExitReport, type Screen, TOLD_EXIT_KINDS, VM_PROCESS_STATES, type VmReport } from "./control-protocol.ts";

export const screenSchema = z.object({
  columns: z.int(),
  rows: z.int(),
  lines: z.array(z.string()).meta({ description: "the text, a string each row, without the spaces at its end" }),
  painted: z
    .array(z.string())
    .meta({ description: "the same in colour, in full width: what a terminal prints [ECMA-48, SGR]" }),
  cursor: z.object({ column: z.int(), row: z.int() }).nullable().meta({ description: "null: it is not shown" }),
}) satisfies z.ZodType<Screen>;

const vmReportSchema: z.ZodType<VmReport> = z.object({
  state: z.enum(VM_PROCESS_STATES),
  resets: z.int().nonnegative(),
  cpuMicros: z.number().nonnegative(),
  throttledMs: z.number().nonnegative(),
  instructions: z.number().nonnegative(),
});

export const controlAnswerSchema = z.union([
  z.object({ id: z.int(), ok: vmReportSchema, screen: screenSchema.nullable().optional() }),
  z.object({ id: z.int(), error: z.string() }),
  /** A change of state or use, unasked. */
  z.object({ notice: vmReportSchema }),
  z.object({ gap: z.number().nonnegative() }),
]);

export const exitReportSchema: z.ZodType<ExitReport> = z.object({
  kind: z.enum(TOLD_EXIT_KINDS),
  message: z.string(),
  time: z.iso.datetime(),
});
