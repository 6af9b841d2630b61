import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { apiDocument, apiOperations } from "./api.ts";
import { pathParameters } from "./operation.ts";

const document = apiDocument() as {
  paths: Record<string, Record<string, { operationId: string; responses: Record<string, unknown> }>>;
  components: { schemas: Record<string, unknown> };
};

test("docs/openapi.json is the document of the contract", () => {
  const kept = readFileSync(new URL("../../../docs/openapi.json", import.meta.url), "utf8");
  assert.ok(kept === `${JSON.stringify(document, null, 2)}\n`, "it is not current; wanted: npm run openapi");
});

test("every operation is in the document, with its parameters and its problems", () => {
  for (const [name, operation] of Object.entries(apiOperations)) {
    const found = document.paths[operation.path]?.[operation.method];
    assert.equal(found?.operationId, name);
    const shape = "params" in operation ? Object.keys(operation.params.shape) : [];
    assert.deepEqual(pathParameters(operation.path).sort(), shape.sort(), name);
    for (const status of ["400", "401", "403", "500", String(operation.status)]) {
      assert.ok(found?.responses[status] !== undefined, `${name} ${status}`);
    }
  }
});

test("every reference leads somewhere, and every named schema is used", () => {
  const used = new Set([...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map((match) => match[1] ?? ""));
  const named = new Set(Object.keys(document.components.schemas).map((name) => `#/components/schemas/${name}`));
  assert.deepEqual([...used].sort(), [...named].sort());
});
