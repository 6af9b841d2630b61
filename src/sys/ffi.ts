/**
 * Node's foreign function interface, taken when it is first needed: a process that makes no native call can do without
 * it, and is then not told that it is experimental.
 */

import type * as ffiModule from "node:ffi";

type Ffi = typeof ffiModule;

let loaded: Ffi | undefined;

/** @throws Error where this runtime has none, or may not use it */
export function ffi(): Ffi {
  if (loaded !== undefined) return loaded;
  const { emitWarning } = process;
  // That the interface may change is isola's business, which pins its runtime, and not that of whoever runs a guest.
  process.emitWarning = () => undefined;
  try {
    loaded = process.getBuiltinModule("node:ffi") as Ffi | undefined;
  } finally {
    process.emitWarning = emitWarning;
  }
  if (loaded === undefined) throw new Error("this Node has no node:ffi");
  return loaded;
}
