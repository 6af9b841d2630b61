/**
 * One case of a test guest: the assembler with what cases do all the time. Names that begin with a dot are the case's
 * own labels. Logging changes no register and no flag.
 */

import { GPR_NAMES, type GprName } from "../../../src/cpu/vcpu.ts";
import { type AsmOperand, type Assembler, label, type Memory, mem } from "../../../src/isa/assembler.ts";
import type { Size } from "../../../src/isa/encode.ts";
import { ALIAS, IDT, VARIABLE, VARIABLES } from "./layout.ts";
import { gate } from "./tables.ts";

const NAME_BYTES = 8;

/** Memory at a fixed address below 2 GiB. */
export function at(address: number, bits: 8 | 16 | 32 | 64 = 64): Memory {
  return mem({ disp: address, bits });
}
export function by(base: string, bits: 8 | 16 | 32 | 64 = 64, disp = 0): Memory {
  return mem({ base, disp, bits });
}

export class CaseCode {
  readonly asm: Assembler;
  readonly #prefix: string;
  /** What ring 3 adds to an address of the guest's memory. */
  #alias: number;
  #attempts = 0;
  /** Width of registers that can be logged. */
  #wide: 32 | 64;

  constructor(asm: Assembler, prefix: string, { ring = 0, bits = 64 }: { ring?: 0 | 3; bits?: 32 | 64 } = {}) {
    this.asm = asm;
    this.#prefix = prefix;
    this.#alias = ring === 3 ? ALIAS : 0;
    this.#wide = bits;
  }

  #own(operand: AsmOperand | { size: Size }): AsmOperand | { size: Size } {
    if (typeof operand === "string") return operand.startsWith(".") ? this.#prefix + operand : operand;
    if (typeof operand !== "object" || "size" in operand) return operand;
    if (operand.kind === "mem" && operand.label?.startsWith(".") === true) {
      return { ...operand, label: this.#prefix + operand.label };
    }
    if (operand.kind === "label" && operand.name.startsWith(".")) {
      return { ...operand, name: this.#prefix + operand.name };
    }
    return operand;
  }
  emit(name: string, ...operands: (AsmOperand | { size: Size })[]): this {
    this.asm.emit(name, ...operands.map((operand) => this.#own(operand)));
    return this;
  }
  /** Prefixes of the next instruction. */
  rep(): this {
    this.asm.rep();
    return this;
  }
  repne(): this {
    this.asm.repne();
    return this;
  }
  lock(): this {
    this.asm.lock();
    return this;
  }
  /** Several instructions without operands. */
  all(...names: string[]): this {
    for (const name of names) this.asm.emit(name);
    return this;
  }
  mov(to: AsmOperand, from: AsmOperand): this {
    return this.emit("MOV", to, from);
  }
  lea(register: string, label: string): this {
    return this.emit("LEA", register, mem({ label }));
  }
  label(name: string): this {
    this.asm.label(this.#prefix + name);
    return this;
  }
  db(...values: (number | string)[]): this {
    this.asm.db(...values);
    return this;
  }
  /** What follows runs in another mode. */
  bits(bits: 16 | 32 | 64): this {
    this.asm.bits(bits);
    this.#wide = bits === 64 ? 64 : 32;
    return this;
  }
  /** What follows runs in this ring; it is told, not brought about. */
  ring(ring: 0 | 3): this {
    this.#alias = ring === 3 ? ALIAS : 0;
    return this;
  }

  /** A variable of the guest as this ring reaches it. */
  #variable(address: number): Memory {
    return at(address + this.#alias, this.#wide);
  }
  get #accumulator(): string {
    return this.#wide === 64 ? "rax" : "eax";
  }
  get #counter(): string {
    return this.#wide === 64 ? "rcx" : "ecx";
  }

  /** Logs a general register, as wide as the mode has it. */
  log(name: string, register: string): this {
    return this.#entry(name, (field) => {
      if (register === "rcx" || register === "ecx") {
        const [a] = [this.#accumulator];
        this.mov(this.#variable(VARIABLE.scratch2), a);
        this.mov(a, this.#variable(VARIABLE.scratch)).mov(field, a);
        this.mov(a, this.#variable(VARIABLE.scratch2));
      } else this.mov(field, register);
    });
  }
  /** Logs memory; what it is reached by may not be RAX or RCX. */
  logMemory(name: string, from: Memory): this {
    return this.#through(name, (a) => {
      const { bits = 64 } = from;
      if (bits === 64) this.mov(a, from);
      else if (bits === 32) this.mov("eax", from);
      else this.emit("MOVZX", "eax", from);
    });
  }
  /** Logs a segment, control or debug register. */
  logSystem(name: string, register: string): this {
    return this.#through(name, (a) => {
      const segment = ["es", "cs", "ss", "ds", "fs", "gs"].includes(register);
      this.mov(segment ? "eax" : a, register);
    });
  }
  /** Logs the flags; uses the stack. */
  logFlags(name: string): this {
    return this.emit("PUSHF")
      .#through(name, (a) => this.mov(a, mem({ base: this.#wide === 64 ? "rsp" : "esp", bits: this.#wide })))
      .emit(
        "LEA",
        this.#wide === 64 ? "rsp" : "esp",
        by(this.#wide === 64 ? "rsp" : "esp", this.#wide, this.#wide / 8),
      );
  }
  /** Logs a number that is known now: a mark. */
  mark(name: string, value = 0): this {
    return this.#entry(name, (field) => this.mov({ ...field, bits: 32 }, value));
  }

  #through(name: string, load: (accumulator: string) => void): this {
    const a = this.#accumulator;
    this.mov(this.#variable(VARIABLE.scratch2), a);
    load(a);
    return this.#entry(name, (field) => this.mov(field, a)).mov(a, this.#variable(VARIABLE.scratch2));
  }
  #entry(name: string, fill: (field: Memory) => void): this {
    if (name.length > NAME_BYTES) throw new RangeError(`"${name}" is longer than ${NAME_BYTES} bytes`);
    const bytes = new DataView(new ArrayBuffer(NAME_BYTES));
    for (let i = 0; i < name.length; i++) bytes.setUint8(i, name.charCodeAt(i));
    const c = this.#counter;
    const place = (disp: number, bits: 32 | 64) => mem({ base: c, disp: VARIABLES + this.#alias + disp, bits });
    this.mov(this.#variable(VARIABLE.scratch), c).mov(c, this.#variable(VARIABLE.pointer));
    this.mov(place(0, 32), bytes.getInt32(0, true)).mov(place(4, 32), bytes.getInt32(4, true));
    if (this.#wide === 32) this.mov(place(12, 32), 0);
    fill(place(8, this.#wide));
    return this.emit("LEA", c, by(c, this.#wide, 16))
      .mov(this.#variable(VARIABLE.pointer), c)
      .mov(c, this.#variable(VARIABLE.scratch));
  }

  /** Writes a quadword of memory below 2 GiB; neither registers nor flags change. */
  poke(address: number, value: bigint): this {
    const unsigned = BigInt.asUintN(64, value);
    const halves = [unsigned & 0xffff_ffffn, unsigned >> 32n];
    for (const [i, half] of halves.entries()) this.mov(at(address + i * 4, 32), BigInt.asIntN(32, half));
    return this;
  }
  /** A gate of the IDT to the runtime's own handler, or (`to`; RAX and flags change) to a label. */
  gate(
    vector: number,
    options: Omit<Parameters<typeof gate>[0], "offset"> & { to?: string; offset?: number } = {},
  ): this {
    const { to, ...rest } = options;
    const [low, high] = gate(rest);
    const entry = IDT + vector * 16;
    if (to === undefined) return this.poke(entry, low).poke(entry + 8, high);
    this.poke(entry, low)
      .poke(entry + 8, 0n)
      .lea("rax", to)
      .mov(at(entry, 16), "ax");
    return this.emit("SHR", "rax", 16).mov(at(entry + 6, 16), "ax");
  }

  /** After the next exceptions 32-bit code goes on at `label`. */
  onFault32(name: string): this {
    return this.mov(this.#variable(VARIABLE.resume32), label(name));
  }
  /** As `attempt`, in 32-bit protected mode. */
  attempt32(body: (c: this) => void): this {
    const place = `.attempt${this.#attempts++}`;
    this.onFault32(place);
    body(this);
    this.emit("UD2").label(place);
    return this.ring(0);
  }

  /** After the next exceptions ring 0 goes on at `label`, on its stack, in 64-bit mode. RAX changes. */
  onFault(label: string): this {
    return this.lea("rax", label)
      .emit("AND", "rax", ALIAS - 1)
      .mov(at(VARIABLE.resume + this.#alias), "rax");
  }
  /** Exceptions log these registers too. */
  logOnFault(...names: GprName[]): this {
    const mask = names.reduce((sum, name) => sum | (1 << GPR_NAMES.indexOf(name)), 0);
    return this.mov(at(VARIABLE.registers + this.#alias, 32), mask);
  }
  /** Exceptions log vector, error code and CR2 alone. */
  terse(): this {
    return this.mov(at(VARIABLE.terse + this.#alias, 32), 1);
  }
  /** Runs `body` and comes back to ring 0 by an exception; where it raises none, UD2 does. RAX changes. */
  attempt(body: (c: this) => void): this {
    const place = `.attempt${this.#attempts++}`;
    this.onFault(place);
    body(this);
    this.emit("UD2").label(place);
    return this.ring(0);
  }
  /** Ends the case; also reached by falling out of it. */
  end(): this {
    return this.#alias === 0 ? this.emit("JMP", "finish") : this.emit("INT", 0xff);
  }
  /** To ring 3 (64-bit code) at a label, by IRETQ, with its stack and interrupts off. */
  toUser(
    label: string,
    { flags = 2, selector = 0x33, stack = 0x2b }: { flags?: number; selector?: number; stack?: number } = {},
  ): this {
    this.emit("PUSH", stack).mov("rax", ALIAS + 0x29_8000);
    this.emit("PUSH", "rax").emit("PUSH", flags).emit("PUSH", selector);
    this.lea("rax", label).emit("ADD", "rax", ALIAS).emit("PUSH", "rax").mov("eax", 0);
    return this.emit("IRET", { size: 64 });
  }
}
