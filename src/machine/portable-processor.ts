/** The portable engine's processor: any frequency, and every model that has no more than its instructions. */

import { type CpuModel, parseCpuModel, PORTABLE_FEATURES, wholeModel } from "../isa/cpu-models.ts";
import { DEFAULT_TSC_HZ } from "./clock.ts";
import type { EngineRequest } from "./vm.ts";

/** @throws IsolaError `cpu-model-invalid`, `cpu-model-unfit` */
export function portableProcessor({ cpu, tscHz = DEFAULT_TSC_HZ }: Pick<EngineRequest, "cpu" | "tscHz">): {
  readonly model: CpuModel;
  readonly tscHz: number;
} {
  const model =
    typeof cpu === "string" ? parseCpuModel(cpu) : wholeModel(cpu, PORTABLE_FEATURES, "the portable engine");
  return { model, tscHz };
}
