/** The OpenAPI 3.1 document, made from the operations and their schemas. [OpenAPI 3.1.0; JSON Schema 2020-12] */

import { z } from "zod";
import type { Operation, Operations } from "./operation.ts";
import { BODY_PROBLEMS, COMMON_PROBLEMS, PROBLEM_MEDIA, PROBLEMS, problemSchema } from "./problem.ts";

type Json = Record<string, unknown>;
type Direction = "input" | "output";

export interface DocumentOptions {
  readonly title: string;
  readonly version: string;
  readonly description: string;
  readonly operations: Operations;
  /** Schemas that get a name in the document: `#/components/schemas/NAME`. */
  readonly named: Readonly<Record<string, z.ZodType>>;
}

/**
 * Converts schemas. What a caller may send and what the server answers differ where a value has a default, so a named
 * schema that differs between the two appears twice: as `Name`, the answer, and as `NameInput`.
 */
class Schemas {
  /** What `of` has referred to. */
  readonly components: Record<string, Json> = {};
  readonly #forms: Readonly<Record<string, Record<Direction, Json>>>;
  readonly #names: ReadonlyMap<unknown, string>;
  /** zod's descriptions, with the names of this document. */
  readonly #registry = z.registry<{ id?: string; description?: string }>();
  /** Names whose input differs from the output, in themselves or in what they refer to. */
  readonly #split = new Set<string>();

  constructor(named: Readonly<Record<string, z.ZodType>>) {
    this.#names = new Map(Object.entries(named).map(([id, schema]) => [schema, id]));
    this.#registry.get = (schema) => {
      const { description } = z.globalRegistry.get(schema) ?? {};
      const id = this.#names.get(schema);
      return { ...(description === undefined ? {} : { description }), ...(id === undefined ? {} : { id }) };
    };
    this.#forms = Object.fromEntries(
      Object.entries(named).map(([id, schema]) => {
        const definition = (io: Direction): Json => {
          const { root, definitions } = this.#convert(schema, io);
          // A named root is converted in place, unless it refers to itself.
          return definitions[id] ?? root;
        };
        return [id, { input: definition("input"), output: definition("output") }];
      }),
    );
    for (let grown = true; grown; ) {
      const before = this.#split.size;
      for (const [id, { input, output }] of Object.entries(this.#forms)) {
        const text = JSON.stringify(input);
        const refers = [...this.#split].some((other) => text.includes(`"#/$defs/${other}"`));
        if (refers || text !== JSON.stringify(output)) this.#split.add(id);
      }
      grown = this.#split.size > before;
    }
  }

  /** The JSON schema of `schema`; named ones are referred to. */
  of(schema: z.ZodType, io: Direction): Json {
    const id = this.#names.get(schema);
    if (id !== undefined) return { $ref: this.#reference(id, io) };
    return this.#point(this.#convert(schema, io).root, io) as Json;
  }

  #convert(schema: z.ZodType, io: Direction): { root: Json; definitions: Record<string, Json> } {
    const {
      $schema: _,
      $defs = {},
      id: __,
      ...root
    } = z.toJSONSchema(schema, {
      metadata: this.#registry,
      io,
      target: "draft-2020-12",
      override: ({ zodSchema, jsonSchema }) => {
        const { def } = zodSchema._zod;
        // Answers may gain members; a caller that refuses unknown ones would break. [RFC 9457 §3.2 asks the same]
        if (io === "output" && def.type === "object") delete jsonSchema.additionalProperties;
        delete jsonSchema["id"];
      },
    }) as Json & { $defs?: Record<string, Json> };
    return { root, definitions: $defs };
  }

  #known(reference: string): boolean {
    return Object.hasOwn(this.#forms, reference.replace("#/$defs/", ""));
  }

  #reference(id: string, io: Direction): string {
    const name = `${id}${io === "input" && this.#split.has(id) ? "Input" : ""}`;
    const form = this.#forms[id]?.[io];
    if (form !== undefined && this.components[name] === undefined) {
      this.components[name] = {};
      this.components[name] = this.#point(form, io) as Json;
    }
    return `#/components/schemas/${name}`;
  }

  /** Turns references within one conversion into references to the components. */
  #point(value: unknown, io: Direction): unknown {
    if (Array.isArray(value)) return value.map((item) => this.#point(item, io));
    if (typeof value !== "object" || value === null) return value;
    // A schema that refers to itself without a name is zod's "any JSON" here, which is what no constraint says.
    const { $ref } = value as { $ref?: unknown };
    if (typeof $ref === "string" && !this.#known($ref)) return {};
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) =>
        key === "$ref" && typeof item === "string"
          ? [key, this.#reference(item.replace("#/$defs/", ""), io)]
          : [key, this.#point(item, io)],
      ),
    );
  }
}

function parameters(schemas: Schemas, place: "path" | "query", schema: z.ZodObject | undefined): Json[] {
  return Object.entries(schema?.shape ?? {}).map(([name, value]) => {
    const { description, ...rest } = schemas.of(value as z.ZodType, "input");
    return {
      name,
      in: place,
      required: place === "path" || !z.safeParse(value as z.ZodType, undefined).success,
      ...(description === undefined ? {} : { description }),
      schema: rest,
    };
  });
}

function responses(schemas: Schemas, operation: Operation): Json {
  const { status, response, media = "application/json", problems = [] } = operation;
  const content =
    response === undefined && operation.media === undefined
      ? undefined
      : {
          [media]: { schema: response === undefined ? { type: "string" } : schemas.of(response, "output") },
        };
  const byStatus = new Map<number, string[]>();
  for (const code of new Set([
    ...COMMON_PROBLEMS,
    ...(operation.body === undefined ? [] : BODY_PROBLEMS),
    ...problems,
  ])) {
    const { status: at } = PROBLEMS[code];
    byStatus.set(at, [...(byStatus.get(at) ?? []), code]);
  }
  const problem = { [PROBLEM_MEDIA]: { schema: schemas.of(problemSchema, "output") } };
  return {
    [status]: { description: operation.summary, ...(content === undefined ? {} : { content }) },
    ...Object.fromEntries(
      [...byStatus]
        .sort(([a], [b]) => a - b)
        .map(([at, codes]) => [at, { description: codes.join(", "), content: problem }]),
    ),
  };
}

/** The document as JSON, in a fixed order: the same contract always gives the same text. */
export function openApiDocument({ title, version, description, operations, named }: DocumentOptions): Json {
  const schemas = new Schemas({ ...named, Problem: problemSchema });
  const paths: Record<string, Json> = {};
  for (const [operationId, operation] of Object.entries(operations)) {
    const { body, scope } = operation;
    const all = [...parameters(schemas, "path", operation.params), ...parameters(schemas, "query", operation.query)];
    (paths[operation.path] ??= {})[operation.method] = {
      operationId,
      tags: [operation.tag],
      summary: operation.summary,
      ...(operation.description === undefined ? {} : { description: operation.description }),
      ...(all.length === 0 ? {} : { parameters: all }),
      ...(body === undefined
        ? {}
        : { requestBody: { required: true, content: { "application/json": { schema: schemas.of(body, "input") } } } }),
      responses: responses(schemas, operation),
      security: scope === "none" ? [] : [{ token: [scope] }],
    };
  }
  return {
    openapi: "3.1.0",
    info: { title, version, description, license: { name: "Apache-2.0", identifier: "Apache-2.0" } },
    jsonSchemaDialect: "https://json-schema.org/draft/2020-12/schema",
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(schemas.components).sort(([a], [b]) => a.localeCompare(b, "en"))),
      securitySchemes: {
        token: {
          type: "http",
          scheme: "bearer",
          description: "`isola token create`; the server's Unix socket needs none. Scopes: read, operate, admin.",
        },
      },
    },
  };
}
