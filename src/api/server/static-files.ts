/** The dashboard's files. Only what lies in the folder is served; nothing is written. */

import { createHash } from "node:crypto";
import { readFile, realpath } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import { type ApiAnswer, type ApiRequest, header } from "./exchange.ts";

const TYPES: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".ico": "image/x-icon",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".ttf": "font/ttf",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
  ".woff2": "font/woff2",
};

/** Vite puts a hash of the contents into the names of what lies there. */
const IMMUTABLE = "/assets/";

const MISSING_PAGE = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>isola</title>
<h1>isola is up</h1>
<p>The dashboard is not built here: run <code>npm run build</code>. The API is described at
<a href="/openapi.json">/openapi.json</a>.</p></html>
`;

function page(html: string): ApiAnswer {
  return {
    status: 200,
    headers: { "content-type": "text/html; charset=utf-8", "cache-control": "no-cache" },
    body: html,
  };
}

/** Answers GET requests with files of `folder`; undefined where there is none of that name. */
export function staticFiles(folder: string | undefined): (request: ApiRequest) => Promise<ApiAnswer | undefined> {
  return async (request) => {
    if (request.method !== "GET" && request.method !== "HEAD") return undefined;
    const { path: pathname } = request;
    const index = pathname === "/" || pathname === "/index.html";
    if (folder === undefined) return index ? page(MISSING_PAGE) : undefined;
    let path: string;
    try {
      const root = await realpath(folder);
      // Links are followed before the look at where it lies, so neither they nor ".." lead out.
      path = await realpath(join(root, index ? "index.html" : decodeURIComponent(pathname)));
      if (!path.startsWith(`${root}${sep}`)) return undefined;
    } catch {
      return undefined;
    }
    const type = TYPES[extname(path)];
    if (type === undefined) return undefined;
    const bytes = await readFile(path).catch(() => undefined);
    if (bytes === undefined) return undefined;
    const etag = `"${createHash("sha256").update(bytes).digest("base64url").slice(0, 27)}"`;
    const headers = {
      etag,
      "content-type": type,
      "cache-control": pathname.startsWith(IMMUTABLE) ? "public, max-age=31536000, immutable" : "no-cache",
    };
    if (header(request, "if-none-match") === etag) return { status: 304, headers, body: null };
    return { status: 200, headers, body: bytes };
  };
}
