/**
 * Ring 3 by the processor, in a process of its own (native-oracle.c): the oracle for 32-bit code, and for hosts without
 * KVM. It needs gcc, FSGSBASE, and the right to map the lowest pages.
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Batch,
  type BatchResult,
  BatchWriter,
  FS_BASE,
  GS_BASE,
  handlerAddress,
  type Ring3Engine,
  readResult,
  writeSystem,
} from "./image.ts";
import {
  BASE,
  BASE_32,
  BLOCK,
  BLOCKS_BYTES,
  CODE_BYTES,
  DATA,
  OUTPUT_ADDRESS,
  PAGE,
  PHYSICAL,
  RAM_BYTES,
  WINDOW_16,
  WINDOW_HIGH,
  WINDOW_LOW,
} from "./layout.ts";

const MACROS: Readonly<Record<string, number | bigint>> = {
  BASE,
  BASE_32,
  WINDOW_HIGH,
  WINDOW_LOW,
  WINDOW_16,
  FS_BASE,
  GS_BASE,
  HANDLERS: handlerAddress(0),
  RUNTIME_PAGE: PHYSICAL.runtime,
  STACK_PAGE: PHYSICAL.stack,
  DATA_PAGE: PHYSICAL.data,
  TEMPLATE_PAGES: PHYSICAL.template,
  WINDOW: PHYSICAL.window,
  CODE: PHYSICAL.code,
  CODE_BYTES,
  INPUTS: PHYSICAL.inputs,
  OUTPUTS: PHYSICAL.outputs,
  OUTPUT_ADDRESS,
  BLOCKS_BYTES,
  DATA_REMAINING: DATA.remaining,
  DATA_RIP: DATA.rip,
  DATA_ERROR_CODE: DATA.errorCode,
  DATA_SCRATCH: DATA.scratchTop,
};
const SOURCE = fileURLToPath(new URL("native-oracle.c", import.meta.url));
/** A batch takes some tens of milliseconds; a busy host may keep it waiting. */
const PATIENCE_MS = 120_000;
const LOOK_MS = 0.2;

export class NativeEngine implements Ring3Engine {
  readonly name = "native";
  readonly #ram = new Uint8Array(RAM_BYTES);
  readonly #writer = new BatchWriter(this.#ram);
  readonly #directory = mkdtempSync(join(tmpdir(), "isola-native-"));
  readonly #child: ChildProcess;
  readonly #file: number;
  readonly #to: number;
  readonly #from: number;
  readonly #cell = new Int32Array(new SharedArrayBuffer(4));

  /** Compiles and starts the oracle. Throws where there is no gcc. */
  constructor() {
    const [program, ram, to, from] = ["oracle", "ram", "to", "from"].map((name) => join(this.#directory, name)) as [
      string,
      string,
      string,
      string,
    ];
    const macros = Object.entries(MACROS).map(([name, value]) => `-D${name}=${value}${value > 0xffff ? "ULL" : ""}`);
    const flags = ["-O1", "-Wall", "-fno-stack-protector", "-mgeneral-regs-only", "-mfsgsbase", "-fcf-protection=none"];
    execFileSync("gcc", [...flags, ...macros, "-o", program, SOURCE]);
    execFileSync("mkfifo", [to, from]);
    writeSystem(this.#ram);
    writeFileSync(ram, this.#ram);
    // Opened for both ways, a FIFO does not wait for its other end.
    this.#to = openSync(to, constants.O_RDWR);
    this.#from = openSync(from, constants.O_RDWR | constants.O_NONBLOCK);
    this.#file = openSync(ram, constants.O_RDWR);
    this.#child = spawn(program, [ram, to, from], { stdio: ["ignore", "inherit", "inherit"] });
    this.#child.unref();
  }

  run(batch: Batch): BatchResult {
    this.#writer.write(batch);
    this.#send(PHYSICAL.data, PAGE);
    this.#send(PHYSICAL.window, PHYSICAL.template + 2 * PAGE - PHYSICAL.window);
    this.#send(PHYSICAL.code, CODE_BYTES);
    this.#send(PHYSICAL.inputs, batch.inputs.length);
    writeSync(this.#to, Uint8Array.of(1));
    this.#wait();
    const outputs = batch.count * BLOCK.size;
    readSync(this.#file, this.#ram, PHYSICAL.outputs, outputs, PHYSICAL.outputs);
    readSync(this.#file, this.#ram, PHYSICAL.window, PHYSICAL.template - PHYSICAL.window, PHYSICAL.window);
    return readResult(this.#ram, batch);
  }

  #send(at: number, bytes: number): void {
    writeSync(this.#file, this.#ram, at, bytes, at);
  }

  #wait(): void {
    const byte = new Uint8Array(1);
    for (const until = performance.now() + PATIENCE_MS; performance.now() < until; ) {
      try {
        if (readSync(this.#from, byte) === 1) return;
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error;
      }
      Atomics.wait(this.#cell, 0, 0, LOOK_MS);
    }
    throw new Error(`run a batch natively: no answer in ${PATIENCE_MS / 1000} s, wanted one byte`);
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
    for (const fd of [this.#to, this.#from, this.#file]) closeSync(fd);
    rmSync(this.#directory, { recursive: true });
  }
}
