/** Moves between XMM registers, memory and general registers; MXCSR [SDM 2, SDM 1 §10.4, §11.4]. */

import type { Instruction } from "../instruction.ts";
import type { Operand } from "../ir.ts";
import { EXCEPTION, type Semantics } from "../semantics.ts";
import { maskMove, readAligned, sseGuard, writeAligned, zeroExtendVector } from "./sse-operands.ts";

/** A move of a whole vector by two opcodes: load and store. */
function whole(name: string, load: string, store: string, aligned: boolean): Instruction {
  return {
    name,
    forms: [`${load} /r Vdq,Wdq`, `${store} /r Wdq,Vdq`],
    effect(m, dst, src) {
      sseGuard(m);
      if (aligned) writeAligned(m, dst, readAligned(m, src));
      else m.write(dst, m.read(src));
    },
  };
}

/** Copies an operand as it is: the sizes of the form say what changes. */
function copy(name: string, ...forms: string[]): Instruction {
  return {
    name,
    forms,
    effect(m, dst, src) {
      sseGuard(m);
      m.write(dst, m.read(src));
    },
  };
}

/** Loads 32 or 64 bits into a register and clears the bits above. */
function zeroing(name: string, ...forms: string[]): Instruction {
  return {
    name,
    forms,
    effect(m, dst, src) {
      sseGuard(m);
      m.write(dst, zeroExtendVector(m, m.read(src)));
    },
  };
}

/** Aligned stores that bypass the caches; here plain stores. */
function nonTemporal(name: string, form: string): Instruction {
  return {
    name,
    forms: [`${form} /r Mdq,Vdq`],
    effect(m, dst, src) {
      sseGuard(m);
      writeAligned(m, dst, m.read(src));
    },
  };
}

/** Replaces one half of the destination by the low or high half of the source. */
function half(name: string, form: string, to: 0 | 1, from: 0 | 1): Instruction {
  return {
    name,
    forms: [form],
    effect(m, dst, src) {
      sseGuard(m);
      const value = m.read(src);
      const moved = value.type === "i64" ? value : m.lanes("i64x2.extract_lane", [from], value);
      m.write(dst, m.lanes("i64x2.replace_lane", [to], m.read(dst), moved));
    },
  };
}

/** Stores the high half. */
function storeHigh(name: string, form: string): Instruction {
  return {
    name,
    forms: [form],
    effect(m, dst, src) {
      sseGuard(m);
      m.write(dst, m.lanes("i64x2.extract_lane", [1], m.read(src)));
    },
  };
}

/** Bits of MXCSR that exist: the exception flags and masks, DAZ, rounding, FTZ [SDM 1 §10.2.3]. */
export const MXCSR_MASK = 0xffff;

/** Gathers the sign bit of every lane into a general register. */
function mask(name: string, form: string, op: string): Instruction {
  return {
    name,
    forms: [form],
    effect(m, dst, src) {
      sseGuard(m);
      m.write(dst, m.op(op, m.read(src)));
    },
  };
}

export const SSE_MOVES: readonly Instruction[] = [
  whole("MOVUPS", "NP 0F 10", "NP 0F 11", false),
  whole("MOVUPD", "66 0F 10", "66 0F 11", false),
  whole("MOVAPS", "NP 0F 28", "NP 0F 29", true),
  whole("MOVAPD", "66 0F 28", "66 0F 29", true),
  whole("MOVDQA", "66 0F 6F", "66 0F 7F", true),
  whole("MOVDQU", "F3 0F 6F", "F3 0F 7F", false),
  nonTemporal("MOVNTPS", "NP 0F 2B"),
  nonTemporal("MOVNTPD", "66 0F 2B"),
  nonTemporal("MOVNTDQ", "66 0F E7"),
  {
    // A general register's store; it needs no SSE state.
    name: "MOVNTI",
    forms: ["NP 0F C3 /r My,Gy"],
    effect(m, dst, src) {
      m.write(dst, m.read(src));
    },
  },
  zeroing("MOVSS", "F3 0F 10 /r Vdq,Md"),
  copy("MOVSS", "F3 0F 10 /r Vd,Ud", "F3 0F 11 /r Wd,Vd"),
  zeroing("MOVSD", "F2 0F 10 /r Vdq,Mq"),
  copy("MOVSD", "F2 0F 10 /r Vq,Uq", "F2 0F 11 /r Wq,Vq"),
  copy("MOVLPS", "NP 0F 12 /r Vq,Mq", "NP 0F 13 /r Mq,Vq"),
  copy("MOVLPD", "66 0F 12 /r Vq,Mq", "66 0F 13 /r Mq,Vq"),
  half("MOVHLPS", "NP 0F 12 /r Vdq,Udq", 0, 1),
  half("MOVHPS", "NP 0F 16 /r Vdq,Mq", 1, 0),
  half("MOVHPD", "66 0F 16 /r Vdq,Mq", 1, 0),
  half("MOVLHPS", "NP 0F 16 /r Vdq,Uq", 1, 0),
  storeHigh("MOVHPS", "NP 0F 17 /r Mq,Vdq"),
  storeHigh("MOVHPD", "66 0F 17 /r Mq,Vdq"),
  zeroing("MOVD", "66 0F 6E /r Vdq,Ey"),
  copy("MOVD", "66 0F 7E /r Ey,Vy"),
  zeroing("MOVQ", "F3 0F 7E /r Vdq,Wq", "66 0F D6 /r Udq,Vq"),
  copy("MOVQ", "66 0F D6 /r Mq,Vq"),
  mask("MOVMSKPS", "NP 0F 50 /r Gd,Udq", "i32x4.bitmask"),
  mask("MOVMSKPD", "66 0F 50 /r Gd,Udq", "i64x2.bitmask"),
  mask("PMOVMSKB", "66 0F D7 /r Gd,Udq", "i8x16.bitmask"),
  {
    name: "MASKMOVDQU",
    forms: ["66 0F F7 /r Vdq,Udq"],
    uses: ["addressSize", "segment"],
    effect(m, data, control) {
      sseGuard(m);
      maskMove(m, data, control, 128);
    },
  },
  {
    name: "LDMXCSR",
    forms: ["NP 0F AE /2 Md"],
    effect(m, src) {
      sseGuard(m);
      const value = m.read(src);
      m.faultWhen(m.and(value, ~MXCSR_MASK), EXCEPTION.GP, 0);
      m.setField("mxcsr", value);
    },
  },
  {
    name: "STMXCSR",
    forms: ["NP 0F AE /3 Md"],
    effect(m, dst) {
      sseGuard(m);
      m.write(dst, m.field("mxcsr"));
    },
  },
  { ...whole("LDDQU", "F2 0F F0", "", false), forms: ["F2 0F F0 /r Vdq,Mdq"], feature: "sse3" },
  {
    name: "MOVDDUP",
    forms: ["F2 0F 12 /r Vdq,Wq"],
    feature: "sse3",
    effect(m, dst, src) {
      sseGuard(m);
      m.write(dst, m.op("i64x2.splat", m.read(src)));
    },
  },
  {
    name: "MOVSLDUP",
    forms: ["F3 0F 12 /r Vdq,Wdq"],
    feature: "sse3",
    effect(m, dst, src) {
      duplicate(m, dst, src, 0);
    },
  },
  {
    name: "MOVSHDUP",
    forms: ["F3 0F 16 /r Vdq,Wdq"],
    feature: "sse3",
    effect(m, dst, src) {
      duplicate(m, dst, src, 1);
    },
  },
];

/** Every even (0) or odd (1) single twice. */
function duplicate(m: Semantics, dst: Operand, src: Operand, odd: 0 | 1): void {
  sseGuard(m);
  const value = readAligned(m, src);
  const lanes = Array.from({ length: 16 }, (_, i) => (i & 8) + odd * 4 + (i & 3));
  m.write(dst, m.lanes("i8x16.shuffle", lanes, value, value));
}
