/** Finds what answers a path: a tree of its segments, some of which are parameters in braces. */

import { pathParameters } from "../contract/operation.ts";

interface Node<T> {
  readonly fixed: Map<string, Node<T>>;
  parameter: { readonly name: string; readonly node: Node<T> } | undefined;
  readonly methods: Map<string, T>;
}

export interface Found<T> {
  /** What was added, by method. */
  readonly methods: ReadonlyMap<string, T>;
  readonly params: Readonly<Record<string, string>>;
}

const newNode = <T>(): Node<T> => ({ fixed: new Map(), parameter: undefined, methods: new Map() });

/** What was escaped, readable; as it stands where the escapes are none. [RFC 3986 §2.1] */
function unescaped(segment: string): string {
  if (!segment.includes("%")) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

export class Router<T> {
  readonly #root = newNode<T>();

  /** `path` as contracts write it: `/api/v1/vms/{vm}`. A parameter has no fixed segment beside it. */
  add(method: string, path: string, value: T): void {
    let node = this.#root;
    for (const segment of path.split("/").slice(1)) {
      const [name] = pathParameters(segment);
      if (name === undefined ? node.parameter !== undefined : node.fixed.size > 0) {
        throw new Error(`${path}: ${segment} may be a parameter or not`);
      }
      let next = name === undefined ? node.fixed.get(segment) : node.parameter?.node;
      if (next === undefined) {
        next = newNode();
        if (name === undefined) node.fixed.set(segment, next);
        else node.parameter = { name, node: next };
      }
      node = next;
    }
    node.methods.set(method, value);
  }

  /** Undefined where nothing was added at `path`. */
  find(path: string): Found<T> | undefined {
    let node = this.#root;
    let params: Record<string, string> = {};
    for (const segment of path.split("/").slice(1)) {
      let next = node.fixed.get(segment);
      if (next === undefined) {
        if (node.parameter === undefined || segment === "") return undefined;
        params = { ...params, [node.parameter.name]: unescaped(segment) };
        next = node.parameter.node;
      }
      node = next;
    }
    return node.methods.size === 0 ? undefined : { methods: node.methods, params };
  }
}
