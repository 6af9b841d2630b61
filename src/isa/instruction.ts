/**
 * What the instruction table holds, and its notation of encodings.
 *
 * A form is one line in the manner of the manual's opcode maps [SDM 2 appendix A]:
 *
 *     [VEX] [NP|66|F2|F3] opcode bytes [+r] [/r | /0../7 | =XX] [operands] [attributes]
 *
 * - A first word `NP`, `66`, `F2` or `F3` is a mandatory prefix; without it 66 is the operand size, F2/F3 are REP.
 * - `VEX` stands for a VEX prefix of two or three bytes with L = 0, which then holds the mandatory prefix and the opcode
 *   map [SDM 2 §2.3.5]; W is the operand size where an operand is `y`, else ignored.
 * - `/r` has a ModRM byte, `/3` one whose reg field is 3, `=D0` one that is exactly D0; `+r` a register in the opcode.
 * - Operands, comma-separated, are a letter for the place and one for the size. Places: `E` register or memory by
 *   ModRM.rm, `M` memory only, `R` register only; `G` ModRM.reg; `B` VEX.vvvv; `Z` opcode's low bits; `I` immediate; `J` relative
 *   target; `O` absolute offset; `V`/`W`/`U` XMM by reg / rm (or memory) / rm register only; `P`/`Q`/`N` the same for
 *   MMX; `T` an x87 register by ModRM.rm (seen by effects as an immediate: its number); `S`, `C`, `D` segment, control, debug register by ModRM.reg (seen by effects as an immediate: the number).
 *   Sizes: `b` 8, `w` 16, `d` 32, `q` 64, `v` operand size, `z` operand size with at most 32 encoded bits, `y` 32 or
 *   64 by REX.W, `dq` 128, `bs` an immediate of 8 bits sign-extended to the operand size. `M` alone: an address only.
 *   Fixed: `AL`, `CL`, `AX`, `DX`, `rAX` (operand size), `1`.
 * - Attributes: `lock` (LOCK allowed on memory), `o64`/`i64` (only / not in 64-bit mode), `d64` (operand size is 64 by
 *   default in 64-bit mode), `f64` (always 64 there).
 */

import type { Operand } from "./ir.ts";
import type { Semantics } from "./semantics.ts";

export type ContextPart = "addressSize" | "stackSize" | "rep" | "segment" | "long";

export interface Instruction {
  /** The manual's mnemonic. Where it stands for several effects, a second word tells them apart: `PUSH ES`. Handlers
   * are known by this name, the kinds and widths of operands, and the context. */
  readonly name: string;
  readonly forms: readonly string[];
  /** Writes the effect. Absent operands are a placeholder that must not be read. */
  readonly effect: (m: Semantics, a: Operand, b: Operand, c: Operand) => void;
  /** Parts of the context that the effect depends on besides the operand size; each value gets its own handler. */
  readonly uses?: readonly ContextPart[];
  /** RFLAGS bits that the manual leaves undefined after it: not compared by the fuzzer. */
  readonly undefinedFlags?: number;
  /** Cannot run in ring 3, or must not be fuzzed there. */
  readonly system?: boolean;
  /** CPUID feature it belongs to; absent for the base set. */
  readonly feature?: string;
  /** The feature that it belongs to with an operand size of 64 bits only. */
  readonly wideFeature?: string;
  /** Whether its immediate is a shift count: the decoder then tells effects that it is not 0. */
  readonly counts?: true;
  /** The trace ends after it, by a jump or otherwise: the decoder stops there. */
  readonly ends?: boolean;
  /** A conditional jump: it ends nothing, but is counted as a way out. */
  readonly branches?: boolean;
  /** Interrupts wait for one more instruction: the decoder ends the trace after the following one, with a poll. `stack`:
   * it loads SS (or may), and traps wait too. */
  readonly shadow?: "interrupts" | "stack";
}

/** An operand of a form as written: place and size letters. */
export interface OperandPattern {
  readonly place: string;
  readonly size: string;
}

export interface Form {
  readonly instruction: Instruction;
  /** Place among the decoder's forms. */
  readonly index: number;
  readonly text: string;
  /** Opcode map: 0 one-byte, 1 0F, 2 0F38, 3 0F3A. */
  readonly map: 0 | 1 | 2 | 3;
  readonly opcode: number;
  /** Encoded with a VEX prefix. */
  readonly vex: boolean;
  /** `any`: the form does not look at 66/F2/F3. */
  readonly prefix: "any" | "NP" | "66" | "F2" | "F3";
  readonly modrm: boolean;
  /** ModRM.reg, where it extends the opcode. */
  readonly digit: number | undefined;
  /** The whole ModRM byte, where it is part of the opcode. */
  readonly exact: number | undefined;
  readonly opcodeRegister: boolean;
  readonly operands: readonly OperandPattern[];
  readonly lock: boolean;
  readonly only64: boolean;
  readonly not64: boolean;
  readonly default64: boolean;
  readonly force64: boolean;
  /** Which ModRM.mod it takes: memory only, register only, both. */
  readonly rm: "memory" | "register" | "both";
}

const ATTRIBUTES = new Set(["lock", "o64", "i64", "d64", "f64"]);
const FIXED = new Set(["AL", "CL", "AX", "DX", "rAX", "1"]);

function parseOperand(text: string): OperandPattern {
  if (FIXED.has(text)) return { place: "fixed", size: text };
  return { place: text.slice(0, 1), size: text.slice(1) };
}

/** Reads one form. Throws on a malformed line: a mistake in our own table. */
export function parseForm(instruction: Instruction, text: string, index = 0): Form {
  const words = text.split(" ");
  let prefix: Form["prefix"] = "any";
  const head = (): string => words[0] ?? "";
  const vex = head() === "VEX";
  if (vex) words.shift();
  const first = head();
  if (first === "NP" || ((first === "66" || first === "F2" || first === "F3") && words[1] === "0F")) {
    prefix = first;
    words.shift();
  }
  let map: Form["map"] = 0;
  if (head() === "0F" && /^[0-9A-F]{2}/.test(words[1] ?? "")) {
    words.shift();
    map = 1;
    if ((head() === "38" || head() === "3A") && /^[0-9A-F]{2}/.test(words[1] ?? "")) {
      map = head() === "38" ? 2 : 3;
      words.shift();
    }
  }
  const code = /^([0-9A-F]{2})(\+r)?$/.exec(words.shift() ?? "");
  if (code === null) throw new Error(`form "${text}" of ${instruction.name} has no opcode`);
  let digit: number | undefined;
  let exact: number | undefined;
  let modrm = false;
  if (head().startsWith("/")) {
    modrm = true;
    const extension = words.shift() ?? "";
    if (extension !== "/r") digit = Number(extension.slice(1));
  } else if (head().startsWith("=")) {
    modrm = true;
    exact = Number.parseInt((words.shift() ?? "").slice(1), 16);
  }
  if (vex && (map === 0 || prefix === "any")) throw new Error(`form "${text}" of ${instruction.name} says too little`);
  const attributes = words.filter((w) => ATTRIBUTES.has(w));
  const rest = words.filter((w) => !ATTRIBUTES.has(w));
  if (rest.length > 1) throw new Error(`form "${text}" of ${instruction.name} has too many words`);
  const operands = rest.length === 0 ? [] : (rest[0] ?? "").split(",").map(parseOperand);
  const has = (...places: string[]) => operands.some((o) => places.includes(o.place));
  return {
    instruction,
    index,
    text,
    map,
    opcode: Number.parseInt(code[1] ?? "", 16),
    vex,
    prefix,
    modrm,
    digit,
    exact,
    opcodeRegister: code[2] !== undefined,
    operands,
    lock: attributes.includes("lock"),
    only64: attributes.includes("o64"),
    not64: attributes.includes("i64"),
    default64: attributes.includes("d64"),
    force64: attributes.includes("f64"),
    rm: has("M") ? "memory" : has("R", "U", "N", "T") || exact !== undefined ? "register" : "both",
  };
}
