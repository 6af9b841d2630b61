/** Who calls: by the Unix socket, whose file only its owner may open, or by a bearer token. [RFC 6750 §2.1] */

import { IsolaError } from "../../base/errors.ts";
import { SCOPES, type Scope } from "../contract/operation.ts";
import type { AccessStore } from "./access-store.ts";

export interface Caller {
  /** A token's name, or `local`. */
  readonly who: string;
  readonly scope: Scope;
  /** The projects it reaches; null: all, and the host. */
  readonly projects: readonly string[] | null;
  /** Where it calls from: an IP address, or `unix`. */
  readonly address: string;
}

export const LOCAL_CALLER: Caller = { who: "local", scope: "admin", projects: null, address: "unix" };

/** The caller whose token this is. Throws `unauthenticated` without one, and with one that is not valid. */
export function callerOf(access: AccessStore, secret: string | undefined, address: string): Caller {
  if (secret === undefined) {
    throw new IsolaError({
      code: "unauthenticated",
      message: "no token was given; wanted: `Authorization: Bearer TOKEN`, as `isola token create` prints it",
    });
  }
  const token = access.authenticate(secret);
  if (token === undefined) {
    throw new IsolaError({
      code: "unauthenticated",
      message: "the token is unknown, revoked or expired; wanted: one that `isola token list` shows as valid",
    });
  }
  return { who: token.name, scope: token.scope, projects: token.projects, address };
}

/** The token in an Authorization header; undefined where there is none. */
export function bearerToken(header: string | undefined): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(header ?? "")?.[1];
}

export function allows(caller: Caller, scope: Scope): boolean {
  return SCOPES.indexOf(caller.scope) >= SCOPES.indexOf(scope);
}

/** Throws `forbidden` unless the caller has `scope`. */
export function demand(caller: Caller, scope: Scope, action: string): void {
  if (allows(caller, scope)) return;
  throw new IsolaError({
    code: "forbidden",
    message: `cannot ${action}: ${caller.who} has the scope ${caller.scope}; wanted: ${scope}`,
  });
}

/** Throws `forbidden` for a caller that is confined to projects. */
export function demandWholeHost(caller: Caller, action: string): void {
  if (caller.projects === null) return;
  throw new IsolaError({
    code: "forbidden",
    message: `cannot ${action}: ${caller.who} reaches the projects ${caller.projects.join(", ")} only; wanted: a token for the whole server`,
  });
}
