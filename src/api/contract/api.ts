/** The API in one place: every operation, the schemas that its document names, and the client's type. */

import {
  barrierSchema,
  cpuPoolSchema,
  fleetEventSchema,
  hostInventorySchema,
  hostSampleSchema,
  operationSchema,
  projectSchema,
  quotaSchema,
  templateSchema,
  vmSampleSchema,
  vmStatusSchema,
} from "../../fleet/contract.ts";
import { diskSpecSchema, vmSpecSchema, vmUpdateSchema } from "../../fleet/vm-spec.ts";
import { auditEntrySchema, createdTokenSchema, newTokenSchema, tokenSchema } from "./access.ts";
import { type Client, type ClientOptions, createClient } from "./client.ts";
import { openApiDocument } from "./openapi.ts";
import {
  accessOperations,
  arrangementOperations,
  callerSchema,
  hostOperations,
  imageSchema,
} from "./server-operations.ts";
import { longOperations, vmOperations } from "./vm-operations.ts";

// What a user of the API needs beside it, from one place.
export type {
  CpuPool,
  FleetEvent,
  HostInventory,
  HostSample,
  Operation,
  Project,
  Quota,
  Template,
  VmSample,
  VmStatus,
} from "../../fleet/contract.ts";
export type { VmSpec, VmSpecInput, VmUpdate } from "../../fleet/vm-spec.ts";

export const API_VERSION = "1.0.0";

export const apiOperations = {
  ...hostOperations,
  ...vmOperations,
  ...longOperations,
  ...arrangementOperations,
  ...accessOperations,
} as const;
export type ApiOperations = typeof apiOperations;
export type ApiClient = Client<ApiOperations>;

/** A client for isola's server; see client.ts. */
export function createApiClient(options: ClientOptions): ApiClient {
  return createClient(apiOperations, options);
}

const named = {
  AuditEntry: auditEntrySchema,
  Barrier: barrierSchema,
  Caller: callerSchema,
  CpuPool: cpuPoolSchema,
  CreatedToken: createdTokenSchema,
  DiskSpec: diskSpecSchema,
  Event: fleetEventSchema,
  Host: hostInventorySchema,
  HostSample: hostSampleSchema,
  Image: imageSchema,
  NewToken: newTokenSchema,
  Operation: operationSchema,
  Project: projectSchema,
  Quota: quotaSchema,
  Template: templateSchema,
  Token: tokenSchema,
  Vm: vmStatusSchema,
  VmSample: vmSampleSchema,
  VmSpec: vmSpecSchema,
  VmUpdate: vmUpdateSchema,
};

/** The OpenAPI document, as it is served at /openapi.json and kept in docs/openapi.json. */
export function apiDocument(): Record<string, unknown> {
  return openApiDocument({
    title: "isola",
    version: API_VERSION,
    description:
      "Virtual machines on one server: their life, consoles, resources and events. Errors are problem details (RFC 9457) with a stable `code`.",
    operations: apiOperations,
    named,
  });
}
