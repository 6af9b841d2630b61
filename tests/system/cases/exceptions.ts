/** Exceptions that instructions raise in ring 0 and ring 3. */

import type { SystemCase } from "../guest/runtime.ts";

export const EXCEPTIONS: readonly SystemCase[] = [
  { name: "UD2 in ring 0", spec: "SDM 2 UD", code: (c) => c.emit("UD2") },
  { name: "UD2 in ring 3", spec: "SDM 2 UD", ring: 3, code: (c) => c.emit("UD2") },
  { name: "nothing", spec: "-", code: (c) => c.log("rsp", "rsp").logFlags("fl") },
];
