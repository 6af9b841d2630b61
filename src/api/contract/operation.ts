/**
 * The form in which the API is written down: one constant per operation, from which the server's routes, the OpenAPI
 * document and the typed client are all derived. Schemas are zod's; nothing here needs Node.
 */

import type { z } from "zod";
import type { ProblemCode } from "./problem.ts";

/** What a caller may do; each scope includes those before it. */
export const SCOPES = ["read", "operate", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

export const METHODS = ["get", "post", "put", "patch", "delete"] as const;
export type Method = (typeof METHODS)[number];

export interface Operation {
  readonly method: Method;
  /** With parameters in braces, as OpenAPI writes them: `/api/v1/vms/{vm}`. */
  readonly path: `/${string}`;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  /** The least scope that may call it; "none": anyone who reaches the server. */
  readonly scope: Scope | "none";
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodType;
  /** The body is documented by its schema, and checked by whoever acts on it: it may be incomplete. */
  readonly bodyUnchecked?: true;
  /** 101: the path takes a WebSocket; the client has no method for it. */
  readonly status: 101 | 200 | 201 | 202 | 204;
  /** Of the JSON that answers; for a stream of events, of one event. Left out where nothing or plain bytes answer. */
  readonly response?: z.ZodType;
  /** Where it is not `application/json`: the answer is a stream and reaches the caller as it comes. */
  readonly media?: "text/event-stream" | "application/octet-stream" | "text/plain";
  /** Problems of its own, besides those that every operation may answer (COMMON_PROBLEMS). */
  readonly problems?: readonly ProblemCode[];
}

export type Operations = Readonly<Record<string, Operation>>;

/** Keeps the literal types of an operation, which the client's and the handlers' types are made of. */
export function operation<const O extends Operation>(definition: O): O {
  return definition;
}

type Empty = Record<never, never>;

/** What a caller passes: path parameters by name, beside them `query` and `body`. */
export type Input<O extends Operation> = (O extends { params: infer P extends z.ZodType } ? z.input<P> : Empty) &
  (O extends { query: infer Q extends z.ZodType } ? { readonly query?: z.input<Q> } : Empty) &
  (O extends { body: infer B extends z.ZodType } ? { readonly body: z.input<B> } : Empty);

/** The same once it is checked, with defaults filled in: what a handler receives. */
export type Checked<O extends Operation> = {
  readonly params: O extends { params: infer P extends z.ZodType } ? z.output<P> : undefined;
  readonly query: O extends { query: infer Q extends z.ZodType } ? z.output<Q> : undefined;
  readonly body: Body<O>;
};

export type Output<O extends Operation> = O extends { response: infer R extends z.ZodType } ? z.output<R> : undefined;

/** What a handler receives as its body: of an unchecked one, any JSON. */
export type Body<O extends Operation> = O extends { bodyUnchecked: true }
  ? unknown
  : O extends { body: infer B extends z.ZodType }
    ? z.output<B>
    : undefined;

/** The names of the parameters in a path. */
export function pathParameters(path: string): string[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? "");
}
