/** One WebAssembly module of several regions. */

import { ModuleBuilder } from "../../../wasm/module.ts";
import { helperCalls } from "../handlers.ts";
import { emitRegion } from "./emit-region.ts";
import type { Region } from "./region.ts";

/** The functions that a module of regions imports, beside helpers by their names. */
export const REGION_IMPORTS = { memory: "memory", fetch: "fetch", refine: "refine" } as const;

export interface ModuleRegion {
  readonly region: Region;
  /** Its place among the regions: its function is exported as `r` and that number. */
  readonly index: number;
  /** Where the targets of the indirect jump at an address are noted; undefined where they are not. */
  site(at: number): number | undefined;
}

/** The module's bytes. `memoryBytes`: the size of the engine's memory. Its imports are all from `engine`. */
export function buildRegionModule(memoryBytes: number, regions: readonly ModuleRegion[]): Uint8Array<ArrayBuffer> {
  const builder = new ModuleBuilder();
  const pages = memoryBytes / 65536;
  builder.importMemory("engine", REGION_IMPORTS.memory, pages, pages);
  const fetch = builder.importFunction("engine", REGION_IMPORTS.fetch, ["i64"], ["i64"]);
  const refine = builder.importFunction("engine", REGION_IMPORTS.refine, ["i32", "i64"], []);
  const imported = new Map<string, number>();
  for (const { region } of regions) {
    for (const { instructions } of region.blocks.values()) {
      for (const { statements } of instructions) {
        for (const [name, { params, result }] of helperCalls(statements)) {
          if (imported.has(name)) continue;
          imported.set(name, builder.importFunction("engine", name, params, result === undefined ? [] : [result]));
        }
      }
    }
  }
  const helper = (name: string): number => {
    const index = imported.get(name);
    if (index === undefined) throw new Error(`helper ${name} was not imported`);
    return index;
  };
  for (const { region, index, site } of regions) {
    emitRegion(region, { builder, fetch, refine, site: (_, at) => site(at), helper }, index);
  }
  return builder.finish();
}
