/** Assembles a WebAssembly module [WebAssembly core 3.0 §5.5]. Knows nothing of x86. */

import { ByteWriter, CodeWriter } from "./code.ts";
import { VALUE_TYPE_CODE, type ValueType } from "./opcodes.ts";

interface FunctionEntry {
  readonly type: number;
  readonly code: CodeWriter;
}

const SECTION = { type: 1, import: 2, function: 3, table: 4, global: 6, export: 7, element: 9, code: 10 } as const;
const FUNCREF = 0x70;

export class ModuleBuilder {
  readonly #types: { key: string; params: readonly ValueType[]; results: readonly ValueType[] }[] = [];
  readonly #imports: { module: string; name: string; write: (out: ByteWriter) => void }[] = [];
  readonly #functions: FunctionEntry[] = [];
  readonly #exports: { name: string; kind: number; index: number }[] = [];
  readonly #globals: { type: ValueType; initial: bigint | number }[] = [];
  #elements: number[] = [];
  #table: { name: string; size: number } | undefined;
  #importedFunctions = 0;

  /** The index of a function type, added once. */
  type(params: readonly ValueType[], results: readonly ValueType[]): number {
    const key = `${params.join()}>${results.join()}`;
    const found = this.#types.findIndex((t) => t.key === key);
    if (found >= 0) return found;
    this.#types.push({ key, params, results });
    return this.#types.length - 1;
  }

  /** Imports a function; all imports come before the first `function`. Its index. */
  importFunction(module: string, name: string, params: readonly ValueType[], results: readonly ValueType[]): number {
    if (this.#functions.length > 0) throw new Error("imports come before the first function");
    const type = this.type(params, results);
    this.#imports.push({
      module,
      name,
      write: (out) => {
        out.byte(0);
        out.u32(type);
      },
    });
    return this.#importedFunctions++;
  }

  /** Imports a shared 32-bit memory; sizes in pages of 64 KiB. */
  importMemory(module: string, name: string, initial: number, maximum: number): void {
    this.#imports.push({
      module,
      name,
      write: (out) => {
        out.append([2, 3]);
        out.u32(initial);
        out.u32(maximum);
      },
    });
  }

  /** Imports a function table with at least `size` entries. */
  importTable(module: string, name: string, size: number): void {
    this.#imports.push({
      module,
      name,
      write: (out) => {
        out.append([1, FUNCREF, 0]);
        out.u32(size);
      },
    });
  }

  /** Defines and exports a function table that holds `functions` from index 0. */
  table(name: string, functions: number[]): void {
    this.#table = { name, size: functions.length };
    this.#elements = functions;
  }

  /** A mutable global of type i32 or i64; its index. */
  global(type: "i32" | "i64", initial: bigint | number): number {
    this.#globals.push({ type, initial });
    return this.#globals.length - 1;
  }

  /** Adds a function, whose body is written into the returned writer (without the final `end`). */
  function(
    params: readonly ValueType[],
    results: readonly ValueType[],
    exportAs?: string,
  ): { index: number; code: CodeWriter } {
    const code = new CodeWriter(params.length);
    this.#functions.push({ type: this.type(params, results), code });
    const index = this.#importedFunctions + this.#functions.length - 1;
    if (exportAs !== undefined) this.#exports.push({ name: exportAs, kind: 0, index });
    return { index, code };
  }

  finish(): Uint8Array<ArrayBuffer> {
    const out = new ByteWriter();
    out.append([0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    this.#section(out, SECTION.type, this.#types, (w, t) => {
      w.byte(0x60);
      for (const list of [t.params, t.results]) {
        w.u32(list.length);
        for (const type of list) w.byte(VALUE_TYPE_CODE[type]);
      }
    });
    this.#section(out, SECTION.import, this.#imports, (w, entry) => {
      w.name(entry.module);
      w.name(entry.name);
      entry.write(w);
    });
    this.#section(out, SECTION.function, this.#functions, (w, f) => {
      w.u32(f.type);
    });
    const tables = this.#table === undefined ? [] : [this.#table];
    this.#section(out, SECTION.table, tables, (w, t) => {
      w.append([FUNCREF, 0]);
      w.u32(t.size);
    });
    this.#section(out, SECTION.global, this.#globals, (w, g) => {
      w.append([VALUE_TYPE_CODE[g.type], 1]);
      if (g.type === "i32") {
        w.byte(0x41);
        w.s32(Number(g.initial));
      } else {
        w.byte(0x42);
        w.s64(BigInt(g.initial));
      }
      w.byte(0x0b);
    });
    const exports = [...this.#exports, ...tables.map((t) => ({ name: t.name, kind: 1, index: 0 }))];
    this.#section(out, SECTION.export, exports, (w, e) => {
      w.name(e.name);
      w.byte(e.kind);
      w.u32(e.index);
    });
    const segments = this.#elements.length > 0 ? [this.#elements] : [];
    this.#section(out, SECTION.element, segments, (w, functions) => {
      w.append([0, 0x41, 0, 0x0b]);
      w.u32(functions.length);
      for (const index of functions) w.u32(index);
    });
    this.#section(out, SECTION.code, this.#functions, (w, { code }) => {
      const locals = new ByteWriter();
      writeLocals(locals, code.locals);
      w.u32(locals.length + code.length + 1);
      w.append(locals.finish());
      w.append(code.finish());
      w.byte(0x0b);
    });
    return out.finish();
  }

  #section<T>(out: ByteWriter, id: number, items: readonly T[], write: (out: ByteWriter, item: T) => void): void {
    if (items.length === 0) return;
    const body = new ByteWriter();
    body.u32(items.length);
    for (const item of items) write(body, item);
    out.byte(id);
    out.u32(body.length);
    out.append(body.finish());
  }
}

/** Locals as runs of equal types. */
function writeLocals(out: ByteWriter, locals: readonly ValueType[]): void {
  const runs: { type: ValueType; count: number }[] = [];
  for (const type of locals) {
    const last = runs.at(-1);
    if (last?.type === type) last.count++;
    else runs.push({ type, count: 1 });
  }
  out.u32(runs.length);
  for (const { type, count } of runs) {
    out.u32(count);
    out.byte(VALUE_TYPE_CODE[type]);
  }
}
