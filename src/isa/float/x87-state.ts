/**
 * The state of an x87 unit as bytes in shared memory, and what every x87 instruction does with it: the register stack,
 * tags, exceptions and the pending fault [SDM 1 §8.1, §8.4, §8.5]. The registers lie in physical order R0 to R7, so
 * that a push or pop moves nothing and MMX registers have fixed places.
 */

import { type Float, INDEFINITE, storeExtended, unpackExtended } from "./format.ts";
import { type Context, DE, IE, OE, PE, UE, ZE } from "./rounding.ts";

/** Where the parts of a state lie, in bytes from the start of its view. */
export interface X87Places {
  /** Control and status words, 16 bits each. */
  readonly control: number;
  readonly status: number;
  /** Eight bits, one a physical register: 1 = not empty. */
  readonly tags: number;
  /** Opcode of the last instruction, 11 bits in 16; its address and its operand's, 64 bits each. */
  readonly opcode: number;
  readonly instructionPointer: number;
  readonly dataPointer: number;
  /** R0 to R7, 16 bytes each, of which 10 are used. */
  readonly registers: number;
  /** The memory operand, X87_OPERAND_BYTES: loaded before, stored after the instruction. */
  readonly operand: number;
}

/** Bytes of the operand area: the largest operand is FNSAVE's image of 108. */
export const X87_OPERAND_BYTES = 112;

/** Status word: stack fault, error summary, condition codes, busy. */
export const SF = 1 << 6;
export const ES = 1 << 7;
export const C0 = 1 << 8;
export const C1 = 1 << 9;
export const C2 = 1 << 10;
export const C3 = 1 << 14;
export const BUSY = 1 << 15;
export const TOP_SHIFT = 11;
export const TOP_MASK = 7 << TOP_SHIFT;
/** All exception flags of the status word, and all masks of the control word. */
export const EXCEPTIONS = 0x3f;

/** The control word after FNINIT: everything masked, 64-bit precision, nearest. */
export const INITIAL_CONTROL = 0x037f;
/** Bits of the control word that software can change; bit 6 always reads as one. */
/** Bits of the control word that software sets, and the one that always reads as 1. */
export const CONTROL_WRITABLE = 0x1f3f;
export const CONTROL_FIXED = 0x40;

/** Exceptions that end an instruction before it has a result, when unmasked. */
const BEFORE = IE | DE | ZE;
/** x87's bias adjustment for unmasked overflow and underflow [SDM 1 §8.5.4]. */
const BIAS_ADJUST = 24_576;

/** Precision control, bits 9:8 of the control word; the reserved value 1 behaves as 64 bits. */
const PRECISIONS = [24, 64, 53, 64] as const;

/** Outcome bits of `X87Unit.execute`; bits 15:0 hold a value for some. */
export const X87_STORE = 1 << 16;
export const X87_EFLAGS = 1 << 17;
export const X87_AX = 1 << 18;
export const X87_MF = 1 << 19;
export const X87_UD = 1 << 20;

export class X87State {
  readonly view: DataView;
  readonly at: X87Places;
  readonly operand: number;
  readonly context: Context = {
    rounding: 0,
    unmasked: 0,
    flushToZero: false,
    x87: true,
    precision: 64,
    biasAdjust: 0,
    flags: 0,
    roundedUp: false,
  };
  /** EFLAGS at the instruction, for FCMOVcc. */
  eflags = 0;
  /** Whether environments take their 16-bit layout. */
  operand16 = false;
  /** The outcome gathered so far. */
  outcome = 0;

  constructor(view: DataView, places: X87Places) {
    this.view = view;
    this.at = places;
    this.operand = places.operand;
  }

  get control(): number {
    return this.view.getUint16(this.at.control, true);
  }

  get status(): number {
    return this.view.getUint16(this.at.status, true);
  }

  set status(value: number) {
    this.view.setUint16(this.at.status, value, true);
  }

  get tags(): number {
    return this.view.getUint8(this.at.tags);
  }

  set tags(value: number) {
    this.view.setUint8(this.at.tags, value);
  }

  get top(): number {
    return (this.status >> TOP_SHIFT) & 7;
  }

  set top(value: number) {
    this.status = (this.status & ~TOP_MASK) | ((value & 7) << TOP_SHIFT);
  }

  /** Writes the control word; a changed mask can make a pending exception appear or go. */
  setControl(value: number): void {
    this.view.setUint16(this.at.control, (value & CONTROL_WRITABLE) | CONTROL_FIXED, true);
    this.summarise();
  }

  /** Sets ES and B as flags and masks demand. */
  summarise(): void {
    const { status } = this;
    const pending = (status & ~this.control & EXCEPTIONS) !== 0;
    this.status = pending ? status | ES | BUSY : status & ~(ES | BUSY);
  }

  /** FNINIT. The registers keep their bytes. */
  initialise(): void {
    const { view, at } = this;
    view.setUint16(at.control, INITIAL_CONTROL, true);
    this.status = 0;
    this.tags = 0;
    view.setUint16(at.opcode, 0, true);
    view.setBigUint64(at.instructionPointer, 0n, true);
    view.setBigUint64(at.dataPointer, 0n, true);
  }

  /** Where ST(i) lies in the view. */
  slot(i: number): number {
    return this.at.registers + ((this.top + i) & 7) * 16;
  }

  isEmpty(i: number): boolean {
    return ((this.tags >> ((this.top + i) & 7)) & 1) === 0;
  }

  read(i: number): Float {
    const at = this.slot(i);
    return unpackExtended(this.view.getUint16(at + 8, true), this.view.getBigUint64(at, true));
  }

  /** Writes ST(i) and marks it as not empty. */
  write(i: number, value: Float): void {
    storeExtended(this.view, this.slot(i), value);
    this.fill(i);
  }

  /** Copies ten bytes within the view, as they are. */
  copy(from: number, to: number): void {
    const { view } = this;
    view.setUint32(to, view.getUint32(from, true), true);
    view.setUint32(to + 4, view.getUint32(from + 4, true), true);
    view.setUint16(to + 8, view.getUint16(from + 8, true), true);
  }

  fill(i: number): void {
    this.tags |= 1 << ((this.top + i) & 7);
  }

  free(i: number): void {
    this.tags &= ~(1 << ((this.top + i) & 7));
  }

  pop(): void {
    this.free(0);
    this.top += 1;
  }

  /** Makes room for a new ST(0). The caller has checked for overflow. */
  push(): void {
    this.top -= 1;
    this.fill(0);
  }

  /** Clears the condition codes given and sets those in `set`. */
  condition(clear: number, set: number): void {
    this.status = (this.status & ~clear) | set;
  }

  /** Adds exception flags to the status word. */
  raise(flags: number): void {
    this.status |= flags;
    this.summarise();
  }

  /** A stack underflow. @returns whether it is masked, so that the indefinite value goes to the destination */
  underflow(): boolean {
    return this.#stackFault(0);
  }

  /** A stack overflow. @returns whether it is masked, so that the indefinite value is pushed */
  overflow(): boolean {
    return this.#stackFault(C1);
  }

  #stackFault(direction: number): boolean {
    this.condition(C1, direction);
    this.raise(IE | SF);
    return (this.control & IE) !== 0;
  }

  /**
   * Checks for room; on overflow does all that is to be done.
   * @returns whether the caller may push its value
   */
  canPush(): boolean {
    if (this.isEmpty(7)) return true;
    if (this.overflow()) {
      this.push();
      this.write(0, INDEFINITE);
    }
    return false;
  }

  /** Prepares the context for an operation that writes a register. `controlled`: precision control applies. */
  begin(controlled: boolean): Context {
    const { context, control } = this;
    context.rounding = (control >> 10) & 3;
    context.unmasked = ~control & EXCEPTIONS;
    context.precision = controlled ? (PRECISIONS[(control >> 8) & 3] ?? 64) : 64;
    context.biasAdjust = BIAS_ADJUST;
    context.flags = 0;
    context.roundedUp = false;
    return context;
  }

  /**
   * Reports the context's flags and C1. @returns whether the result may be written: no exception of those found before
   * the computation is unmasked. Unmasked OE, UE and PE still write a register.
   */
  finish(): boolean {
    this.condition(C1, this.context.roundedUp ? C1 : 0);
    return this.finishKeepingC1();
  }

  /** As `finish`, but C1 stays as it was. */
  finishKeepingC1(): boolean {
    const { context } = this;
    if (context.flags !== 0) this.raise(context.flags);
    return (context.flags & context.unmasked & BEFORE) === 0;
  }

  /** As `finish`, for a result that goes to memory: unmasked OE and UE prevent the store too, and hide PE and C1. */
  finishStore(): boolean {
    const { context } = this;
    const prevented = context.flags & context.unmasked & (BEFORE | OE | UE);
    if (prevented !== 0) {
      context.flags &= ~PE;
      context.roundedUp = false;
    }
    this.finish();
    return prevented === 0;
  }

  /** Says that the operand area holds what is to be stored. */
  stored(): void {
    this.outcome |= X87_STORE;
  }
}
