/**
 * The API as a function from requests to responses: routes made from the contract, with authentication, bounds, checks
 * and the audit log before and after each handler. It opens no socket (server.ts does).
 */

import { type Context, Hono } from "hono";
import type { ZodType } from "zod";
import { IsolaError } from "../../base/errors.ts";
import { apiDocument, apiOperations } from "../contract/api.ts";
import type { Operation } from "../contract/operation.ts";
import { PROBLEM_MEDIA, type Problem, problemOf } from "../contract/problem.ts";
import { bearerToken, type Caller, callerOf, demand, LOCAL_CALLER } from "./caller.ts";
import { foreseen, refusal } from "./failures.ts";
import { type ApiDependencies, type Call, handlers } from "./handlers.ts";
import { refuseOtherOrigins, secure } from "./browser-safety.ts";
import { Tenant } from "./tenant.ts";

/** Most bytes of a body: a spec with everything in it has a few thousand. */
export const BODY_LIMIT_BYTES = 2 ** 20;

export interface AppBindings {
  /** Whether the request came by the Unix socket. */
  readonly local: boolean;
  readonly address: string;
}

export interface AppOptions extends ApiDependencies {
  /** Told of failures that nobody foresaw. */
  readonly log: (line: string) => void;
  /** Serves what is no operation: the dashboard. */
  readonly files?: (request: Request) => Promise<Response | undefined>;
}

type AppContext = Context<{ Bindings: AppBindings }>;
type AnyHandler = (call: Call<Operation>) => Promise<unknown>;

export type IsolaApp = Hono<{ Bindings: AppBindings }>;

/** The response for a problem. */
export function problemResponse(problem: Problem, headers: Record<string, string> = {}): Response {
  const challenge = problem.status === 401 ? { "www-authenticate": 'Bearer realm="isola"' } : {};
  return new Response(JSON.stringify(problem), {
    status: problem.status,
    headers: { "content-type": PROBLEM_MEDIA, ...challenge, ...headers },
  });
}

function callerFor(context: AppContext, { access }: ApiDependencies): Caller {
  if (context.env.local) return LOCAL_CALLER;
  return callerOf(access, bearerToken(context.req.header("authorization")), context.env.address);
}

/** The body as text, read no further than the limit; Content-Length is believed where it says too much. */
async function readText(request: Request): Promise<string> {
  const tooLarge = new IsolaError({
    code: "body-too-large",
    message: `cannot take the body: it is larger than ${BODY_LIMIT_BYTES} bytes; wanted: at most that`,
  });
  if (Number(request.headers.get("content-length") ?? 0) > BODY_LIMIT_BYTES) throw tooLarge;
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.length;
    if (bytes > BODY_LIMIT_BYTES) throw tooLarge;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

async function readJson(context: AppContext): Promise<unknown> {
  const type = context.req.header("content-type") ?? "";
  if (!/^application\/json\s*(;|$)/i.test(type)) {
    throw new IsolaError({
      code: "media-unsupported",
      message: `cannot read the body: its content-type is ${JSON.stringify(type.slice(0, 100))}; wanted: application/json`,
    });
  }
  const text = await readText(context.req.raw);
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const reason = error instanceof Error ? error.message.slice(0, 200) : String(error);
    throw new IsolaError({ code: "request-invalid", message: `cannot read the body as JSON: ${reason}`, cause: error });
  }
}

/** Query parameters by name; one that is repeated counts as a list, which no operation takes. */
function queryOf(context: AppContext): Record<string, string | string[]> {
  return Object.fromEntries(
    Object.entries(context.req.queries()).map(([name, values]) => [
      name,
      values.length === 1 ? (values[0] ?? "") : values,
    ]),
  );
}

/** The checked parts of a request, or the problem with them; `query` is the schema that refuses unknown parameters. */
async function check(
  context: AppContext,
  operation: Operation,
  query: ZodType | undefined,
): Promise<Problem | { params: unknown; query: unknown; body: unknown }> {
  const parts: Record<string, unknown> = {};
  for (const [place, schema] of [
    ["path", operation.params],
    ["query", query],
  ] as const) {
    if (schema === undefined) continue;
    const value = place === "path" ? context.req.param() : queryOf(context);
    const result = schema.safeParse(value);
    if (!result.success) return refusal(place, value, result.error);
    parts[place] = result.data;
  }
  if (operation.body !== undefined) {
    const value = await readJson(context);
    const result =
      operation.bodyUnchecked === true ? { success: true as const, data: value } : operation.body.safeParse(value);
    if (!result.success) return refusal("body", value, result.error);
    parts["body"] = result.data;
  }
  return { params: parts["path"], query: parts["query"] ?? {}, body: parts["body"] };
}

/** What answers hold that are one piece of text. */
const texts = new WeakMap<Response, string>();

/** The whole body of `response` where it is known: it need not be read from a stream again. */
export function textOf(response: Response): string | undefined {
  return texts.get(response);
}

function answer(operation: Operation, result: unknown): Response {
  const { status, media } = operation;
  if (media !== undefined) {
    const charset = media.startsWith("text/") ? "; charset=utf-8" : "";
    return new Response(result as ReadableStream<Uint8Array> | string, {
      status,
      headers: { "content-type": `${media}${charset}`, "cache-control": "no-store" },
    });
  }
  if (operation.response === undefined) return new Response(null, { status });
  const text = JSON.stringify(result);
  const response = new Response(text, {
    status,
    headers: { "content-type": "application/json", "cache-control": "no-store" },
  });
  texts.set(response, text);
  return response;
}

/** Where what was made is to be found. [RFC 9110 §10.2.2] */
function location(name: string, result: unknown): string | undefined {
  if (name === "createVm") return `/api/v1/vms/${(result as { id: string }).id}`;
  if (name === "beginOperation") return `/api/v1/operations/${(result as { id: string }).id}`;
  return undefined;
}

export function createApp(options: AppOptions): IsolaApp {
  const { access, metrics, log } = options;
  const app: IsolaApp = new Hono();

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
    context: AppContext,
    name: string,
    operation: Operation,
    query: ZodType | undefined,
  ): Promise<Response> {
    const begun = performance.now();
    let caller: Caller | undefined;
    let tenant: Tenant | undefined;
    let response: Response;
    let code: string | null = null;
    try {
      if (operation.scope !== "none") {
        caller = callerFor(context, options);
        tenant = new Tenant(options.fleet, caller);
        demand(caller, operation.scope, operation.summary.toLowerCase());
      }
      const checked = await check(context, operation, query);
      if ("code" in checked) {
        code = checked.code;
        response = problemResponse(checked);
      } else {
        const handler = (handlers as unknown as Record<string, AnyHandler | undefined>)[name];
        if (handler === undefined) {
          throw new IsolaError({ code: "upgrade-required", message: `${operation.path} takes a WebSocket` });
        }
        const call = { ...checked, caller, tenant, dependencies: options, headers: context.req.raw.headers };
        const result = await handler(call as unknown as Call<Operation>);
        response = answer(operation, result);
        const made = location(name, result);
        if (made !== undefined) response.headers.set("location", made);
      }
    } catch (error) {
      const problem = await failed(error, tenant);
      code = problem.code;
      response = problemResponse(problem);
    }
    metrics.observe(name, response.status, (performance.now() - begun) / 1000);
    // Calls that change something, and those that were refused for want of rights; not those of nobody in particular.
    if (caller !== undefined && (operation.method !== "get" || response.status === 403)) {
      const { who, address } = caller;
      access.record({
        who,
        address,
        operation: name,
        target: context.req.path.slice(0, 500),
        status: response.status,
        code,
      });
    }
    return response;
  }

  app.use(secure);
  app.use(refuseOtherOrigins);
  const document = JSON.stringify(apiDocument());
  app.get("/openapi.json", () => new Response(document, { headers: { "content-type": "application/json" } }));

  const allowed = new Map<string, string[]>([["/openapi.json", ["GET"]]]);
  for (const [name, operation] of Object.entries<Operation>(apiOperations)) {
    const path = operation.path.replaceAll(/\{(\w+)\}/g, ":$1");
    const method = operation.method.toUpperCase();
    allowed.set(path, [...(allowed.get(path) ?? []), method]);
    // Made once: a schema compiles its checks when it is first used, which costs as much as a hundred requests.
    const query = operation.query?.strict();
    app.on(method, path, (context) => serve(context, name, operation, query));
  }
  for (const [path, methods] of allowed) {
    app.all(path, (context) =>
      problemResponse(
        problemOf("method-not-allowed", `${path} does not take ${context.req.method}; wanted: ${methods.join(", ")}`),
        { allow: methods.join(", ") },
      ),
    );
  }
  app.notFound(async (context) => {
    const found = await options.files?.(context.req.raw);
    return found ?? problemResponse(problemOf("not-found", `there is nothing at ${context.req.path.slice(0, 200)}`));
  });
  app.onError(async (error) => problemResponse(await failed(error, undefined)));
  return app;
}
