/** Projects, templates and CPU pools: what VMs refer to by name. */

import type { z } from "zod";
import { admitRun, type Capacity, type Tenant } from "./admission.ts";
import {
  type Action,
  type CpuPool,
  cpuPoolSchema,
  type FleetEvent,
  type Project,
  type Quota,
  quotaSchema,
  type Template,
  templateSchema,
} from "./contract.ts";
import { FleetError } from "./fleet-error.ts";
import type { FleetRecord } from "./record.ts";
import { DEFAULT_POOL, DEFAULT_PROJECT, nameSchema } from "./vm-spec.ts";

/** Parses what came from outside. @throws FleetError `invalid-spec` with the first few problems in one line */
export function parseInput<Schema extends z.ZodType>(schema: Schema, input: unknown, what: string): z.output<Schema> {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => {
    return `${path.length === 0 ? "" : `${path.join(".")}: `}${message}`;
  });
  const shown = problems.slice(0, 3).join("; ") + (problems.length > 3 ? `; ${problems.length - 3} more` : "");
  throw new FleetError({ code: "invalid-spec", message: `${what}: ${shown}`, details: { problems } });
}

export const notFound = (what: string, name: string, wayOut: string): FleetError =>
  new FleetError({ code: "not-found", message: `there is no ${what} ${JSON.stringify(name.slice(0, 80))}; ${wayOut}` });

/** One VM as the catalog sees it. */
export interface Member extends Tenant {
  readonly name: string;
}

export interface CatalogPlace {
  readonly record: FleetRecord;
  readonly processors: readonly number[];
  readonly capacity: Capacity;
  tenants(): Member[];
  emit(event: Pick<FleetEvent, "kind" | "name" | "message">, action: Action | undefined): void;
  /** The pool changed: processors and budgets of its VMs are to follow. */
  poolChanged(pool: CpuPool): void;
}

export class Catalog {
  readonly #place: CatalogPlace;
  /** As recorded; every VM's status asks for one. */
  #pools: readonly CpuPool[] | undefined;

  constructor(place: CatalogPlace) {
    this.#place = place;
  }

  quota(name: string): Quota | undefined {
    return this.#place.record.projects().find((project) => project.name === name)?.quota;
  }

  hasProject(name: string): boolean {
    return name === DEFAULT_PROJECT || this.quota(name) !== undefined;
  }

  projects(): Project[] {
    const recorded = this.#place.record.projects();
    const known = recorded.some(({ name }) => name === DEFAULT_PROJECT)
      ? recorded
      : [{ name: DEFAULT_PROJECT, quota: quotaSchema.parse({}) }, ...recorded];
    const tenants = this.#place.tenants();
    return known.map(({ name, quota }) => {
      const members = tenants.filter(({ spec }) => spec.project === name);
      const on = members.filter((member) => member.on);
      return {
        name,
        quota,
        used: {
          vms: members.length,
          memoryBytes: on.reduce((sum, { spec }) => sum + spec.memoryBytes, 0),
          cpuReservationPercent: on.reduce((sum, { spec }) => sum + spec.cpu.reservationPercent, 0),
          diskBytes: members.reduce(
            (sum, { spec }) => sum + spec.disks.reduce((all, { sizeBytes }) => all + sizeBytes, 0),
            0,
          ),
        },
      };
    });
  }

  putProject(name: string, quota: unknown, action: Action | undefined): Project {
    parseInput(nameSchema, name, `project ${JSON.stringify(name)}`);
    const former = this.quota(name) ?? {};
    const parsed = parseInput(quotaSchema, { ...former, ...(quota as object) }, `project ${name}`);
    this.#place.record.putProject(name, parsed);
    this.#place.emit({ kind: "project.changed", name, message: `project ${name} has changed` }, action);
    const project = this.projects().find((one) => one.name === name);
    if (project === undefined) throw notFound("project", name, "it was removed meanwhile");
    return project;
  }

  removeProject(name: string, action: Action | undefined): void {
    const members = this.#place.tenants().filter(({ spec }) => spec.project === name);
    if (members.length > 0) {
      throw new FleetError({
        code: "in-use",
        message: `cannot remove project ${name}: it has ${members.length} VMs (${members
          .map((one) => one.name)
          .slice(0, 5)
          .join(", ")}); remove them first`,
      });
    }
    if (!this.#place.record.removeProject(name)) throw notFound("project", name, "see the list of projects");
    this.#place.emit({ kind: "project.removed", name, message: `project ${name} was removed` }, action);
  }

  template(name: string): Template {
    const template = this.#place.record.templates().find((one) => one.name === name);
    if (template === undefined) throw notFound("template", name, "see the list of templates");
    return template;
  }

  putTemplate(input: unknown, action: Action | undefined): Template {
    const template = parseInput(templateSchema, input, "template");
    this.#place.record.putTemplate(template);
    const { name } = template;
    this.#place.emit({ kind: "template.changed", name, message: `template ${name} has changed` }, action);
    return template;
  }

  removeTemplate(name: string, action: Action | undefined): void {
    if (!this.#place.record.removeTemplate(name)) throw notFound("template", name, "see the list of templates");
    this.#place.emit({ kind: "template.removed", name, message: `template ${name} was removed` }, action);
  }

  pools(): CpuPool[] {
    this.#pools ??= this.#readPools();
    return [...this.#pools];
  }

  #readPools(): CpuPool[] {
    const recorded = this.#place.record.pools();
    if (recorded.some(({ name }) => name === DEFAULT_POOL)) return recorded;
    const { processors } = this.#place;
    return [{ name: DEFAULT_POOL, processors: [...processors], cores: processors.length }, ...recorded];
  }

  pool(name: string): CpuPool | undefined {
    return this.pools().find((pool) => pool.name === name);
  }

  putPool(input: unknown, action: Action | undefined): CpuPool {
    const pool = parseInput(cpuPoolSchema, input, "CPU pool");
    const { name, processors, cores } = pool;
    const missing = processors.filter((one) => !this.#place.processors.includes(one));
    const refuse = (problem: string): FleetError =>
      new FleetError({ code: "invalid-spec", message: `CPU pool ${name}: ${problem}` });
    if (missing.length > 0) {
      throw refuse(`the host has no processor ${missing.join(", ")}; wanted: of ${this.#place.processors.join(", ")}`);
    }
    if (new Set(processors).size !== processors.length) throw refuse("a processor is named twice");
    if (cores > processors.length)
      throw refuse(`cores is ${cores}; wanted: at most ${processors.length}, its processors`);
    this.#holdsReservations(pool);
    this.#place.record.putPool(pool);
    this.#pools = undefined;
    this.#place.emit({ kind: "pool.changed", name, message: `CPU pool ${name} has changed` }, action);
    this.#place.poolChanged(pool);
    return pool;
  }

  /** A pool that shrinks must still hold what it has promised. */
  #holdsReservations(pool: CpuPool): void {
    const tenants = this.#place.tenants();
    const member = tenants.find(({ on, spec }) => on && spec.cpu.pool === pool.name);
    if (member === undefined) return;
    const request = { action: `change pool ${pool.name} of`, id: member.id, spec: member.spec, tenants };
    admitRun(request, { ...this.#place.capacity, memoryBytes: Infinity }, pool, undefined);
  }

  removePool(name: string, action: Action | undefined): void {
    const members = this.#place.tenants().filter(({ spec }) => spec.cpu.pool === name);
    if (members.length > 0 && name !== DEFAULT_POOL) {
      throw new FleetError({
        code: "in-use",
        message: `cannot remove CPU pool ${name}: ${members
          .map((one) => one.name)
          .slice(0, 5)
          .join(", ")} use it; give them another first`,
      });
    }
    if (!this.#place.record.removePool(name)) throw notFound("CPU pool", name, "see the list of pools");
    this.#pools = undefined;
    this.#place.emit({ kind: "pool.removed", name, message: `CPU pool ${name} was removed` }, action);
    const back = this.pool(name);
    if (back !== undefined) this.#place.poolChanged(back);
  }
}
