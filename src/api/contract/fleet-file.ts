/** The file that says what a server is to have: vms.yaml, for `isola apply` and `isola export`. */

import { z } from "zod";
import { cpuPoolSchema, quotaSchema, templateSchema } from "../../fleet/contract.ts";
import { nameSchema, vmSpecFields } from "../../fleet/vm-spec.ts";

export const FLEET_FILE_VERSION = 1;

/** What a VM is to be doing. */
export const WANTED_STATES = ["running", "stopped"] as const;

export const fleetVmSchema = vmSpecFields.extend({
  template: nameSchema.optional().describe("gives what is left out here"),
  state: z.enum(WANTED_STATES).default("running").describe("what it is to be doing"),
});

export const fleetFileSchema = z
  .strictObject({
    version: z.literal(FLEET_FILE_VERSION),
    projects: z.record(nameSchema, quotaSchema.partial()).optional(),
    pools: z.record(nameSchema, cpuPoolSchema.omit({ name: true }).strict()).optional(),
    templates: z.record(nameSchema, templateSchema.omit({ name: true }).strict()).optional(),
    vms: z
      .array(fleetVmSchema)
      .max(10_000)
      .refine((vms) => new Set(vms.map(({ name }) => name)).size === vms.length, "wanted: names that differ")
      .default([]),
  })
  .meta({ title: "isola's vms.yaml", description: "What a server is to have; `isola apply -f` brings it there." });
/** As it is written: defaults left out, sizes as text. */
export type FleetFile = z.input<typeof fleetFileSchema>;

/** The JSON schema of the file, for editors. */
export function fleetFileJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(fleetFileSchema, { io: "input", target: "draft-2020-12" });
}
