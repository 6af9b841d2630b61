/** Ring 3 by the portable engine, through the contract that every vCPU keeps. */

import { FEATURES, type FeatureName } from "../../src/isa/cpuid-features.ts";
import { PortableVcpu } from "../../src/cpu/wasm/portable-vcpu.ts";
import { quietHost } from "../../src/cpu/quiet-host.ts";
import type { Vcpu, VcpuHost } from "../../src/cpu/vcpu.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import {
  type Batch,
  type BatchResult,
  BatchWriter,
  CODE_ADDRESS,
  handlerAddress,
  type Ring3Engine,
  readResult,
  remainingCases,
  startState,
  writeHungFrame,
  writeSystem,
} from "./image.ts";
import { CODE_BYTES, DONE_PORT, HUNG, RAM_BYTES } from "./layout.ts";

/** A case runs for microseconds; decoding and compiling its instructions may take some milliseconds. */
const HANG_MILLISECONDS = 3000;
/** How often it may be found that long in the harness's own code. */
const RUNTIME_PATIENCE = 10;
const COMPILED_BYTES = 8 << 20;

/** Time that this thread had the processor: on a busy host a case can wait for seconds without hanging. */
function threadMilliseconds(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

export class InterpreterEngine implements Ring3Engine {
  readonly name: string = "wasm";
  readonly #memory = GuestMemory.create(RAM_BYTES);
  readonly #ram: Uint8Array;
  readonly #writer: BatchWriter;
  readonly #vcpu: Vcpu;
  #done = false;

  /** `create` makes the vCPU; by default the portable engine's, with all that it implements, offered or not. */
  constructor(
    create: (memory: GuestMemory, host: VcpuHost) => Vcpu = (memory, host) =>
      new PortableVcpu(memory, host, { features: new Set(Object.keys(FEATURES) as FeatureName[]) }),
  ) {
    const offset = this.#memory.regions[0]?.offset ?? 0;
    this.#ram = this.#memory.bytes.subarray(offset, offset + RAM_BYTES);
    this.#writer = new BatchWriter(this.#ram);
    writeSystem(this.#ram);
    this.#vcpu = create(
      this.#memory,
      quietHost((port) => {
        if (port === DONE_PORT) this.#done = true;
      }),
    );
  }

  run(batch: Batch): BatchResult {
    this.#writer.write(batch);
    this.#vcpu.state.load(startState());
    this.#done = false;
    let progress = threadMilliseconds();
    let remaining = -1;
    let patience = RUNTIME_PATIENCE;
    while (!this.#done) {
      const exit = this.#vcpu.run();
      if (exit.kind === "shutdown" || exit.kind === "internal-error") {
        const detail = exit.kind === "shutdown" ? "a triple fault" : exit.message;
        throw new Error(
          `run a batch on the portable engine: ${detail} at RIP 0x${exit.rip.toString(16)}, wanted an OUT`,
        );
      }
      const now = threadMilliseconds();
      const left = remainingCases(this.#ram);
      if (left !== remaining) {
        remaining = left;
        progress = now;
      } else if (now - progress > HANG_MILLISECONDS) {
        if (!this.#endHungCase() && --patience < 0) {
          throw new Error(`run a batch on the portable engine: ${left} cases are left, and none ends`);
        }
        progress = now;
      }
    }
    return readResult(this.#ram, batch);
  }

  /** The same with every trace compiled at its first execution. */
  static compiled(threshold = 1): InterpreterEngine {
    return new InterpreterEngine((memory, host) => {
      const compiler = { threshold, maxBytes: COMPILED_BYTES };
      return new PortableVcpu(memory, host, { features: new Set(Object.keys(FEATURES) as FeatureName[]), compiler });
    });
  }

  /** The case that runs now gets its end; false where the runtime runs, which a busy host may hold up. */
  #endHungCase(): boolean {
    const state = this.#vcpu.state.save();
    if (state.rip < CODE_ADDRESS || state.rip >= CODE_ADDRESS + BigInt(CODE_BYTES)) return false;
    writeHungFrame(this.#ram, state.rip, state.gpr.rsp, state.rflags);
    this.#vcpu.state.load({ ...state, rip: handlerAddress(HUNG) });
    return true;
  }

  [Symbol.dispose](): void {}
}
