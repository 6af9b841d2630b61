/** From whatever was thrown to the problem that the caller is told. */

import type { z } from "zod";
import { IsolaError } from "../../base/errors.ts";
import { FleetError } from "../../fleet/fleet-error.ts";
import { isProblemCode, type Problem, problemOf } from "../contract/problem.ts";

/** Longest line of a problem: what a caller sent may be in it. */
const DETAIL_LIMIT = 1000;
/** Values that were refused and are told of. */
const ISSUE_LIMIT = 20;

/** The problem for `error`; undefined where it is none that isola foresaw, and only the server's log may tell. */
export function foreseen(error: unknown): Problem | undefined {
  if (!(error instanceof IsolaError) || !isProblemCode(error.code)) return undefined;
  const details = error instanceof FleetError && error.details !== undefined ? { details: error.details } : {};
  return problemOf(error.code, error.message.slice(0, DETAIL_LIMIT), details);
}

/** A value in a message: enough of it to be known again. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

function at(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((inner, key) => (inner as Record<PropertyKey, unknown> | undefined)?.[key], value);
}

/** The problem for a value that its schema refuses: what, where, what was found, what is wanted. */
export function refusal(place: "path" | "query" | "body", value: unknown, error: z.ZodError): Problem {
  const errors = error.issues.slice(0, ISSUE_LIMIT).map((issue) => {
    const pointer = issue.path.map((key) => `/${String(key).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
    const found = at(value, issue.path);
    return { pointer, detail: `${shown(found)}: ${issue.message}`.slice(0, DETAIL_LIMIT) };
  });
  const [first] = errors;
  const where = first === undefined || first.pointer === "" ? `the ${place}` : `${place} ${first.pointer.slice(1)}`;
  return problemOf(
    place === "body" ? "invalid-spec" : "request-invalid",
    `cannot use ${where}: ${first?.detail ?? error.message}`.slice(0, DETAIL_LIMIT),
    { errors },
  );
}
