/**
 * Which memory accesses of a region go on where they went before: those whose base and index only move by steps within
 * the innermost loop around them, and those by a register that is used often. For these the page last found in the TLB
 * is kept at a fixed place; an access to the same page is one comparison. Random accesses would only pay for it. (Kept in
 * locals, each would be two more values to carry round every loop, and V8 has registers for few.)
 *
 * Kept pages die with the region's run: nothing within it changes what the TLB holds, or the view.
 */

import type { Decoded } from "../../../isa/decode.ts";
import type { Statement } from "../../../isa/ir.ts";
import { RSP } from "../../../isa/semantics.ts";
import { gprOffset, STATE } from "../../../isa/state.ts";
import { isGpr } from "./general-registers.ts";
import type { Region, RegionInstruction } from "./region.ts";
import type { ControlFlow } from "./structure.ts";

/** Instructions that move a pointer by a little, or set it to what is known outside the loop. */
const STEPS: ReadonlySet<string> = new Set(["ADD", "SUB", "INC", "DEC", "LEA", "PUSH", "POP", "CALL", "RET", "MOV"]);
/** Accesses outside loops by one base, from which on it is kept. */
const OFTEN = 3;
/** Index of a table of 256 entries. */
const BYTE = 8;

/** Names the accesses by the stack pointer. */
export const STACK = "stack";

/** Names the accesses that share a page: those by the same registers. */
export function streamKey({ base, index, scale, context }: Decoded): string {
  if (base === gprOffset(RSP) && index === STATE.zero.offset) return STACK;
  return `${base}/${index}/${scale}/${context.segment}`;
}

function isStep({ decoded }: RegionInstruction): boolean {
  const { form, operands } = decoded;
  const [, source] = operands;
  const { name } = form.instruction;
  if (name === "MOVZX") return source?.bits === BYTE;
  // A step that lies in a register is as often a stride of pages.
  if (name === "ADD" || name === "SUB") return source?.kind === "imm";
  return STEPS.has(name) && (source?.kind !== "mem" || name === "LEA");
}

/** Registers that a move takes its value from, or LEA its address. */
function madeOf({ decoded }: RegionInstruction): readonly number[] {
  const [, source] = decoded.operands;
  if (source?.kind === "mem") return [decoded.base, decoded.index];
  return source?.kind === "reg" ? [decoded.registers[source.index as 0 | 1 | 2] & ~7] : [];
}

/** General registers (by the offset of their 8 bytes) that an instruction writes. */
function writtenBy({ decoded, statements }: RegionInstruction): number[] {
  const found: number[] = [];
  const visit = (list: readonly Statement[]) => {
    for (const s of list) {
      if (s.kind === "if") {
        visit(s.then);
        visit(s.else);
      }
      const offset =
        s.kind === "setOperand"
          ? decoded.registers[s.operand.index as 0 | 1 | 2]
          : s.kind === "setState"
            ? s.offset
            : undefined;
      if (offset !== undefined && isGpr(offset)) found.push(offset & ~7);
    }
  };
  visit(statements);
  return found;
}

export class Streams {
  /** By block: the registers that jump about in the innermost loop around it. */
  readonly #jumping = new Map<number, ReadonlySet<number>>();
  readonly #counts = new Map<string, number>();
  readonly #enabled: boolean;

  constructor(region: Region, flow: ControlFlow, successors: (block: number) => readonly number[]) {
    const blocks = [...region.blocks.values()];
    this.#enabled = !blocks.some(({ instructions }) =>
      instructions.some(({ statements }) => statements.some((s) => s.kind === "call" && s.call.name === "viewChanged")),
    );
    const before = new Map<number, number[]>();
    for (const from of flow.order) {
      for (const to of successors(from)) before.set(to, [...(before.get(to) ?? []), from]);
    }
    const bodies = new Map<number, Set<number>>();
    for (const from of flow.order) {
      for (const head of successors(from)) {
        if (flow.edge(from, head) !== "back") continue;
        const body = bodies.get(head) ?? new Set([head]);
        bodies.set(head, body);
        const waiting = [from];
        for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
          if (body.has(at)) continue;
          body.add(at);
          waiting.push(...(before.get(at) ?? []));
        }
      }
    }
    // The smallest loops last: each block keeps its innermost one.
    for (const body of [...bodies.values()].sort((a, b) => b.size - a.size)) {
      const jumping = new Set<number>();
      const instructions = [...body].flatMap((at) => region.blocks.get(at)?.instructions ?? []);
      // What is made of a register that jumps about does so too.
      for (let before = -1; jumping.size > before; ) {
        before = jumping.size;
        for (const instruction of instructions) {
          if (isStep(instruction) && !madeOf(instruction).some((offset) => jumping.has(offset))) continue;
          for (const offset of writtenBy(instruction)) jumping.add(offset);
        }
      }
      for (const at of body) this.#jumping.set(at, jumping);
    }
    for (const { instructions } of blocks) {
      for (const { decoded } of instructions) {
        if (!decoded.operands.some(({ kind }) => kind === "mem")) continue;
        const key = streamKey(decoded);
        this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
      }
    }
  }

  /** Whether the page of an instruction's memory operand is kept. */
  keeps(block: number, decoded: Decoded): boolean {
    if (!this.#enabled) return false;
    const jumping = this.#jumping.get(block);
    if (jumping === undefined) return (this.#counts.get(streamKey(decoded)) ?? 0) >= OFTEN;
    return [decoded.base, decoded.index].every((offset) => offset === STATE.zero.offset || !jumping.has(offset));
  }
  /** The same for the stack. */
  get keepsStack(): boolean {
    return this.#enabled;
  }
}
