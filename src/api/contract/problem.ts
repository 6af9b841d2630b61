/** Errors as they go over the wire: problem details, with isola's stable code as the type. [RFC 9457] */

import { z } from "zod";
import { IsolaError } from "../../base/errors.ts";
import { FLEET_ERROR_CODES, type FleetErrorCode } from "../../fleet/fleet-error.ts";

export const PROBLEM_MEDIA = "application/problem+json";

const FLEET_TITLES = {
  "not-found": "There is no such thing",
  "name-taken": "The name is taken",
  "illegal-transition": "The state of the VM does not allow it",
  "in-use": "It is in use",
  "invalid-spec": "A value is not what it may be",
  "no-resources": "The host has too little free",
  "quota-exceeded": "The project's quota is too small",
  "vm-unreachable": "The VM's process does not answer",
  "start-failed": "The VM did not come up",
  "host-failed": "The host failed",
} as const satisfies Record<FleetErrorCode, string>;

const fleetProblems = Object.fromEntries(
  Object.entries(FLEET_TITLES).map(([code, title]) => [
    code,
    { status: FLEET_ERROR_CODES[code as FleetErrorCode], title },
  ]),
) as Record<FleetErrorCode, { status: number; title: string }>;

/**
 * Every code that a caller may meet, with its status and title. Codes are stable: programs branch on them. A code that
 * is not here reaches the caller as "internal".
 */
export const PROBLEMS = {
  "request-invalid": { status: 400, title: "The request is not what the operation takes" },
  unauthenticated: { status: 401, title: "No valid token" },
  forbidden: { status: 403, title: "The token does not allow this" },
  "origin-refused": { status: 403, title: "Another site's page may not call this server" },
  "method-not-allowed": { status: 405, title: "The path does not take this method" },
  "body-too-large": { status: 413, title: "The body is too large" },
  "media-unsupported": { status: 415, title: "The body is not JSON" },
  "token-exists": { status: 409, title: "The name is taken" },
  "upgrade-required": { status: 426, title: "The path takes a WebSocket" },
  internal: { status: 500, title: "The server failed" },
  ...fleetProblems,
} as const satisfies Record<string, { status: number; title: string }>;

export type ProblemCode = keyof typeof PROBLEMS;

/** What any operation may answer. */
export const COMMON_PROBLEMS = [
  "request-invalid",
  "unauthenticated",
  "forbidden",
  "internal",
] as const satisfies readonly ProblemCode[];

/** What an operation that takes a body may answer besides. */
export const BODY_PROBLEMS = [
  "body-too-large",
  "media-unsupported",
  "invalid-spec",
] as const satisfies readonly ProblemCode[];

const TYPE_PREFIX = "urn:isola:problem:";

export const problemSchema = z
  .looseObject({
    type: z.string().describe("urn:isola:problem:CODE"),
    title: z.string(),
    status: z.int().min(400).max(599),
    detail: z.string().describe("one line for a person: the action, the value found, the value wanted"),
    code: z.string().describe("stable, for programs"),
    errors: z
      .array(
        z.object({
          pointer: z.string().describe("JSON pointer into the body, or the parameter's name"),
          detail: z.string(),
        }),
      )
      .optional()
      .describe("each value that was refused"),
  })
  .describe("Problem details (RFC 9457)");
export type Problem = z.infer<typeof problemSchema>;

export function isProblemCode(code: string): code is ProblemCode {
  return Object.hasOwn(PROBLEMS, code);
}

/** The problem for `code`; `detail` is for a person, `more` are extension members. */
export function problemOf(code: ProblemCode, detail: string, more: Readonly<Record<string, unknown>> = {}): Problem {
  const { status, title } = PROBLEMS[code];
  return { ...more, type: `${TYPE_PREFIX}${code}`, title, status, detail, code };
}

/** What the client throws: the server's problem, as the one-line error that the rest of isola knows. */
export class ApiError extends IsolaError {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super({ code: problem.code, message: problem.detail });
    this.name = "ApiError";
    this.problem = problem;
  }

  get status(): number {
    return this.problem.status;
  }
}
