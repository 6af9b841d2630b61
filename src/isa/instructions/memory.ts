/** Hints, fences, caches, and the processor's state as one area of memory [SDM 2, SDM 1 chapter 13]. */

import type { Instruction } from "../instruction.ts";
import type { Operand } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { edxEax, requireExtensions, requireTaskNotSwitched, requireXsave } from "./system.ts";

const nothing = () => {};

const STATE_IMAGE_BYTES = 512;

/** Whether REX.W is there (i32): pointers of 64 bits in the saved x87 state. */
function wide(m: Semantics) {
  return m.i32(m.context.operandSize === 64 ? 1 : 0);
}

function legacyState(name: string, digit: number, helper: "fxsave" | "fxrstor"): Instruction {
  return {
    name,
    forms: [`NP 0F AE /${digit} M`],
    effect(m, area) {
      requireExtensions(m);
      const address = m.address(area);
      m.requireSegment(address, STATE_IMAGE_BYTES, helper === "fxsave");
      m.requireAligned(address, 16);
      // Nothing is written where a part of the image cannot be.
      if (helper === "fxsave") m.call("probeWrite", [address, m.i32(STATE_IMAGE_BYTES)]);
      m.call(helper, [address, wide(m)]);
    },
    feature: "fxsr",
  };
}

/** `form` as the helper takes it; 3 is the supervisor's. */
function extendedState(
  name: string,
  code: string,
  helper: "xsave" | "xrstor",
  form: number,
  feature: string,
): Instruction {
  return {
    name,
    forms: [`NP 0F ${code} M`],
    effect(m, area) {
      requireXsave(m);
      if (form === 3) m.requirePrivilege();
      requireTaskNotSwitched(m);
      const address = m.address(area);
      m.requireAligned(address, 64);
      m.call(helper, [address, edxEax(m), wide(m), m.i32(form)]);
    },
    system: true,
    feature,
  };
}

/** CLFLUSH and the like need the right to read the line; caches themselves do not exist here. */
function touch(m: Semantics, line: Operand): void {
  m.load(m.address(line), 8);
}

export const MEMORY: readonly Instruction[] = [
  {
    // Hints of every kind: prefetches, multi-byte NOP, ENDBR, and bounds checks without MPX. Memory is not touched.
    name: "NOP",
    forms: [
      "0F 0D /r Ev",
      "0F 18 /r Ev",
      "0F 19 /r Ev",
      "0F 1A /r Ev",
      "0F 1B /r Ev",
      "0F 1C /r Ev",
      "0F 1D /r Ev",
      "0F 1E /r Ev",
      "0F 1F /r Ev",
    ],
    effect: nothing,
  },
  { name: "LFENCE", forms: ["NP 0F AE /5 Rd"], effect: nothing },
  { name: "MFENCE", forms: ["NP 0F AE /6 Rd"], effect: nothing },
  { name: "SFENCE", forms: ["NP 0F AE /7 Rd"], effect: nothing },
  { name: "CLFLUSH", forms: ["NP 0F AE /7 Mb"], effect: touch, feature: "clflush" },
  { name: "CLFLUSHOPT", forms: ["66 0F AE /7 Mb"], effect: touch, feature: "clflushopt" },
  legacyState("FXSAVE", 0, "fxsave"),
  legacyState("FXRSTOR", 1, "fxrstor"),
  extendedState("XSAVE", "AE /4", "xsave", 0, "xsave"),
  extendedState("XSAVEOPT", "AE /6", "xsave", 1, "xsaveopt"),
  extendedState("XSAVEC", "C7 /4", "xsave", 2, "xsavec"),
  extendedState("XSAVES", "C7 /5", "xsave", 3, "xsaves"),
  extendedState("XRSTOR", "AE /5", "xrstor", 0, "xsave"),
  extendedState("XRSTORS", "C7 /3", "xrstor", 3, "xsaves"),
];
