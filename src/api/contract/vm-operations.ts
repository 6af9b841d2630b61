/** What the API does with virtual machines: the operations on one, and those that last and are followed. */

import { z } from "zod";
import {
  keyPressesSchema,
  operationSchema,
  screenSchema,
  vmSampleSchema,
  vmStatusSchema,
} from "../../fleet/contract.ts";
import { nameSchema, vmSpecSchema, vmUpdateSchema } from "../../fleet/vm-spec.ts";
import { operation } from "./operation.ts";

const tag = "VMs";
const target = z.object({
  vm: nameSchema.describe("the VM's name or id"),
});
const time = z.iso.datetime().describe("only what is later than this");

/** Numbers and truth values in a query are text on the wire. */
const number = (schema: z.ZodNumber) => z.coerce.number().pipe(schema);
const truth = z
  .union([z.enum(["true", "false"]), z.boolean()])
  .transform((value) => value === true || value === "true");
export const queryTypes = { number, truth };

const graceSeconds = z.number().min(0).max(3600).describe("from the power button to the plug; default 10");
const lifecycle = ["not-found", "illegal-transition", "vm-unreachable", "host-failed"] as const;
const admission = ["no-resources", "quota-exceeded"] as const;

/** A text of at most so many bytes at the end of a console. */
const tailBytes = z
  .int()
  .min(0)
  .max(2 ** 20);

const draft = {
  query: z.object({ template: nameSchema.optional().describe("gives what the spec leaves out") }),
  body: vmSpecSchema,
  // With a template the spec may lack what is required of a whole one; the fleet joins and checks the two.
  bodyUnchecked: true,
  problems: ["not-found", "name-taken", "invalid-spec", ...admission, "host-failed"],
} as const;

export const vmOperations = {
  listVms: operation({
    method: "get",
    path: "/api/v1/vms",
    tag,
    summary: "All VMs that the caller may see",
    scope: "read",
    query: z.object({ project: nameSchema.optional() }),
    status: 200,
    response: z.array(vmStatusSchema),
  }),
  createVm: operation({
    method: "post",
    path: "/api/v1/vms",
    tag,
    summary: "Create a VM",
    description: "Checks and records; starts nothing. A kernel or initrds of the server's own files need scope admin.",
    scope: "operate",
    ...draft,
    status: 201,
    response: vmStatusSchema,
  }),
  checkVm: operation({
    method: "post",
    path: "/api/v1/check-vm",
    tag,
    summary: "What creating a VM would answer, changing nothing",
    scope: "operate",
    ...draft,
    status: 200,
    response: vmSpecSchema,
  }),
  getVm: operation({
    method: "get",
    path: "/api/v1/vms/{vm}",
    tag,
    summary: "One VM: what was asked, granted and used",
    scope: "read",
    params: target,
    status: 200,
    response: vmStatusSchema,
    problems: ["not-found"],
  }),
  updateVm: operation({
    method: "patch",
    path: "/api/v1/vms/{vm}",
    tag,
    summary: "Change a VM",
    description:
      "Shares, reservation, cap, pool, description, autostart, restart and rebootOnReset act at once; everything else is refused while the VM runs. `disks` names all disks: one left out is removed with its data.",
    scope: "operate",
    params: target,
    body: vmUpdateSchema,
    status: 200,
    response: vmStatusSchema,
    problems: [...lifecycle, "invalid-spec", ...admission],
  }),
  removeVm: operation({
    method: "delete",
    path: "/api/v1/vms/{vm}",
    tag,
    summary: "Remove a VM and its disks",
    scope: "operate",
    params: target,
    query: z.object({ force: truth.default(false).describe("kill it first") }),
    status: 204,
    problems: lifecycle,
  }),
  startVm: operation({
    method: "post",
    path: "/api/v1/vms/{vm}/start",
    tag,
    summary: "Power a VM on, or go on with its saved state; answers once it runs",
    scope: "operate",
    params: target,
    query: z.object({ cold: truth.default(false).describe("drop a saved state and boot") }),
    status: 200,
    response: vmStatusSchema,
    problems: [...lifecycle, "start-failed", ...admission],
  }),
  pauseVm: operation({
    method: "post",
    path: "/api/v1/vms/{vm}/pause",
    tag,
    summary: "Let a VM's time stand still",
    scope: "operate",
    params: target,
    status: 200,
    response: vmStatusSchema,
    problems: lifecycle,
  }),
  saveVm: operation({
    method: "post",
    path: "/api/v1/vms/{vm}/save",
    tag,
    summary: "Save a VM's whole state and switch it off; the next start goes on with it",
    scope: "operate",
    params: target,
    status: 200,
    response: vmStatusSchema,
    problems: lifecycle,
  }),
  resumeVm: operation({
    method: "post",
    path: "/api/v1/vms/{vm}/resume",
    tag,
    summary: "Let a paused VM go on",
    scope: "operate",
    params: target,
    status: 200,
    response: vmStatusSchema,
    problems: lifecycle,
  }),
  stopVm: operation({
    method: "post",
    path: "/api/v1/vms/{vm}/stop",
    tag,
    summary: "Press the power button, and pull the plug after a grace time",
    scope: "operate",
    params: target,
    query: z.object({ graceSeconds: number(graceSeconds).optional() }),
    status: 200,
    response: vmStatusSchema,
    problems: lifecycle,
  }),
  resetVm: operation({
    method: "post",
    path: "/api/v1/vms/{vm}/reset",
    tag,
    summary: "Press the reset button",
    scope: "operate",
    params: target,
    status: 200,
    response: vmStatusSchema,
    problems: [...lifecycle, "start-failed"],
  }),
  killVm: operation({
    method: "post",
    path: "/api/v1/vms/{vm}/kill",
    tag,
    summary: "Pull the plug",
    scope: "operate",
    params: target,
    status: 200,
    response: vmStatusSchema,
    problems: lifecycle,
  }),
  renameVm: operation({
    method: "post",
    path: "/api/v1/vms/{vm}/rename",
    tag,
    summary: "Give a VM another name",
    scope: "operate",
    params: target,
    body: z.strictObject({ name: nameSchema }),
    status: 200,
    response: vmStatusSchema,
    problems: [...lifecycle, "name-taken"],
  }),
  getVmSamples: operation({
    method: "get",
    path: "/api/v1/vms/{vm}/samples",
    tag,
    summary: "Measurements of the last ten minutes, oldest first",
    scope: "read",
    params: target,
    query: z.object({ since: time.optional() }),
    status: 200,
    response: z.array(vmSampleSchema),
    problems: ["not-found"],
  }),
  getVmLog: operation({
    method: "get",
    path: "/api/v1/vms/{vm}/log",
    tag,
    summary: "The console's kept text, at most 1 MiB, also of a VM that is off",
    scope: "read",
    params: target,
    query: z.object({
      tailBytes: number(tailBytes).optional(),
      follow: truth.default(false).describe("go on with what the guest prints, until it ends"),
    }),
    status: 200,
    media: "application/octet-stream",
    problems: ["not-found", "vm-unreachable"],
  }),
  getScreen: operation({
    method: "get",
    path: "/api/v1/vms/{vm}/screen",
    tag,
    summary: "What the guest's VGA shows in text mode",
    scope: "read",
    params: target,
    status: 200,
    response: z.object({
      screen: screenSchema.nullable().meta({ description: "null: the VM is off, or shows graphics" }),
    }),
    problems: ["not-found", "vm-unreachable"],
  }),
  pressKeys: operation({
    method: "post",
    path: "/api/v1/vms/{vm}/keys",
    tag,
    summary: "Press keys of the guest's keyboard",
    scope: "operate",
    params: target,
    body: keyPressesSchema,
    status: 204,
    problems: ["not-found", "illegal-transition", "vm-unreachable"],
  }),
  attachConsole: operation({
    method: "get",
    path: "/api/v1/vms/{vm}/console",
    tag,
    summary: "The serial console, by WebSocket",
    description:
      "Subprotocol `isola.console.v1`; a browser passes its token as a second one, `isola.token.TOKEN`. Binary messages are bytes of the console, either way. Text messages from the server are JSON: {type: gap, lostBytes} and {type: end, reason}. Typing needs scope operate. A watcher that does not read is closed with code 1013.",
    scope: "read",
    params: target,
    query: z.object({ replayBytes: number(tailBytes).optional() }),
    status: 101,
    problems: ["not-found", "vm-unreachable", "upgrade-required"],
  }),
} as const;

const operationTarget = z.object({ id: operationSchema.shape.id });
const onVm = { vm: target.shape.vm };

/** What may be asked for without waiting for its end. */
export const newOperationSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.enum(["start", "pause", "resume", "save", "reset", "kill"]), ...onVm }),
  z.strictObject({ kind: z.literal("stop"), ...onVm, graceSeconds: graceSeconds.optional() }),
  z.strictObject({ kind: z.literal("remove"), ...onVm, force: z.boolean().default(false) }),
]);

export const longOperations = {
  listOperations: operation({
    method: "get",
    path: "/api/v1/operations",
    tag: "Operations",
    summary: "Operations under way or lately ended, the newest first",
    scope: "read",
    status: 200,
    response: z.array(operationSchema),
  }),
  beginOperation: operation({
    method: "post",
    path: "/api/v1/operations",
    tag: "Operations",
    summary: "Begin to start, stop or otherwise move a VM, and answer at once",
    scope: "operate",
    body: newOperationSchema,
    status: 202,
    response: operationSchema,
    problems: [...lifecycle, ...admission, "start-failed"],
  }),
  getOperation: operation({
    method: "get",
    path: "/api/v1/operations/{id}",
    tag: "Operations",
    summary: "How far an operation is",
    scope: "read",
    params: operationTarget,
    status: 200,
    response: operationSchema,
    problems: ["not-found"],
  }),
  followOperation: operation({
    method: "get",
    path: "/api/v1/operations/{id}/progress",
    tag: "Operations",
    summary: "An operation's progress as it is made; the stream ends with the operation",
    scope: "read",
    params: operationTarget,
    status: 200,
    media: "text/event-stream",
    response: operationSchema,
    problems: ["not-found"],
  }),
} as const;
