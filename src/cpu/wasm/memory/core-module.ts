/** What all functions of the memory core share: the module under construction, its imports, and where RAM lies. */

import { type GuestMemory, HIGH_RAM_START, VGA_WINDOW } from "../../../memory/guest-memory.ts";
import { ModuleBuilder } from "../../../wasm/module.ts";
import { CODE_MAP } from "../layout.ts";
import {
  add,
  below,
  type Expression,
  FunctionEmitter,
  type FunctionReference,
  load,
  low32,
  shiftRight,
  sub,
} from "./emitter.ts";

const WASM_PAGE_BYTES = 65536;
export const PAGE_BYTES = 4096;
/** Selects the page of a linear address. */
export const PAGE_MASK = ~0xfffn;

export class CoreModule {
  readonly builder = new ModuleBuilder();
  /** (physical i64, bytes i32) -> i32 */
  readonly mmioRead: FunctionReference;
  /** (physical i64, bytes i32, value i32) */
  readonly mmioWrite: FunctionReference;
  /** (linear i64, bytes i32, access i32): where data breakpoints are set, of each access through the slow path. */
  readonly watched: FunctionReference;
  /** (place i32, bytes i32) -> i32: before RAM that holds decoded code is written. */
  readonly codeWrite: FunctionReference;
  /** () */
  readonly viewChanged: FunctionReference;
  /** (physical i64) -> i32: place in the memory's buffer, 0 where the address is not RAM. */
  readonly place: FunctionReference;
  readonly #ramOffset: number;

  constructor(memory: GuestMemory) {
    const { builder } = this;
    const { regions } = memory;
    const [low] = regions;
    if (low === undefined) throw new Error("a VM has RAM");
    this.#ramOffset = low.offset;
    this.mmioRead = { index: builder.importFunction("env", "mmioRead", ["i64", "i32"], ["i32"]), result: "i32" };
    this.mmioWrite = {
      index: builder.importFunction("env", "mmioWrite", ["i64", "i32", "i32"], []),
      result: undefined,
    };
    this.watched = { index: builder.importFunction("env", "watched", ["i64", "i32", "i32"], []), result: undefined };
    this.codeWrite = { index: builder.importFunction("env", "codeWrite", ["i32", "i32"], ["i32"]), result: "i32" };
    this.viewChanged = { index: builder.importFunction("env", "viewChanged", [], []), result: undefined };
    const pages = memory.memory.buffer.byteLength / WASM_PAGE_BYTES;
    builder.importMemory("env", "memory", pages, pages);
    this.place = this.#definePlace(regions);
  }

  define(params: readonly ("i32" | "i64")[], result?: "i32" | "i64", name?: string): FunctionEmitter {
    return new FunctionEmitter(this.builder, params, result, name);
  }

  #definePlace(regions: GuestMemory["regions"]): FunctionReference {
    const f = this.define(["i64"], "i32");
    const physical = f.parameter(0);
    const within = (start: number, size: number) => below(sub(physical, BigInt(start)), BigInt(size));
    for (const { start, size, offset } of regions) {
      f.if(within(start, size), () => {
        if (start < HIGH_RAM_START) f.returnIf(within(VGA_WINDOW.start, VGA_WINDOW.end - VGA_WINDOW.start), 0);
        // Modulo 2^32: high RAM starts at 4 GiB, which is 0 there.
        f.return(add(low32(physical), (offset - start) | 0));
      });
    }
    f.return(0);
    return f;
  }

  /** Whether the RAM page at a place in the buffer holds decoded code: 1 or 0. */
  holdsCode(place: Expression): Expression {
    return load("i32.load8_u", shiftRight(sub(place, this.#ramOffset), 12), CODE_MAP);
  }
}
