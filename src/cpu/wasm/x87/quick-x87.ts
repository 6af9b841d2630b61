/**
 * The x87 instructions that programs run nearly always, in WebAssembly: the helper `x87` with the same arguments and
 * outcomes as the unit in TypeScript, which it calls for everything else, before anything is changed.
 */

import {
  C0,
  C3,
  CONTROL_FIXED,
  CONTROL_WRITABLE,
  ES,
  TOP_MASK,
  TOP_SHIFT,
  X87_AX,
  X87_EFLAGS,
  X87_STORE,
} from "../../../isa/float/x87-state.ts";
import { STATE, X87_OPERAND, X87_REGISTERS } from "../../../isa/state.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { ModuleBuilder } from "../../../wasm/module.ts";
import { STATE_BASE } from "../layout.ts";
import {
  above,
  add,
  and,
  below,
  both,
  call,
  choose,
  either,
  equal,
  type Expression,
  FunctionEmitter,
  type FunctionReference,
  hasAny,
  isZero,
  leadingZeros,
  load,
  type Local,
  low32,
  notEqual,
  or,
  shiftLeft,
  shiftRight,
  sub,
  widen,
  xor,
} from "../memory/emitter.ts";
import {
  C1,
  defineExtendedArithmetic,
  type Extended,
  exponentOf,
  isNull,
  isOdd,
  PRECISION,
  setStatus,
  status,
} from "./extended-arithmetic.ts";

/** (opcode, ModRM, arithmetic flags, 16-bit operands) -> outcome. */
export type X87Helper = (opcode: number, modrm: number, flags: number, operand16: number) => number;

const BIAS = 16_383;
const SIGN = 0x8000;
const TOP_BIT = -(1n << 63n);
const ALL_MASKED = 0x3f;
const NEAREST = 0;
const TRUNCATE = 0xc00;
const ROUNDING = 0xc00;
const PRECISION_CONTROL = 0x300;
const REGISTER_BYTES = 16;

const at = (name: "fcw" | "ftw" | "fop" | "fip" | "fdp" | "scratch" | "scratch2") => STATE_BASE + STATE[name].offset;
const OPERAND = STATE_BASE + X87_OPERAND;

const control = () => load("i32.load16_u", 0, at("fcw"));
const tags = () => load("i32.load8_u", 0, at("ftw"));
const top = () => and(shiftRight(status(), TOP_SHIFT), 7);
const physical = (i: Expression | number) => and(add(top(), i), 7);
/** Place of a register by its physical number. */
const placeOf = (register: Expression) =>
  add(shiftLeft(register, Math.log2(REGISTER_BYTES)), STATE_BASE + X87_REGISTERS);
const holds = (register: Expression) => and(shiftRight(tags(), register), 1);

/** Writes the function; each part of it ends by `done`, or falls through to the unit where it cannot do the work. */
class QuickX87 {
  readonly f: FunctionEmitter;
  readonly #slow: FunctionReference;
  readonly #opcode: Local;
  readonly #modrm: Local;
  readonly #arithmetic: FunctionReference;
  /** Places of ST(0) and ST(i). */
  readonly #first: Local;
  readonly #other: Local;
  readonly #a: Extended;
  readonly #b: Extended;
  readonly #bits: Local;
  readonly #number: Local;
  readonly #outcome: Local;

  constructor(module: ModuleBuilder, slow: FunctionReference) {
    this.#slow = slow;
    this.#arithmetic = defineExtendedArithmetic(module).arithmetic;
    const f = new FunctionEmitter(module, ["i32", "i32", "i32", "i32"], "i32", "x87");
    this.f = f;
    this.#opcode = f.parameter(0);
    this.#modrm = f.parameter(1);
    this.#first = f.local("i32");
    this.#other = f.local("i32");
    this.#a = { head: f.local("i32"), significand: f.local("i64") };
    this.#b = { head: f.local("i32"), significand: f.local("i64") };
    this.#bits = f.local("i64");
    this.#number = f.local("i32");
    this.#outcome = f.local("i32");

    const opcode = (value: number) => equal(this.#opcode, value);
    const field = (value: number) => equal(and(shiftRight(this.#modrm, 3), 7), value);
    // A waiting exception comes first.
    f.if(isZero(hasAny(status(), ES)), () => {
      f.if(
        below(this.#modrm, 0xc0),
        () => {
          f.if(either(opcode(0xd8), opcode(0xdc)), () => this.#arithmeticWithMemory());
          f.if(opcode(0xd9), () => {
            f.if(field(0), () => this.#loadSingle());
            f.if(either(field(2), field(3)), () => this.#storeFloat(32));
            f.if(field(7), () => this.#storeControl());
            f.if(field(5), () => this.#loadControl());
          });
          f.if(opcode(0xdd), () => {
            f.if(field(0), () => this.#loadDouble());
            f.if(either(field(2), field(3)), () => this.#storeFloat(64));
          });
          f.if(opcode(0xdb), () => {
            f.if(field(0), () => this.#loadInteger(() => f.set(this.#bits, load("i64.load32_s", 0, OPERAND))));
            f.if(field(5), () => this.#loadExtended());
            f.if(field(7), () => this.#storeExtended());
            f.if(either(field(2), field(3)), () => this.#storeInteger(32));
          });
          f.if(opcode(0xdf), () => {
            f.if(field(0), () => this.#loadInteger(() => f.set(this.#bits, load("i64.load16_s", 0, OPERAND))));
            f.if(field(5), () => this.#loadInteger(() => f.set(this.#bits, load("i64.load", 0, OPERAND))));
            f.if(field(7), () => this.#storeInteger(64));
          });
        },
        () => {
          f.if(either(opcode(0xd8), either(opcode(0xdc), opcode(0xde))), () => this.#arithmeticWithRegister());
          f.if(opcode(0xd9), () => {
            f.if(field(0), () => this.#loadRegister());
            f.if(field(1), () => this.#exchange());
            f.if(below(xor(this.#modrm, 0xe0), 2), () => this.#changeSign());
            f.if(equal(this.#modrm, 0xe8), () => this.#loadConstant(BIAS, TOP_BIT));
            f.if(equal(this.#modrm, 0xee), () => this.#loadConstant(0, 0n));
          });
          f.if(opcode(0xdd), () => f.if(either(field(2), field(3)), () => this.#storeRegister()));
          f.if(either(opcode(0xdb), opcode(0xdf)), () => {
            f.if(either(field(5), field(6)), () => this.#compareFlags());
            f.if(both(opcode(0xdf), equal(this.#modrm, 0xe0)), () => f.return(or(status(), X87_AX)));
          });
        },
      );
    });
    this.#slowly();
    f.unreachable();
  }

  #slowly(): void {
    this.f.return(call(this.#slow, this.#opcode, this.#modrm, this.f.parameter(2), this.f.parameter(3)));
  }

  /** Notes the instruction and its operand, as all do but those that control the unit, and ends. */
  #done(outcome: Expression | number, hasOperand: boolean): void {
    const { f } = this;
    f.store("i32.store16", 0, or(shiftLeft(and(this.#opcode, 7), 8), this.#modrm), at("fop"));
    f.store("i64.store", 0, load("i64.load", 0, at("scratch")), at("fip"));
    if (hasOperand) f.store("i64.store", 0, load("i64.load", 0, at("scratch2")), at("fdp"));
    f.return(outcome);
  }

  #take(operand: Extended, place: Local): void {
    this.f.set(operand.significand, load("i64.load", place));
    this.f.set(operand.head, load("i32.load16_u", place, 8));
  }
  #put(place: Local | Expression, head: Expression | number, significand: Expression | bigint): void {
    this.f.store("i64.store", place, significand);
    this.f.store("i32.store16", place, head, 8);
  }
  #pop(): void {
    const { f } = this;
    f.store("i32.store8", 0, and(tags(), xor(shiftLeft(1, top()), -1)), at("ftw"));
    setStatus(f, or(and(status(), ~TOP_MASK), shiftLeft(physical(1), TOP_SHIFT)));
  }
  #popIf(condition: Expression): void {
    this.f.if(condition, () => this.#pop());
  }
  /** Sets C1 to 0. */
  #clearC1(): void {
    setStatus(this.f, and(status(), ~C1));
  }

  /** Runs `then` where a register is not empty; its place is in `place`. */
  #withRegister(i: Expression | number, place: Local, then: () => void): void {
    const { f } = this;
    f.set(place, physical(i));
    f.if(holds(place), () => {
      f.set(place, placeOf(place));
      then();
    });
  }
  get #index(): Expression {
    return and(this.#modrm, 7);
  }
  get #field(): Expression {
    return and(shiftRight(this.#modrm, 3), 7);
  }

  /** Runs `then` where there is room for a new ST(0), whose place is in `#first`; it is not pushed yet. */
  #withRoom(then: () => void): void {
    const { f } = this;
    f.set(this.#first, physical(7));
    f.if(isZero(holds(this.#first)), () => {
      f.set(this.#first, placeOf(this.#first));
      then();
    });
  }
  #push(head: Expression | number, significand: Expression | bigint): void {
    const { f } = this;
    this.#put(this.#first, head, significand);
    setStatus(f, or(and(status(), ~(TOP_MASK | C1)), shiftLeft(physical(7), TOP_SHIFT)));
    f.store("i32.store8", 0, or(tags(), shiftLeft(1, top())), at("ftw"));
  }

  // --- arithmetic ---

  /** Rounding to nearest with 64 bits, and all exceptions masked. */
  #ordinary(then: () => void): void {
    this.f.if(equal(and(control(), ROUNDING | PRECISION_CONTROL | ALL_MASKED), PRECISION_CONTROL | ALL_MASKED), then);
  }

  #arithmeticWithRegister(): void {
    const { f } = this;
    const isComparison = equal(and(this.#field, 6), 2);
    const toOther = notEqual(this.#opcode, 0xd8);
    f.if(isZero(isComparison), () => {
      this.#ordinary(() => {
        this.#withRegister(0, this.#first, () => {
          this.#withRegister(this.#index, this.#other, () => {
            this.#take(this.#a, this.#first);
            this.#take(this.#b, this.#other);
            f.set(this.#first, choose(toOther, this.#other, this.#first));
            f.if(this.#compute(), () => {
              this.#popIf(equal(this.#opcode, 0xde));
              this.#done(0, false);
            });
          });
        });
      });
    });
  }

  #compute(): Expression {
    const [a, b] = [this.#a, this.#b];
    return call(this.#arithmetic, this.#field, a.head, a.significand, b.head, b.significand, this.#first);
  }

  #arithmeticWithMemory(): void {
    const { f } = this;
    const isComparison = equal(and(this.#field, 6), 2);
    f.if(isZero(isComparison), () => {
      this.#ordinary(() => {
        this.#withRegister(0, this.#first, () => {
          f.if(
            equal(this.#opcode, 0xd8),
            () => this.#unpackSingle(this.#b),
            () => this.#unpackDouble(this.#b),
          );
          this.#take(this.#a, this.#first);
          f.if(this.#compute(), () => this.#done(0, true));
        });
      });
    });
  }

  /** The operand as a register has it; what is neither normal nor zero becomes something that is odd. */
  #unpackSingle({ head, significand }: Extended): void {
    const { f } = this;
    f.set(this.#number, load("i32.load", 0, OPERAND));
    const exponent = and(shiftRight(this.#number, 23), 0xff);
    f.set(significand, or(shiftLeft(widen(and(this.#number, 0x7f_ffff)), 40n), TOP_BIT));
    f.set(head, or(and(shiftRight(this.#number, 16), SIGN), add(exponent, BIAS - 127)));
    f.if(isZero(shiftLeft(this.#number, 1)), () => {
      f.set(head, and(head, SIGN));
      f.set(significand, 0n);
    });
    f.if(either(equal(exponent, 0xff), both(isZero(exponent), notEqual(significand, 0n))), () => f.set(head, SIGN - 1));
  }
  #unpackDouble({ head, significand }: Extended): void {
    const { f } = this;
    f.set(this.#bits, load("i64.load", 0, OPERAND));
    const exponent = low32(and(shiftRight(this.#bits, 52n), 0x7ffn));
    f.set(significand, or(shiftLeft(this.#bits, 11n), TOP_BIT));
    f.set(head, or(low32(and(shiftRight(this.#bits, 48n), BigInt(SIGN))), add(exponent, BIAS - 1023)));
    f.if(isZero(shiftLeft(this.#bits, 1n)), () => {
      f.set(head, and(head, SIGN));
      f.set(significand, 0n);
    });
    f.if(either(equal(exponent, 0x7ff), both(isZero(exponent), notEqual(significand, 0n))), () =>
      f.set(head, SIGN - 1),
    );
  }

  #changeSign(): void {
    const { f } = this;
    this.#withRegister(0, this.#first, () => {
      f.set(this.#number, load("i32.load16_u", this.#first, 8));
      const changed = choose(equal(this.#modrm, 0xe0), xor(this.#number, SIGN), and(this.#number, SIGN - 1));
      f.store("i32.store16", this.#first, changed, 8);
      this.#clearC1();
      this.#done(0, false);
    });
  }

  /** FUCOMI, FCOMI and those that pop: DB and DF. */
  #compareFlags(): void {
    const { f } = this;
    const [a, b] = [this.#a, this.#b];
    this.#withRegister(0, this.#first, () => {
      this.#withRegister(this.#index, this.#other, () => {
        this.#take(a, this.#first);
        this.#take(b, this.#other);
        f.if(isZero(either(isOdd(a), isOdd(b))), () => {
          const nearer = below(exponentOf(a), exponentOf(b));
          const level = equal(exponentOf(a), exponentOf(b));
          const smaller = either(nearer, both(level, below(a.significand, b.significand)));
          const alike = both(level, equal(a.significand, b.significand));
          const negative = shiftRight(a.head, 15);
          f.if(
            isZero(hasAny(xor(a.head, b.head), SIGN)),
            () => f.set(this.#outcome, choose(alike, C3, choose(xor(smaller, negative), C0, 0))),
            () => f.set(this.#outcome, choose(both(isNull(a), isNull(b)), C3, choose(negative, C0, 0))),
          );
          this.#popIf(equal(this.#opcode, 0xdf));
          this.#done(or(shiftRight(this.#outcome, 8), X87_EFLAGS), false);
        });
      });
    });
  }

  // --- loads ---

  #loadRegister(): void {
    this.#withRegister(this.#index, this.#other, () => {
      this.#withRoom(() => {
        this.#take(this.#a, this.#other);
        this.#push(this.#a.head, this.#a.significand);
        this.#done(0, false);
      });
    });
  }
  #loadConstant(head: number, significand: bigint): void {
    this.#withRoom(() => {
      this.#push(head, significand);
      this.#done(0, false);
    });
  }
  #loadExtended(): void {
    this.#withRoom(() => {
      this.#push(load("i32.load16_u", 0, OPERAND + 8), load("i64.load", 0, OPERAND));
      this.#done(0, true);
    });
  }
  #loadUnpacked(): void {
    this.#withRoom(() => {
      this.f.if(isZero(isOdd(this.#a)), () => {
        this.#push(this.#a.head, this.#a.significand);
        this.#done(0, true);
      });
    });
  }
  #loadSingle(): void {
    this.#unpackSingle(this.#a);
    this.#loadUnpacked();
  }
  #loadDouble(): void {
    this.#unpackDouble(this.#a);
    this.#loadUnpacked();
  }
  /** An integer always fits. `read` puts it into `#bits`. */
  #loadInteger(read: () => void): void {
    const { f } = this;
    const { head, significand } = this.#a;
    this.#withRoom(() => {
      read();
      f.set(head, low32(and(shiftRight(this.#bits, 48n), BigInt(SIGN))));
      f.set(significand, choose(head, sub(0n, this.#bits), this.#bits));
      f.if(notEqual(significand, 0n), () => {
        f.set(this.#bits, leadingZeros(significand));
        f.set(significand, shiftLeft(significand, this.#bits));
        f.set(head, or(head, sub(BIAS + 63, low32(this.#bits))));
      });
      this.#push(head, significand);
      this.#done(0, true);
    });
  }

  // --- stores ---

  #exchange(): void {
    this.#withRegister(0, this.#first, () => {
      this.#withRegister(this.#index, this.#other, () => {
        this.#take(this.#a, this.#first);
        this.#take(this.#b, this.#other);
        this.#put(this.#first, this.#b.head, this.#b.significand);
        this.#put(this.#other, this.#a.head, this.#a.significand);
        this.#clearC1();
        this.#done(0, false);
      });
    });
  }

  /** FST and FSTP ST(i). */
  #storeRegister(): void {
    const { f } = this;
    this.#withRegister(0, this.#first, () => {
      f.set(this.#other, physical(this.#index));
      f.store("i32.store8", 0, or(tags(), shiftLeft(1, this.#other)), at("ftw"));
      this.#take(this.#a, this.#first);
      this.#put(placeOf(this.#other), this.#a.head, this.#a.significand);
      this.#clearC1();
      this.#popIf(equal(this.#field, 3));
      this.#done(0, false);
    });
  }
  #storeExtended(): void {
    this.#withRegister(0, this.#first, () => {
      this.#take(this.#a, this.#first);
      this.f.store("i64.store", 0, this.#a.significand, OPERAND);
      this.f.store("i32.store16", 0, this.#a.head, OPERAND + 8);
      this.#clearC1();
      this.#pop();
      this.#done(X87_STORE, true);
    });
  }

  /** Whether all exceptions are masked and the rounding control is `mode`. */
  #rounds(mode: number): Expression {
    return equal(and(control(), ROUNDING | ALL_MASKED), mode | ALL_MASKED);
  }
  /** C1 and PE of a result of which `rest` was not zero where it is not exact, rounded up where `#number` is 1. */
  #report(rest: Expression): void {
    const inexact = choose(isZero(rest), 0, PRECISION);
    setStatus(this.f, or(and(status(), ~C1), or(inexact, choose(this.#number, C1, 0))));
  }

  /** FST and FSTP of a number that is normal there too. */
  #storeFloat(bits: 32 | 64): void {
    const { f } = this;
    const [fractionBits, bias, special] = bits === 32 ? [23, 127, 0xff] : [52, 1023, 0x7ff];
    const dropped = 63 - fractionBits;
    const { head, significand } = this.#a;
    const rest = and(significand, (1n << BigInt(dropped)) - 1n);
    const half = 1n << BigInt(dropped - 1);
    const exponent = this.#other;
    this.#withRegister(0, this.#first, () => {
      this.#take(this.#a, this.#first);
      f.if(both(this.#rounds(NEAREST), isZero(isOdd(this.#a))), () => {
        f.set(exponent, sub(exponentOf(this.#a), BIAS - bias));
        f.set(this.#bits, shiftRight(significand, BigInt(dropped)));
        f.set(this.#number, choose(equal(rest, half), low32(and(this.#bits, 1n)), above(rest, half)));
        // A carry out of the fraction goes into the exponent by itself.
        f.set(this.#bits, add(this.#bits, widen(this.#number)));
        const inRange = both(below(sub(exponent, 1), special - 2), notEqual(significand, 0n));
        f.if(either(inRange, isNull(this.#a)), () => {
          const packed = add(shiftLeft(widen(sub(exponent, 1)), BigInt(fractionBits)), this.#bits);
          f.set(this.#bits, choose(isNull(this.#a), 0n, packed));
          f.set(this.#bits, or(this.#bits, shiftLeft(widen(shiftRight(head, 15)), BigInt(bits - 1))));
          f.store(bits === 32 ? "i64.store32" : "i64.store", 0, this.#bits, OPERAND);
          this.#report(rest);
          this.#popIf(equal(this.#field, 3));
          this.#done(X87_STORE, true);
        });
      });
    });
  }

  /** FIST and FISTP of what fits, to nearest or truncated. */
  #storeInteger(bits: 32 | 64): void {
    const { f } = this;
    const { head, significand } = this.#a;
    const exponent = this.#other;
    const rest = this.#b.significand;
    this.#withRegister(0, this.#first, () => {
      this.#take(this.#a, this.#first);
      f.if(both(either(this.#rounds(NEAREST), this.#rounds(TRUNCATE)), isZero(isOdd(this.#a))), () => {
        f.set(exponent, sub(exponentOf(this.#a), BIAS));
        f.if(below(add(exponent, SIGN), SIGN + bits - 1), () => {
          const by = widen(exponent);
          f.if(
            below(exponent, 63),
            () => {
              f.set(this.#bits, shiftRight(significand, sub(63n, by)));
              f.set(rest, shiftLeft(shiftLeft(significand, by), 1n));
            },
            () => {
              f.set(this.#bits, 0n);
              f.set(rest, choose(equal(exponent, -1), significand, widen(notEqual(significand, 0n))));
            },
          );
          const up = choose(equal(rest, TOP_BIT), low32(and(this.#bits, 1n)), above(rest, TOP_BIT));
          f.set(this.#number, choose(this.#rounds(NEAREST), up, 0));
          f.set(this.#bits, add(this.#bits, widen(this.#number)));
          // What rounds up to a power of two may not fit any more.
          f.if(isZero(shiftRight(this.#bits, BigInt(bits - 1))), () => {
            f.set(this.#bits, choose(shiftRight(head, 15), sub(0n, this.#bits), this.#bits));
            f.store(bits === 32 ? "i64.store32" : "i64.store", 0, this.#bits, OPERAND);
            this.#report(rest);
            this.#popIf(equal(and(this.#field, 3), 3));
            this.#done(X87_STORE, true);
          });
        });
      });
    });
  }

  // --- control words ---

  #storeControl(): void {
    this.f.store("i32.store16", 0, control(), OPERAND);
    this.f.return(X87_STORE);
  }
  /** FLDCW where no exception that was noted is left without a mask. */
  #loadControl(): void {
    const { f } = this;
    f.set(this.#number, load("i32.load16_u", 0, OPERAND));
    f.if(isZero(hasAny(and(status(), xor(this.#number, -1)), ALL_MASKED)), () => {
      f.store("i32.store16", 0, or(and(this.#number, CONTROL_WRITABLE), CONTROL_FIXED), at("fcw"));
      f.return(0);
    });
  }
}

/** The helper `x87` over the engine's state; `slow` is the unit. */
export function quickX87(memory: GuestMemory, slow: X87Helper): X87Helper {
  const module = new ModuleBuilder();
  const index = module.importFunction("unit", "x87", ["i32", "i32", "i32", "i32"], ["i32"]);
  const pages = memory.memory.buffer.byteLength / 65536;
  module.importMemory("unit", "memory", pages, pages);
  new QuickX87(module, { index, result: "i32" });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.finish()), {
    unit: { memory: memory.memory, x87: slow },
  });
  return exports["x87"] as X87Helper;
}
