/**
 * MMX instructions that are not the narrow twin of an SSE one: moves, masks, EMMS [SDM 1 chapter 9, SDM 3 chapter 12].
 * Arithmetic, shifts and shuffles are in sse-*.ts.
 */

import type { Instruction } from "../instruction.ts";
import type { Operand } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { enterMmx, maskMove, mmxGuard, readVector, sseGuard, writeMmx, zeroExtendVector } from "./sse-operands.ts";

/** Writes a 64-bit or zero-extended 32-bit source to an MMX register. */
function load(m: Semantics, dst: Operand, src: Operand): void {
  mmxGuard(m);
  writeMmx(m, dst, zeroExtendVector(m, m.read(src)));
}

/** Copies from an MMX register to memory or a general register. */
function store(m: Semantics, dst: Operand, src: Operand): void {
  mmxGuard(m);
  m.write(dst, m.read(src));
  enterMmx(m);
}

export const MMX: readonly Instruction[] = [
  { name: "MOVD", forms: ["NP 0F 6E /r Pdq,Ey"], effect: load },
  { name: "MOVD", forms: ["NP 0F 7E /r Ey,Py"], effect: store },
  { name: "MOVQ", forms: ["NP 0F 6F /r Pdq,Qq", "NP 0F 7F /r Ndq,Pq"], effect: load },
  { name: "MOVQ", forms: ["NP 0F 7F /r Mq,Pq"], effect: store },
  { name: "MOVNTQ", forms: ["NP 0F E7 /r Mq,Pq"], effect: store },
  {
    name: "MOVQ2DQ",
    forms: ["F3 0F D6 /r Vdq,Nq"],
    effect(m, dst, src) {
      sseGuard(m);
      mmxGuard(m);
      m.write(dst, zeroExtendVector(m, m.read(src)));
      enterMmx(m);
    },
  },
  {
    name: "MOVDQ2Q",
    forms: ["F2 0F D6 /r Pdq,Uq"],
    effect(m, dst, src) {
      sseGuard(m);
      load(m, dst, src);
    },
  },
  {
    name: "PMOVMSKB",
    forms: ["NP 0F D7 /r Gd,Nq"],
    effect(m, dst, src) {
      mmxGuard(m);
      m.write(dst, m.and(m.op("i8x16.bitmask", readVector(m, src)), 0xff));
      enterMmx(m);
    },
  },
  {
    name: "MASKMOVQ",
    forms: ["NP 0F F7 /r Pdq,Ndq"],
    uses: ["addressSize", "segment"],
    effect(m, data, control) {
      mmxGuard(m);
      // Processors enter MMX even if the store faults.
      enterMmx(m);
      maskMove(m, data, control, 64);
    },
  },
  {
    name: "EMMS",
    forms: ["NP 0F 77"],
    effect(m) {
      mmxGuard(m);
      enterMmx(m, 0);
    },
  },
];
