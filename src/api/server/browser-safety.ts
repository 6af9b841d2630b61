/**
 * What a browser must not be talked into. There are no cookies: a token goes with a request only where a page puts it
 * there, so another site's page has none. Its requests are refused all the same, WebSockets included, which browsers let
 * any page open. [Fetch standard §3.2; RFC 6455 §10.2]
 */

import { type Problem, problemOf } from "../contract/problem.ts";

/** Scripts from the server itself only; xterm.js puts its rules into style elements. [CSP Level 3] */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "manifest-src 'self'",
  "worker-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** Of every answer. */
export const SAFETY_HEADERS = {
  "content-security-policy": CONTENT_SECURITY_POLICY,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=()",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
} as const;

/** Whether a request with these headers may come from a page: only from one that this server itself served. */
export function sameOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined) return true;
  try {
    return new URL(origin).host === (host ?? "").toLowerCase();
  } catch {
    // "null": a sandboxed page, a file.
    return false;
  }
}

/** The problem with a request that another site's page sent; undefined where there is none. */
export function originRefusal(origin: string, host: string): Problem | undefined {
  if (origin === "" || sameOrigin(origin, host)) return undefined;
  const page = origin.slice(0, 200);
  return problemOf(
    "origin-refused",
    `a page of ${page} may not call this server; wanted: a page that it served itself`,
  );
}
