/** Compiling beside the guest on the test's own thread, and as late as the test wants. */

import { DEFAULT_CPU_MODEL } from "../../../isa/cpu-models.ts";
import { Decoder } from "../../../isa/decode.ts";
import { INSTRUCTIONS } from "../../../isa/table.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { type CompiledBatch, compileJobs, type CompileJob, type CompileService } from "./compile-job.ts";

export interface BesideGuest extends CompileService {
  /** Before the guest runs. */
  serve(memory: GuestMemory): void;
  readonly delivered: number;
}

/** Reads a job's code when it is posted, and delivers after so many looks. */
export function besideGuest(looks: number): BesideGuest {
  const decoder = new Decoder(INSTRUCTIONS, DEFAULT_CPU_MODEL.features);
  const done: { batch: CompiledBatch; looks: number }[] = [];
  let memory: GuestMemory | undefined;
  let delivered = 0;
  return {
    wanted: () => true,
    serve: (served) => {
      memory = served;
    },
    post: (job: CompileJob) => {
      if (memory === undefined) throw new Error("no guest is served");
      done.push({ batch: compileJobs(memory, decoder, [structuredClone(job)]), looks });
    },
    take: () => {
      const [first] = done;
      if (first === undefined || first.looks-- > 0) return undefined;
      done.shift();
      delivered++;
      return first.batch;
    },
    get delivered() {
      return delivered;
    },
  };
}
