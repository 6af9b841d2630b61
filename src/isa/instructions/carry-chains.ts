/** ADCX and ADOX: additions that carry through CF or OF alone, so that two chains run side by side [SDM 2]. */

import { CF, OF } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";

function chain(name: string, prefix: string, flag: number): Instruction {
  const place = Math.log2(flag);
  return {
    name,
    forms: [`${prefix} 0F 38 F6 /r Gy,Ey`],
    feature: "adx",
    effect(m, dst, src) {
      const b = m.read(src);
      const a = m.read(dst);
      const flags = m.arithmeticFlags();
      const carry = m.and(m.shrU(flags, place), 1);
      const result = m.add(m.add(a, b), m.fit(carry, dst.bits));
      m.write(dst, result);
      m.setSomeFlags(flag, m.shl(carryOut(m, a, b, result), place));
    },
  };
}

/** The carry out of the top bit (i32, 0 or 1). */
function carryOut(m: Semantics, a: Value, b: Value, result: Value): Value {
  const carries = m.or(m.and(a, b), m.and(m.or(a, b), m.not(result)));
  return m.resize(m.shrU(carries, a.type === "i64" ? 63 : 31), "i32");
}

export const CARRY_CHAINS: readonly Instruction[] = [chain("ADCX", "66", CF), chain("ADOX", "F3", OF)];
