/**
 * A short way for the usual SSE lanes, in host floating point: nearest rounding, PE masked, operands zero or of middling
 * size, so that the only exception possible is PE. Whether the result is inexact is computed, not guessed: by the exact
 * error of a sum [Knuth, TAOCP 2 §4.2.2, theorem C] or of a product [Dekker, 1971]. Whatever does not fit gives -1, and
 * the caller takes the exact way.
 */

import { PE } from "./rounding.ts";
import type { BinaryOperation } from "./sse.ts";

/** Operands between these bounds keep products, quotients and their errors clear of overflow and underflow. */
const SMALLEST = 2 ** -400;
const LARGEST = 2 ** 400;
/** The same for singles, whose results must be normal singles. */
const SMALLEST_SINGLE = 2 ** -60;
const LARGEST_SINGLE = 2 ** 60;
/** Splits a double into two halves of 26 bits. */
const SPLITTER = 2 ** 27 + 1;

function middling(value: number, single: boolean): boolean {
  const magnitude = Math.abs(value);
  if (single) return (magnitude >= SMALLEST_SINGLE && magnitude <= LARGEST_SINGLE) || magnitude === 0;
  return (magnitude >= SMALLEST && magnitude <= LARGEST) || magnitude === 0;
}

/** a + b - sum, exactly. */
function sumError(a: number, b: number, sum: number): number {
  const part = sum - a;
  return a - (sum - part) + (b - part);
}

/** a * b - product, exactly. */
function productError(a: number, b: number, product: number): number {
  const splitA = SPLITTER * a;
  const highA = splitA - (splitA - a);
  const lowA = a - highA;
  const splitB = SPLITTER * b;
  const highB = splitB - (splitB - b);
  const lowB = b - highB;
  return lowA * lowB - (product - highA * highB - lowA * highB - highA * lowB);
}

/** The result of the last quick lane that did not give -1. */
export let quickResult = 0;

/**
 * One lane of ADD, SUB, MUL or DIV on values that `single` says are singles or doubles.
 * @returns 0 or PE, the result in `quickResult`; -1 when the exact way is to be taken
 */
export function quickBinary(operation: BinaryOperation, a: number, b: number, single: boolean): number {
  if (!middling(a, single) || !middling(b, single)) return -1;
  let exact: boolean;
  if (operation === "add" || operation === "sub") {
    const addend = operation === "add" ? b : -b;
    quickResult = a + addend;
    // Cancellation can make a sum of singles small, but never inexact then.
    exact = sumError(a, addend, quickResult) === 0;
  } else if (operation === "mul") {
    quickResult = a * b;
    exact = productError(a, b, quickResult) === 0;
  } else if (operation === "div" && b !== 0) {
    quickResult = a / b;
    const back = quickResult * b;
    exact = back === a && productError(quickResult, b, back) === 0;
  } else return -1;
  return finish(exact, single);
}

/** SQRT of one lane. */
export function quickSquareRoot(a: number, single: boolean): number {
  if (!middling(a, single) || a < 0) return -1;
  quickResult = Math.sqrt(a);
  const back = quickResult * quickResult;
  return finish(back === a && productError(quickResult, quickResult, back) === 0, single);
}

/**
 * Rounds to single where that is wanted. Twice rounding is harmless: 53 bits are more than twice 24 and two
 * [Figueroa, 1995].
 */
function finish(exact: boolean, single: boolean): number {
  if (!single) return exact ? 0 : PE;
  const rounded = Math.fround(quickResult);
  const flags = exact && rounded === quickResult ? 0 : PE;
  quickResult = rounded;
  return flags;
}
