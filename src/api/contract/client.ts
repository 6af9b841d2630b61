/**
 * The typed client, derived from the operations: one method for each, with the checks left to the server. It needs
 * nothing but `fetch`, so it runs in a browser and in Node; src/api/node gives it a `fetch` over a Unix socket.
 */

import { eventLines } from "./event-stream.ts";
import { type Input, type Operation, type Operations, type Output, pathParameters } from "./operation.ts";
import { ApiError, problemOf, problemSchema } from "./problem.ts";

export interface ClientOptions {
  /** Where the server is: `https://host:port`; a path after it is kept. */
  readonly baseUrl: string;
  readonly token?: string;
  /** Default: the global one. */
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

/** JSON for most operations; bytes as they come, or events one by one, for those that are streams. */
type Answer<O extends Operation> = O extends { media: "text/event-stream" }
  ? Promise<AsyncIterable<Output<O>>>
  : O extends { media: string }
    ? Promise<ReadableStream<Uint8Array<ArrayBuffer>>>
    : Promise<Output<O>>;

type Call<O extends Operation> =
  Record<never, never> extends Input<O>
    ? (input?: Input<O>, options?: CallOptions) => Answer<O>
    : (input: Input<O>, options?: CallOptions) => Answer<O>;

export type Client<T extends Operations> = { readonly [K in keyof T]: Call<T[K]> };

interface AnyInput {
  readonly query?: Readonly<Record<string, unknown>>;
  readonly body?: unknown;
  readonly [parameter: string]: unknown;
}

/** The path and query of a call. */
export function requestTarget(path: string, input: AnyInput): string {
  let target = path;
  for (const name of pathParameters(path)) {
    target = target.replace(`{${name}}`, encodeURIComponent(String(input[name])));
  }
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(input.query ?? {})) {
    for (const item of Array.isArray(value) ? value : [value]) if (item !== undefined) query.append(name, String(item));
  }
  return query.size === 0 ? target : `${target}?${query}`;
}

async function failure(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  try {
    const problem = problemSchema.safeParse(JSON.parse(text));
    if (problem.success) return new ApiError(problem.data);
  } catch {
    // No JSON: something else answered, such as a proxy.
  }
  const said = text === "" ? "nothing" : text.slice(0, 200);
  return new ApiError({
    ...problemOf("internal", `${response.url} answered with status ${response.status} and said ${said}`),
    status: response.status < 400 ? 500 : response.status,
  });
}

/** A client for `operations`. Calls reject with an ApiError where the server refuses, with `fetch`'s error otherwise. */
export function createClient<const T extends Operations>(operations: T, options: ClientOptions): Client<T> {
  const send = options.fetch ?? ((url, init) => fetch(url, init));
  const base = options.baseUrl.replace(/\/$/, "");

  async function call(operation: Operation, input: AnyInput, { signal }: CallOptions): Promise<unknown> {
    const headers: Record<string, string> = { accept: operation.media ?? "application/json" };
    if (options.token !== undefined) headers["authorization"] = `Bearer ${options.token}`;
    if (operation.body !== undefined) headers["content-type"] = "application/json";
    const response = await send(`${base}${requestTarget(operation.path, input)}`, {
      method: operation.method.toUpperCase(),
      headers,
      ...(operation.body === undefined ? {} : { body: JSON.stringify(input.body) }),
      ...(signal === undefined ? {} : { signal }),
    });
    if (!response.ok) throw await failure(response);
    if (operation.media === undefined) return operation.response === undefined ? undefined : await response.json();
    const stream = response.body ?? new ReadableStream();
    if (operation.media === "text/event-stream") return eventLines(stream);
    return stream;
  }

  const client = Object.fromEntries(
    Object.entries(operations).map(([name, operation]) => [
      name,
      (input: AnyInput = {}, callOptions: CallOptions = {}) => call(operation, input, callOptions),
    ]),
  );
  return client as unknown as Client<T>;
}
