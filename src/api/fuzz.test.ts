/**
 * The server against requests made from its own OpenAPI document: values that fit the schemas, values that do not, and
 * bytes that are no JSON. No answer may be a 5xx, and every answer must be what the document says.
 */

import assert from "node:assert/strict";
import { after, test } from "node:test";
import fc from "fast-check";
import { apiDocument, apiOperations } from "./contract/api.ts";
import { requestTarget } from "./contract/client.ts";
import type { Operation } from "./contract/operation.ts";
import { problemSchema } from "./contract/problem.ts";
import { serveFakeFleet } from "./testing/served-fleet.ts";

const served = await serveFakeFleet();
after(() => served.close());
const { secret } = served.as({ scope: "admin" });

type Json = Record<string, unknown>;
const document = apiDocument() as {
  paths: Record<string, Record<string, Json>>;
  components: { schemas: Record<string, Json> };
};
const RUNS = 500;

function resolved(schema: Json): Json {
  const { $ref } = schema;
  if (typeof $ref !== "string") return schema;
  return document.components.schemas[$ref.replace("#/components/schemas/", "")] ?? {};
}

const hostile = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom(
    "",
    "..",
    "../../etc/passwd",
    "a/b",
    "\0",
    "x".repeat(5000),
    -1,
    1e308,
    Number.MAX_SAFE_INTEGER,
    "9".repeat(400),
    "1P",
    null,
  ),
);

/** Values for a schema: mostly what fits it, now and then what does not. */
function arbitrary(given: Json, depth = 0): fc.Arbitrary<unknown> {
  const schema = resolved(given);
  return fc.oneof({ weight: 80, arbitrary: fitting(schema, depth) }, { weight: 1, arbitrary: hostile });
}

function fitting(schema: Json, depth: number): fc.Arbitrary<unknown> {
  const alternatives = (schema["anyOf"] ?? schema["oneOf"]) as Json[] | undefined;
  if (alternatives !== undefined) return fc.oneof(...alternatives.map((one) => arbitrary(one, depth)));
  if (schema["const"] !== undefined) return fc.constant(schema["const"]);
  if (Array.isArray(schema["enum"])) return fc.constantFrom(...(schema["enum"] as unknown[]));
  if (depth > 6) return fc.constant(null);
  const type = schema["type"];
  const types = Array.isArray(type) ? (type as string[]) : [type as string];
  return fc.oneof(...types.map((one) => ofType(one, schema, depth)));
}

function ofType(type: string, schema: Json, depth: number): fc.Arbitrary<unknown> {
  const bound = (key: string, otherwise: number): number => (typeof schema[key] === "number" ? schema[key] : otherwise);
  switch (type) {
    case "string":
      // The fleet has VMs with such names, so that requests get further than "not found".
      if (String(schema["pattern"]).startsWith("^[A-Za-z0-9]"))
        return fc.constantFrom("a", "b", "c", "d", "e", "f", "default");
      if (schema["format"] === "date-time")
        return fc
          .date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true })
          .map((date) => date.toISOString());
      return fc.string({ maxLength: 40 });
    case "integer":
      return fc.integer({
        min: Math.max(bound("minimum", -1000), -(2 ** 31)),
        max: Math.min(bound("maximum", 1000), 2 ** 31 - 1),
      });
    case "number":
      return fc.oneof(
        fc.constantFrom(2 ** 27, 2 ** 30, 25),
        fc.double({ min: bound("minimum", -1e6), max: bound("maximum", 1e6), noNaN: true }),
      );
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case "array":
      return fc.array(arbitrary((schema["items"] ?? {}) as Json, depth + 1), { maxLength: 3 });
    case "object": {
      const properties = (schema["properties"] ?? {}) as Record<string, Json>;
      const required = ((schema["required"] ?? []) as string[]).filter((key) => key in properties);
      const model = Object.fromEntries(
        Object.entries(properties).map(([key, value]) => [key, arbitrary(value, depth + 1)]),
      );
      const optional = Object.keys(model).filter((key) => !required.includes(key));
      // A few at a time: a spec with everything in it is refused for one thing or another.
      return fc.subarray(optional, { maxLength: Math.min(3, optional.length) }).chain((keys) => {
        const chosen = Object.entries(model).filter(([key]) => keys.includes(key) || required.includes(key));
        return fc.record(Object.fromEntries(chosen));
      });
    }
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

interface Request {
  readonly name: string;
  readonly params: Json;
  readonly query: Json;
  readonly body: unknown;
  readonly raw: string | undefined;
}

function requests(): fc.Arbitrary<Request> {
  // Ending the server is none of the fuzzer's business.
  const names = Object.keys(apiOperations).filter((name) => name !== "shutDown");
  return fc.constantFrom(...names).chain((name) => {
    const operation: Operation = apiOperations[name as keyof typeof apiOperations];
    const described = document.paths[operation.path]?.[operation.method] ?? {};
    const parameters = (described["parameters"] ?? []) as { name: string; in: string; schema: Json }[];
    const place = (where: string): fc.Arbitrary<Json> => {
      const all = parameters.filter((parameter) => parameter.in === where);
      const model = Object.fromEntries(all.map((parameter) => [parameter.name, arbitrary(parameter.schema)]));
      return fc.record(model, { requiredKeys: where === "path" ? all.map((parameter) => parameter.name) : [] });
    };
    const content = described["requestBody"] as { content: { "application/json": { schema: Json } } } | undefined;
    return fc.record({
      name: fc.constant(name),
      params: place("path"),
      query: place("query"),
      body: content === undefined ? fc.constant(undefined) : arbitrary(content.content["application/json"].schema),
      raw: content === undefined ? fc.constant(undefined) : fc.option(fc.string(), { freq: 20, nil: undefined }),
    });
  });
}

test(`${RUNS} requests from the document: no 5xx, and every answer as the document says`, async () => {
  for (const name of ["a", "b", "c"])
    await served.local.api.createVm({ body: { name, image: "debian", memoryBytes: "16M" } });
  const statuses = new Map<number, number>();
  await fc.assert(
    fc.asyncProperty(requests(), async ({ name, params, query, body, raw }) => {
      const operation: Operation = apiOperations[name as keyof typeof apiOperations];
      const target = requestTarget(operation.path, { ...params, query });
      const aborter = new AbortController();
      const response = await fetch(`${served.url}${target}`, {
        method: operation.method.toUpperCase(),
        headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
        signal: aborter.signal,
        ...(operation.body === undefined ? {} : { body: raw ?? JSON.stringify(body) ?? "" }),
      });
      statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
      const what = `${name} ${target}: ${response.status}`;
      assert.ok(response.status < 500, `${what} ${served.logged.at(-1)}`);
      const described = document.paths[operation.path]?.[operation.method]?.["responses"] as Json;
      // A path parameter that holds a slash, or nothing, leads to another path or to none.
      const astray = response.status === 404 || response.status === 405;
      assert.ok(astray || String(response.status) in described, what);
      if (response.status >= 400) {
        const problem = problemSchema.parse(await response.json());
        assert.equal(problem.status, response.status);
      } else if (
        operation.media === undefined &&
        operation.response !== undefined &&
        response.status === operation.status
      ) {
        const result = operation.response.safeParse(await response.json());
        assert.ok(result.success, `${what}: ${result.error?.message}`);
      }
      aborter.abort();
    }),
    { numRuns: RUNS },
  );
  // The fuzzer is no good if it never gets through, or is never refused.
  for (const kind of [[200], [201, 204], [400], [404], [409, 422]]) {
    assert.ok(
      kind.some((status) => statuses.has(status)),
      `no ${kind.join(" or ")}`,
    );
  }
});
