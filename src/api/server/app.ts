/**
 * The API as a function from requests to answers: routes made from the contract, with authentication, bounds, checks
 * and the audit log before and after each handler. It opens no socket (server.ts does).
 */

import type { ZodType } from "zod";
import { IsolaError } from "../../base/errors.ts";
import { apiDocument, apiOperations } from "../contract/api.ts";
import type { Operation } from "../contract/operation.ts";
import { PROBLEM_MEDIA, type Problem, problemOf } from "../contract/problem.ts";
import { originRefusal } from "./browser-safety.ts";
import { bearerToken, type Caller, callerOf, demand, LOCAL_CALLER } from "./caller.ts";
import { type ApiAnswer, type ApiRequest, header } from "./exchange.ts";
import { foreseen, refusal } from "./failures.ts";
import { type ApiDependencies, type Call, handlers } from "./handlers.ts";
import { Router } from "./router.ts";
import { Tenant } from "./tenant.ts";

/** Most bytes of a body: a spec with everything in it has a few thousand. */
export const BODY_LIMIT_BYTES = 2 ** 20;

const JSON_HEADERS = { "content-type": "application/json", "cache-control": "no-store" } as const;

export interface AppOptions extends ApiDependencies {
  /** Told of failures that nobody foresaw. */
  readonly log: (line: string) => void;
  /** Serves what is no operation: the dashboard. */
  readonly files?: (request: ApiRequest) => Promise<ApiAnswer | undefined>;
}

type AnyHandler = (call: Call<Operation>) => Promise<unknown>;
type Served = (request: ApiRequest, params: Readonly<Record<string, string>>) => Promise<ApiAnswer>;

export type IsolaApp = (request: ApiRequest) => Promise<ApiAnswer>;

/** The answer for a problem. */
function problemAnswer(problem: Problem, headers: Record<string, string> = {}): ApiAnswer {
  const challenge = problem.status === 401 ? { "www-authenticate": 'Bearer realm="isola"' } : {};
  return {
    status: problem.status,
    headers: { "content-type": PROBLEM_MEDIA, ...challenge, ...headers },
    body: JSON.stringify(problem),
  };
}

function callerFor(request: ApiRequest, { access }: ApiDependencies): Caller {
  if (request.local) return LOCAL_CALLER;
  return callerOf(access, bearerToken(header(request, "authorization")), request.address);
}

/** The body as text, read no further than the limit; Content-Length is believed where it says too much. */
async function readText(request: ApiRequest): Promise<string> {
  const tooLarge = new IsolaError({
    code: "body-too-large",
    message: `cannot take the body: it is larger than ${BODY_LIMIT_BYTES} bytes; wanted: at most that`,
  });
  if (Number(header(request, "content-length")) > BODY_LIMIT_BYTES) throw tooLarge;
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of request.body()) {
    bytes += chunk.length;
    if (bytes > BODY_LIMIT_BYTES) throw tooLarge;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

async function readJson(request: ApiRequest): Promise<unknown> {
  const type = header(request, "content-type");
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new IsolaError({
      code: "media-unsupported",
      message: `cannot read the body: its content-type is ${JSON.stringify(type.slice(0, 100))}; wanted: application/json`,
    });
  }
  const text = await readText(request);
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const reason = error instanceof Error ? error.message.slice(0, 200) : String(error);
    throw new IsolaError({ code: "request-invalid", message: `cannot read the body as JSON: ${reason}`, cause: error });
  }
}

/** Query parameters by name; one that is repeated counts as a list, which no operation takes. */
function queryOf(query: string): Record<string, string | string[]> {
  if (query === "") return {};
  const parameters = new URLSearchParams(query);
  return Object.fromEntries(
    [...new Set(parameters.keys())].map((name) => {
      const values = parameters.getAll(name);
      return [name, values.length === 1 ? (values[0] ?? "") : values];
    }),
  );
}

/** The checked parts of a request, or the problem with them; `query` is the schema that refuses unknown parameters. */
async function check(
  request: ApiRequest,
  params: Readonly<Record<string, string>>,
  operation: Operation,
  query: ZodType | undefined,
): Promise<Problem | { params: unknown; query: unknown; body: unknown }> {
  const parts: Record<string, unknown> = {};
  for (const [place, schema] of [
    ["path", operation.params],
    ["query", query],
  ] as const) {
    if (schema === undefined) continue;
    const value = place === "path" ? params : queryOf(request.query);
    const result = schema.safeParse(value);
    if (!result.success) return refusal(place, value, result.error);
    parts[place] = result.data;
  }
  if (operation.body !== undefined) {
    const value = await readJson(request);
    const result =
      operation.bodyUnchecked === true ? { success: true as const, data: value } : operation.body.safeParse(value);
    if (!result.success) return refusal("body", value, result.error);
    parts["body"] = result.data;
  }
  return { params: parts["path"], query: parts["query"] ?? {}, body: parts["body"] };
}

function answer(operation: Operation, result: unknown): ApiAnswer {
  const { status, media } = operation;
  if (media !== undefined) {
    const charset = media.startsWith("text/") ? "; charset=utf-8" : "";
    const headers = { "content-type": `${media}${charset}`, "cache-control": "no-store" };
    return { status, headers, body: result as ApiAnswer["body"] };
  }
  if (operation.response === undefined) return { status, headers: {}, body: null };
  return { status, headers: JSON_HEADERS, body: JSON.stringify(result) };
}

/** Where what was made is to be found. [RFC 9110 §10.2.2] */
function location(name: string, result: unknown): string | undefined {
  if (name === "createVm") return `/api/v1/vms/${(result as { id: string }).id}`;
  if (name === "beginOperation") return `/api/v1/operations/${(result as { id: string }).id}`;
  return undefined;
}

export function createApp(options: AppOptions): IsolaApp {
  const { access, metrics, log } = options;

  const failed = async (error: unknown, tenant: Tenant | undefined): Promise<Problem> => {
    const told = tenant === undefined ? error : await tenant.discreet(error).catch(() => error);
    const problem = foreseen(told);
    if (problem !== undefined) {
      if (problem.status >= 500) log(`${problem.code}: ${problem.detail}`);
      return problem;
    }
    const reference = crypto.randomUUID();
    log(`unexpected failure ${reference}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    return problemOf("internal", `unexpected failure; the server's log tells of it under ${reference}`);
  };

  async function serve(
    request: ApiRequest,
    params: Readonly<Record<string, string>>,
    name: string,
    operation: Operation,
    query: ZodType | undefined,
  ): Promise<ApiAnswer> {
    const begun = performance.now();
    let caller: Caller | undefined;
    let tenant: Tenant | undefined;
    let response: ApiAnswer;
    let code: string | null = null;
    try {
      if (operation.scope !== "none") {
        caller = callerFor(request, options);
        tenant = new Tenant(options.fleet, caller);
        demand(caller, operation.scope, operation.summary.toLowerCase());
      }
      const checked = await check(request, params, operation, query);
      if ("code" in checked) {
        code = checked.code;
        response = problemAnswer(checked);
      } else {
        const handler = (handlers as unknown as Record<string, AnyHandler | undefined>)[name];
        if (handler === undefined) {
          throw new IsolaError({ code: "upgrade-required", message: `${operation.path} takes a WebSocket` });
        }
        const call = { ...checked, caller, tenant, dependencies: options, headers: request.headers };
        const result = await handler(call as unknown as Call<Operation>);
        const made = location(name, result);
        response = answer(operation, result);
        if (made !== undefined) response = { ...response, headers: { ...response.headers, location: made } };
      }
    } catch (error) {
      const problem = await failed(error, tenant);
      code = problem.code;
      response = problemAnswer(problem);
    }
    metrics.observe(name, response.status, (performance.now() - begun) / 1000);
    // Calls that change something, and those that were refused for want of rights; not those of nobody in particular.
    if (caller !== undefined && (operation.method !== "get" || response.status === 403)) {
      const { who, address } = caller;
      access.record({
        who,
        address,
        operation: name,
        target: request.path.slice(0, 500),
        status: response.status,
        code,
      });
    }
    return response;
  }

  const router = new Router<Served>();
  const document: ApiAnswer = {
    status: 200,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(apiDocument()),
  };
  router.add("GET", "/openapi.json", async () => document);
  for (const [name, operation] of Object.entries<Operation>(apiOperations)) {
    // Made once: a schema compiles its checks when it is first used, which costs as much as a hundred requests.
    const query = operation.query?.strict();
    router.add(operation.method.toUpperCase(), operation.path, (request, params) =>
      serve(request, params, name, operation, query),
    );
  }

  async function dispatch(request: ApiRequest): Promise<ApiAnswer> {
    const refused = originRefusal(header(request, "origin"), header(request, "host"));
    if (refused !== undefined) return problemAnswer(refused);
    const found = router.find(request.path);
    if (found === undefined) {
      const nothing = problemOf("not-found", `there is nothing at ${request.path.slice(0, 200)}`);
      return (await options.files?.(request)) ?? problemAnswer(nothing);
    }
    // A HEAD is a GET whose body the listener keeps to itself. [RFC 9110 §9.3.2]
    const served = found.methods.get(request.method === "HEAD" ? "GET" : request.method);
    if (served !== undefined) return await served(request, found.params);
    const allow = [...found.methods.keys()].join(", ");
    const path = request.path.slice(0, 200);
    const detail = `${path} does not take ${request.method}; wanted: ${allow}`;
    return problemAnswer(problemOf("method-not-allowed", detail), { allow });
  }

  return async (request) => {
    try {
      return await dispatch(request);
    } catch (error) {
      return problemAnswer(await failed(error, undefined));
    }
  };
}
