/** Makes runtime-bytes.ts from runtime.s with GNU as: `node tests/fuzz/assemble.ts`. Needed only when runtime.s changes. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BASE,
  BASE_32,
  BLOCK,
  DATA,
  HOT_REACH,
  NO_EXCEPTION,
  PAGE,
  PHYSICAL,
  DONE_PORT,
  SELECTOR,
  WINDOW_DISTANCE,
  WINDOW_SEAM,
} from "./layout.ts";

const SYMBOLS: Readonly<Record<string, number | bigint>> = {
  BASE,
  BASE_32,
  RUNTIME_PAGE: PHYSICAL.runtime,
  DATA_PAGE: PHYSICAL.data,
  STACK_PAGE: PHYSICAL.stack,
  WINDOW_HOT: WINDOW_DISTANCE + WINDOW_SEAM - HOT_REACH,
  BLOCK_FX: BLOCK.fx,
  BLOCK_GPR: BLOCK.gpr,
  BLOCK_RFLAGS: BLOCK.rflags,
  BLOCK_RIP: BLOCK.rip,
  BLOCK_VECTOR: BLOCK.vector,
  BLOCK_ERROR_CODE: BLOCK.errorCode,
  BLOCK_CR2: BLOCK.cr2,
  BLOCK_WILD: BLOCK.wild,
  WINDOW_PAGES: WINDOW_DISTANCE + WINDOW_SEAM - PAGE,
  TEMPLATE_PAGES: PHYSICAL.template,
  BLOCK_HOT: BLOCK.hot,
  BLOCK_HOT_BYTES: BLOCK.hotBytes,
  BLOCK_SIZE: BLOCK.size,
  DATA_INPUT: DATA.input,
  DATA_OUTPUT: DATA.output,
  DATA_REMAINING: DATA.remaining,
  DATA_ENTRY: DATA.entry,
  DATA_FAR_ENTRY: DATA.farEntry,
  DATA_RBX: DATA.savedRbx,
  DATA_CR2: DATA.cr2,
  DATA_RAX: DATA.savedRax,
  DATA_RIP: DATA.rip,
  DATA_ERROR_CODE: DATA.errorCode,
  DATA_VECTOR: DATA.vector,
  DATA_SCRATCH: DATA.scratchTop,
  NO_EXCEPTION,
  DONE_PORT,
  USER_DATA: SELECTOR.userData,
  USER_CODE: SELECTOR.userCode,
};

const SOURCE = new URL("runtime.s", import.meta.url).pathname;
const BYTES = new URL("runtime-bytes.ts", import.meta.url).pathname;

/** The bytes of the stubs' page and of the runtime's page, without trailing zeros. */
export function assembleRuntime(): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), "isola-fuzz-"));
  try {
    const object = join(directory, "runtime.o");
    const image = join(directory, "runtime.bin");
    const symbols = Object.entries(SYMBOLS).flatMap(([name, value]) => ["--defsym", `${name}=${value}`]);
    execFileSync("as", ["--64", ...symbols, "-o", object, SOURCE]);
    execFileSync("objcopy", ["-O", "binary", "-j", ".text", object, image]);
    return new Uint8Array(readFileSync(image));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

if (import.meta.main) {
  const text = Buffer.from(assembleRuntime())
    .toString("base64")
    .replace(/.{1,110}/g, '  "$&" +\n')
    .replace(/ \+\n$/, "");
  writeFileSync(
    BYTES,
    `/** runtime.s as assembled by assemble.ts: the stubs' page, then the runtime's. Base64. */\n\nexport const RUNTIME_BASE64 =\n${text};\n`,
  );
}
