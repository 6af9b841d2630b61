/** What the API tells of the server and lets one arrange: the host, projects, templates, pools, tokens, events. */

import { z } from "zod";
import {
  cpuPoolSchema,
  fleetEventSchema,
  hostInventorySchema,
  hostSampleSchema,
  projectSchema,
  quotaSchema,
  templateSchema,
} from "../../fleet/contract.ts";
import { nameSchema } from "../../fleet/vm-spec.ts";
import { auditEntrySchema, createdTokenSchema, newTokenSchema, scopeSchema, tokenSchema } from "./access.ts";
import { operation } from "./operation.ts";
import { queryTypes } from "./vm-operations.ts";

const { number, truth } = queryTypes;
const named = z.object({ name: nameSchema });

export const imageSchema = z
  .object({
    name: z.string(),
    description: z.string(),
    cachedBytes: z.number().nullable().describe("null: known, and fetched when it is first needed"),
  })
  .describe("A guest image");

export const healthSchema = z.object({ status: z.literal("ok"), version: z.string() });

export const callerSchema = z
  .object({
    who: z.string().describe("the token's name, or `local` for the Unix socket"),
    scope: scopeSchema,
    projects: z.array(z.string()).nullable(),
  })
  .describe("Who the server takes the caller for");

export const hostOperations = {
  getHealth: operation({
    method: "get",
    path: "/healthz",
    tag: "Server",
    summary: "Whether the server answers",
    scope: "none",
    status: 200,
    response: healthSchema,
  }),
  getMetrics: operation({
    method: "get",
    path: "/metrics",
    tag: "Server",
    summary: "Figures for Prometheus",
    scope: "read",
    status: 200,
    media: "text/plain",
  }),
  getCaller: operation({
    method: "get",
    path: "/api/v1/caller",
    tag: "Server",
    summary: "What the caller's token allows",
    scope: "read",
    status: 200,
    response: callerSchema,
  }),
  getHost: operation({
    method: "get",
    path: "/api/v1/host",
    tag: "Server",
    summary: "The server's processors, memory, disk, engines and walls",
    scope: "read",
    status: 200,
    response: hostInventorySchema,
  }),
  getServer: operation({
    method: "get",
    path: "/api/v1/server",
    tag: "Server",
    summary: "Where the server is reached",
    scope: "read",
    status: 200,
    response: z.object({
      version: z.string(),
      url: z.string().nullable().describe("of TCP; null: by the Unix socket only"),
      socketPath: z.string().nullable(),
    }),
  }),
  shutDown: operation({
    method: "post",
    path: "/api/v1/shutdown",
    tag: "Server",
    summary: "End the server; VMs go on, and the next server finds them",
    scope: "admin",
    status: 202,
  }),
  getHostSamples: operation({
    method: "get",
    path: "/api/v1/host/samples",
    tag: "Server",
    summary: "Measurements of the last ten minutes, oldest first",
    scope: "read",
    query: z.object({ since: z.iso.datetime().optional() }),
    status: 200,
    response: z.array(hostSampleSchema),
  }),
  listImages: operation({
    method: "get",
    path: "/api/v1/images",
    tag: "Server",
    summary: "What a VM can boot from",
    scope: "read",
    status: 200,
    response: z.array(imageSchema),
  }),
  listEvents: operation({
    method: "get",
    path: "/api/v1/events",
    tag: "Events",
    summary: "Kept events, oldest first",
    scope: "read",
    query: z.object({
      after: number(z.int().min(0)).default(0).describe("a sequence number"),
      limit: number(z.int().min(1).max(1000)).default(1000),
    }),
    status: 200,
    response: z.array(fleetEventSchema),
  }),
  followEvents: operation({
    method: "get",
    path: "/api/v1/events/stream",
    tag: "Events",
    summary: "Events as they happen",
    description:
      "Server-sent events; each has its sequence number as id. A reader that does not read is cut off, and goes on with `after` or Last-Event-ID.",
    scope: "read",
    query: z.object({
      after: number(z.int().min(0)).optional().describe("first the kept ones after this sequence number"),
      replay: truth.default(false).describe("first all that are kept"),
    }),
    status: 200,
    media: "text/event-stream",
    response: fleetEventSchema,
  }),
} as const;

export const arrangementOperations = {
  listProjects: operation({
    method: "get",
    path: "/api/v1/projects",
    tag: "Projects",
    summary: "Named groups of VMs, their quotas and what they use",
    scope: "read",
    status: 200,
    response: z.array(projectSchema),
  }),
  putProject: operation({
    method: "put",
    path: "/api/v1/projects/{name}",
    tag: "Projects",
    summary: "Make a project or change its quota",
    scope: "admin",
    params: named,
    body: quotaSchema.partial(),
    // Parsed with the whole quota's defaults, a value left out would be set to "no limit".
    bodyUnchecked: true,
    status: 200,
    response: projectSchema,
    problems: ["invalid-spec", "host-failed"],
  }),
  removeProject: operation({
    method: "delete",
    path: "/api/v1/projects/{name}",
    tag: "Projects",
    summary: "Remove a project that has no VMs",
    scope: "admin",
    params: named,
    status: 204,
    problems: ["not-found", "in-use", "host-failed"],
  }),
  listTemplates: operation({
    method: "get",
    path: "/api/v1/templates",
    tag: "Templates",
    summary: "Specs to begin from",
    scope: "read",
    status: 200,
    response: z.array(templateSchema),
  }),
  putTemplate: operation({
    method: "put",
    path: "/api/v1/templates/{name}",
    tag: "Templates",
    summary: "Make or replace a template",
    scope: "admin",
    params: named,
    body: templateSchema.omit({ name: true }).strict(),
    status: 200,
    response: templateSchema,
    problems: ["invalid-spec", "host-failed"],
  }),
  removeTemplate: operation({
    method: "delete",
    path: "/api/v1/templates/{name}",
    tag: "Templates",
    summary: "Remove a template; VMs made from it stay",
    scope: "admin",
    params: named,
    status: 204,
    problems: ["not-found", "host-failed"],
  }),
  listPools: operation({
    method: "get",
    path: "/api/v1/pools",
    tag: "CPU pools",
    summary: "Sets of host processors that VMs share",
    scope: "read",
    status: 200,
    response: z.array(cpuPoolSchema),
  }),
  putPool: operation({
    method: "put",
    path: "/api/v1/pools/{name}",
    tag: "CPU pools",
    summary: "Make or change a CPU pool",
    scope: "admin",
    params: named,
    body: cpuPoolSchema.omit({ name: true }).strict(),
    status: 200,
    response: cpuPoolSchema,
    problems: ["invalid-spec", "in-use", "no-resources", "host-failed"],
  }),
  removePool: operation({
    method: "delete",
    path: "/api/v1/pools/{name}",
    tag: "CPU pools",
    summary: "Remove a CPU pool that no VM uses",
    scope: "admin",
    params: named,
    status: 204,
    problems: ["not-found", "in-use", "host-failed"],
  }),
} as const;

export const accessOperations = {
  listTokens: operation({
    method: "get",
    path: "/api/v1/tokens",
    tag: "Access",
    summary: "All tokens, without their secrets",
    scope: "admin",
    status: 200,
    response: z.array(tokenSchema),
  }),
  createToken: operation({
    method: "post",
    path: "/api/v1/tokens",
    tag: "Access",
    summary: "Make a token",
    scope: "admin",
    body: newTokenSchema,
    status: 201,
    response: createdTokenSchema,
    problems: ["token-exists"],
  }),
  revokeToken: operation({
    method: "delete",
    path: "/api/v1/tokens/{name}",
    tag: "Access",
    summary: "Take a token out of use, by name or id",
    scope: "admin",
    params: named,
    status: 204,
    problems: ["not-found"],
  }),
  listAudit: operation({
    method: "get",
    path: "/api/v1/audit",
    tag: "Access",
    summary: "Who did what, the newest first",
    scope: "admin",
    query: z.object({
      limit: number(z.int().min(1).max(1000)).default(100),
      before: number(z.int().min(0)).optional().describe("an entry's id: go on from there"),
    }),
    status: 200,
    response: z.array(auditEntrySchema),
  }),
} as const;
