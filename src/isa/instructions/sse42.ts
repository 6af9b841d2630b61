/** SSE4.2: PCMPGTQ, the string compares, CRC32 [SDM 2; SDM 1 §12.10]. */

import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import { RAX, RCX, RDX, type Semantics } from "../semantics.ts";
import { SCRATCH, xmmOffset } from "../state.ts";
import { by, xmm } from "./sse-integer.ts";
import { placeOf, sseGuard } from "./sse-operands.ts";

const FEATURE = "sse4_2";
/** Scratch slot in which the helper leaves its index or mask. */
const RESULT = SCRATCH + 2 * 16;

/** Bits above the immediate in the helper's control word. */
export const STRING_EXPLICIT = 1 << 8;
export const STRING_MASK = 1 << 9;

/** PCMPESTRI to PCMPISTRM: unlike other SSE instructions they take unaligned memory. */
function strings(name: string, opcode: string, explicit: boolean, mask: boolean): Instruction {
  return {
    name,
    forms: [`66 0F 3A ${opcode} /r Vdq,Wdq,Ib`],
    feature: FEATURE,
    effect(m, first, second, immediate) {
      sseGuard(m);
      const place = placeOf(m, second, m.read(second), 0);
      const control = m.or(m.read(immediate), (explicit ? STRING_EXPLICIT : 0) | (mask ? STRING_MASK : 0));
      const bits = m.context.operandSize === 64 ? 64 : 32;
      const length = (register: number) => (explicit ? m.signExtend64(m.gpr(register, bits), bits) : m.i64(0));
      const args = [control, m.operandOffset(first), place, length(RAX), length(RDX)];
      const flags = m.helper("sseStrings", "i32", args, true);
      if (mask) m.setState(xmmOffset(0), 128, m.state(RESULT, 128));
      else m.setGpr(RCX, 32, m.state(RESULT, 32));
      m.setArithmeticFlags(flags);
    },
  };
}

/** CRC32 over 8 to 64 bits, with the polynomial of iSCSI. */
function checksum(m: Semantics, dst: Operand, src: Operand): void {
  const data = m.read(src);
  const low: Value = m.resize(data, "i32");
  const high = data.type === "i64" ? m.resize(m.shrU(data, 32), "i32") : m.i32(0);
  m.write(dst, m.helper("crc32c", "i32", [m.read(dst), low, high, m.i32(src.bits / 8)], true));
}

export const SSE42: readonly Instruction[] = [
  xmm("PCMPGTQ", "66 0F 38 37", by("i64x2.gt_s"), FEATURE),
  strings("PCMPESTRM", "60", true, true),
  strings("PCMPESTRI", "61", true, false),
  strings("PCMPISTRM", "62", false, true),
  strings("PCMPISTRI", "63", false, false),
  { name: "CRC32", forms: ["F2 0F 38 F0 /r Gd,Eb", "F2 0F 38 F1 /r Gd,Ev"], feature: FEATURE, effect: checksum },
];
