/** What each operation of the API does. Streams and the console lie beside. */

import type { Fleet, Operation as FleetOperation } from "../../fleet/contract.ts";
import { FleetError } from "../../fleet/fleet-error.ts";
import type { ImageInfo } from "../../images/store.ts";
import type { ApiOperations } from "../contract/api.ts";
import type { Checked, Operation, Output } from "../contract/operation.ts";
import type { AccessStore } from "./access-store.ts";
import { type Caller, demandWholeHost } from "./caller.ts";
import type { ApiAnswer, ApiRequest } from "./exchange.ts";
import { metricsText, type RequestMetrics } from "./metrics.ts";
import { consoleLog, eventStream, operationStream } from "./streams.ts";
import type { Tenant } from "./tenant.ts";

/** Time for the answer to a request for the server's end, in milliseconds. */
const SHUT_DOWN_MS = 50;

export interface ApiDependencies {
  readonly fleet: Fleet;
  readonly access: AccessStore;
  /** What a VM can boot from. */
  readonly images: { list(): Promise<readonly ImageInfo[]> };
  readonly version: string;
  readonly metrics: RequestMetrics;
  /** Where the server is reached; known once it listens. */
  readonly addresses: { url: string | null; socketPath: string | null };
  /** Called when an administrator asks for the server's end. */
  readonly shutDown: () => void;
}

export interface Call<O extends Operation> extends Checked<O> {
  readonly caller: Caller;
  readonly tenant: Tenant;
  readonly dependencies: ApiDependencies;
  readonly headers: ApiRequest["headers"];
}

/** An operation of plain bytes answers with them or their stream, every other with what its schema says. */
type Answer<O extends Operation> = O extends { media: string } ? NonNullable<ApiAnswer["body"]> : Output<O>;
type Served = Exclude<
  { [K in keyof ApiOperations]: ApiOperations[K] extends { status: 101 } ? never : K }[keyof ApiOperations],
  never
>;
export type Handlers = { readonly [K in Served]: (call: Call<ApiOperations[K]>) => Promise<Answer<ApiOperations[K]>> };

function byName<T extends { readonly name: string }>(list: readonly T[], name: string, what: string): T {
  const found = list.find((item) => item.name === name);
  if (found !== undefined) return found;
  throw new FleetError({ code: "not-found", message: `there is no ${what} ${name}` });
}

type Draft = Pick<Call<ApiOperations["createVm"]>, "tenant" | "dependencies" | "query" | "body">;

/** The spec as it goes to the fleet, and the template it begins from. */
async function draft({ tenant, dependencies, query, body }: Draft): Promise<{
  spec: Readonly<Record<string, unknown>>;
  options: { template?: string };
}> {
  const { template } = query;
  if (template === undefined) return { spec: tenant.draft(body), options: {} };
  const { spec } = byName(await dependencies.fleet.templates(), template, "template");
  return { spec: tenant.draft(body, spec), options: { template } };
}

/** Sets an operation going and answers with it as it begins; how it ends is to be seen in the operation. */
function begun(run: (onOperation: (operation: FleetOperation) => void) => Promise<unknown>): Promise<FleetOperation> {
  const { promise, resolve, reject } = Promise.withResolvers<FleetOperation>();
  run(resolve).then(() => {
    // Where the VM is already as it was to be, there may be nothing to follow.
    reject(new FleetError({ code: "illegal-transition", message: "cannot begin: there is nothing to do" }));
  }, reject);
  return promise;
}

export const handlers: Handlers = {
  getHealth: async ({ dependencies }) => ({ status: "ok", version: dependencies.version }),
  getMetrics: async ({ tenant, dependencies }) =>
    metricsText(await tenant.host(), await tenant.list(), dependencies.metrics),
  getCaller: async ({ caller: { who, scope, projects } }) => ({
    who,
    scope,
    projects: projects === null ? null : [...projects],
  }),
  getHost: ({ tenant }) => tenant.host(),
  getServer: async ({ dependencies: { version, addresses } }) => ({ version, ...addresses }),
  shutDown: async ({ dependencies, caller }) => {
    demandWholeHost(caller, "end the server");
    // After the answer has gone out.
    setTimeout(dependencies.shutDown, SHUT_DOWN_MS);
    return undefined;
  },
  getHostSamples: ({ dependencies, query }) => dependencies.fleet.hostSamples(query.since),
  listImages: async ({ dependencies }) =>
    (await dependencies.images.list()).map(({ name, description, cachedBytes = null }) => ({
      name,
      description,
      cachedBytes,
    })),
  listEvents: async ({ tenant, dependencies, query }) =>
    (await dependencies.fleet.events(query.after, query.limit)).filter((event) => tenant.seesEvent(event)),
  followEvents: async ({ tenant, dependencies, query, headers }) => {
    const last = Number(headers["last-event-id"] ?? Number.NaN);
    const resumed = Number.isSafeInteger(last) && last >= 0 ? last : undefined;
    const after = resumed ?? query.after ?? (query.replay ? 0 : undefined);
    return eventStream(tenant, dependencies, after);
  },

  listVms: async ({ tenant, query }) =>
    (await tenant.list()).filter(({ project }) => query.project === undefined || project === query.project),
  createVm: async (call) => {
    const { spec, options } = await draft(call);
    return await call.dependencies.fleet.create(spec, { actor: call.caller.who, ...options });
  },
  checkVm: async (call) => {
    const { spec, options } = await draft(call);
    return await call.dependencies.fleet.check(spec, options);
  },
  getVm: ({ tenant, params }) => tenant.find(params.vm),
  updateVm: async ({ tenant, dependencies, params, body, caller }) => {
    tenant.permitChange(body);
    return await dependencies.fleet.update(await tenant.idOf(params.vm), body, { actor: caller.who });
  },
  removeVm: async ({ tenant, dependencies, params, query, caller }) => {
    await dependencies.fleet.remove(await tenant.idOf(params.vm), { actor: caller.who, force: query.force });
    return undefined;
  },
  startVm: async ({ tenant, dependencies, params, query: { cold }, caller }) =>
    await dependencies.fleet.start(await tenant.idOf(params.vm), { actor: caller.who, cold }),
  saveVm: async ({ tenant, dependencies, params, caller }) =>
    await dependencies.fleet.save(await tenant.idOf(params.vm), { actor: caller.who }),
  pauseVm: async ({ tenant, dependencies, params, caller }) =>
    await dependencies.fleet.pause(await tenant.idOf(params.vm), { actor: caller.who }),
  resumeVm: async ({ tenant, dependencies, params, caller }) =>
    await dependencies.fleet.resume(await tenant.idOf(params.vm), { actor: caller.who }),
  stopVm: async ({ tenant, dependencies, params, query: { graceSeconds }, caller }) =>
    await dependencies.fleet.stop(await tenant.idOf(params.vm), {
      actor: caller.who,
      ...(graceSeconds === undefined ? {} : { graceSeconds }),
    }),
  resetVm: async ({ tenant, dependencies, params, caller }) =>
    await dependencies.fleet.reset(await tenant.idOf(params.vm), { actor: caller.who }),
  killVm: async ({ tenant, dependencies, params, caller }) =>
    await dependencies.fleet.kill(await tenant.idOf(params.vm), { actor: caller.who }),
  renameVm: async ({ tenant, dependencies, params, body, caller }) =>
    await dependencies.fleet.rename(await tenant.idOf(params.vm), body.name, { actor: caller.who }),
  getVmSamples: async ({ tenant, dependencies, params, query }) =>
    await dependencies.fleet.samples(await tenant.idOf(params.vm), query.since),
  getVmLog: async ({ tenant, dependencies, params, query: { tailBytes, follow } }) =>
    await consoleLog(dependencies, await tenant.idOf(params.vm), tailBytes, follow),
  getScreen: async ({ tenant, dependencies, params }) => ({
    screen: await dependencies.fleet.screen(await tenant.idOf(params.vm)),
  }),
  pressKeys: async ({ tenant, dependencies, params, body }) => {
    await dependencies.fleet.pressKeys(await tenant.idOf(params.vm), body);
    return undefined;
  },

  listOperations: ({ tenant }) => tenant.operations(),
  getOperation: ({ tenant, params }) => tenant.operation(params.id),
  followOperation: async ({ tenant, dependencies, params }) =>
    operationStream(tenant, dependencies, await tenant.operation(params.id)),
  beginOperation: async ({ tenant, dependencies: { fleet }, body, caller }) => {
    const vm = await tenant.idOf(body.vm);
    return await begun((onOperation) => {
      const action = { actor: caller.who, onOperation };
      switch (body.kind) {
        case "remove":
          return fleet.remove(vm, { ...action, force: body.force });
        case "stop":
          return fleet.stop(vm, {
            ...action,
            ...(body.graceSeconds === undefined ? {} : { graceSeconds: body.graceSeconds }),
          });
        default:
          return fleet[body.kind](vm, action);
      }
    });
  },

  listProjects: ({ tenant }) => tenant.projects(),
  putProject: async ({ dependencies, params, body, caller }) => {
    demandWholeHost(caller, "change a project");
    return await dependencies.fleet.putProject(params.name, body as object, { actor: caller.who });
  },
  removeProject: async ({ dependencies, params, caller }) => {
    demandWholeHost(caller, "remove a project");
    await dependencies.fleet.removeProject(params.name, { actor: caller.who });
    return undefined;
  },
  listTemplates: ({ dependencies }) => dependencies.fleet.templates(),
  putTemplate: async ({ dependencies, params, body, caller }) => {
    demandWholeHost(caller, "change a template");
    return await dependencies.fleet.putTemplate({ ...body, name: params.name }, { actor: caller.who });
  },
  removeTemplate: async ({ dependencies, params, caller }) => {
    demandWholeHost(caller, "remove a template");
    await dependencies.fleet.removeTemplate(params.name, { actor: caller.who });
    return undefined;
  },
  listPools: ({ dependencies }) => dependencies.fleet.pools(),
  putPool: async ({ dependencies, params, body, caller }) => {
    demandWholeHost(caller, "change a CPU pool");
    return await dependencies.fleet.putPool({ ...body, name: params.name }, { actor: caller.who });
  },
  removePool: async ({ dependencies, params, caller }) => {
    demandWholeHost(caller, "remove a CPU pool");
    await dependencies.fleet.removePool(params.name, { actor: caller.who });
    return undefined;
  },

  listTokens: async ({ dependencies, caller }) => {
    demandWholeHost(caller, "list tokens");
    return dependencies.access.tokens();
  },
  createToken: async ({ dependencies, body, caller }) => {
    demandWholeHost(caller, "make a token");
    return dependencies.access.createToken(body);
  },
  revokeToken: async ({ dependencies, params, caller }) => {
    demandWholeHost(caller, "revoke a token");
    if (!dependencies.access.revokeToken(params.name)) {
      throw new FleetError({ code: "not-found", message: `there is no token ${params.name}` });
    }
    return undefined;
  },
  listAudit: async ({ dependencies, query, caller }) => {
    demandWholeHost(caller, "read the audit log");
    return dependencies.access.audit(query.limit, query.before);
  },
};
