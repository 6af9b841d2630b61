/** Operations under way and those that ended lately, with their progress. In memory: a server's end ends them. */

import { randomBytes } from "node:crypto";
import { IsolaError } from "../base/errors.ts";
import type { Progress } from "../images/progress.ts";
import type { Action, Operation } from "./contract.ts";
import { FleetError } from "./fleet-error.ts";

const KEPT = 1000;
const KEPT_MS = 3_600_000;

export interface Subject {
  readonly id: string;
  readonly name: string;
  readonly project: string;
}

export class OperationLog {
  readonly #operations = new Map<string, Operation>();
  readonly #changed: (operation: Operation) => void;

  constructor(changed: (operation: Operation) => void) {
    this.#changed = changed;
  }

  /** The newest first. */
  list(): Operation[] {
    this.#forget();
    return [...this.#operations.values()].reverse();
  }

  find(id: string): Operation | undefined {
    return this.#operations.get(id);
  }

  /** Does `work` as an operation that can be seen from outside; `work` may report its progress. */
  async run<T>(
    kind: Operation["kind"],
    { id, name, project }: Subject,
    action: Action | undefined,
    work: (progress: (progress: Progress) => void) => Promise<T>,
  ): Promise<T> {
    const operation: Operation = {
      id: randomBytes(8).toString("hex"),
      kind,
      vm: { id, name },
      project,
      actor: action?.actor ?? null,
      state: "running",
      progress: { step: kind, fraction: null, totalBytes: null },
      started: new Date().toISOString(),
      ended: null,
      error: null,
    };
    const change = (changes: Partial<Operation>): void => {
      Object.assign(operation, changes);
      this.#changed(structuredClone(operation));
    };
    this.#operations.set(operation.id, operation);
    this.#forget();
    this.#changed(structuredClone(operation));
    action?.onOperation?.(structuredClone(operation));
    let step = "";
    try {
      const result = await work(({ step: next, fraction, totalBytes }) => {
        operation.progress = { step: next, fraction: fraction ?? null, totalBytes: totalBytes ?? null };
        // Fractions are looked up by whoever polls; a new step is news.
        if (next !== step) change({});
        step = next;
      });
      change({ state: "done", ended: new Date().toISOString() });
      return result;
    } catch (error) {
      change({ state: "failed", ended: new Date().toISOString(), error: errorOf(error) });
      throw error;
    }
  }

  #forget(): void {
    const old = Date.now() - KEPT_MS;
    for (const [id, { ended }] of this.#operations) {
      if (ended === null) continue;
      if (this.#operations.size <= KEPT && new Date(ended).getTime() > old) break;
      this.#operations.delete(id);
    }
  }
}

function errorOf(error: unknown): NonNullable<Operation["error"]> {
  const message = error instanceof Error ? error.message : String(error);
  const details = error instanceof FleetError ? (error.details as NonNullable<Operation["error"]>["details"]) : null;
  return { code: error instanceof IsolaError ? error.code : "internal", message, details: details ?? null };
}
