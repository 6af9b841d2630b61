/**
 * The fleet as one caller sees it. A token may be confined to projects: VMs of others are then not there, and what would
 * tell of them is left out.
 */

import { IsolaError } from "../../base/errors.ts";
import {
  type Fleet,
  type FleetEvent,
  type HostInventory,
  type Operation,
  type Project,
  shortageSchema,
  type VmStatus,
} from "../../fleet/contract.ts";
import { FleetError } from "../../fleet/fleet-error.ts";
import { describeShortage } from "../../fleet/shortage.ts";
import { DEFAULT_PROJECT } from "../../fleet/vm-spec.ts";
import { allows, type Caller } from "./caller.ts";

/** How the VMs of other projects appear where their sum must. */
const OTHERS = "other projects";

export class Tenant {
  readonly caller: Caller;
  readonly #fleet: Fleet;

  constructor(fleet: Fleet, caller: Caller) {
    this.#fleet = fleet;
    this.caller = caller;
  }

  sees(project: string | null): boolean {
    const { projects } = this.caller;
    return projects === null || (project !== null && projects.includes(project));
  }

  async list(): Promise<VmStatus[]> {
    return (await this.#fleet.list()).filter((vm) => this.sees(vm.project));
  }

  /**
   * The VM of that name or id. What is done to it then goes by its id: a VM that is renamed meanwhile must not lead to
   * another's.
   */
  async find(vm: string): Promise<VmStatus> {
    if (this.caller.projects === null) return await this.#fleet.inspect(vm);
    const found = await this.#fleet.inspect(vm).catch((error: unknown) => {
      if (error instanceof FleetError && error.code === "not-found") return undefined;
      throw error;
    });
    // The same words whether there is none or it is another's.
    if (found === undefined || !this.sees(found.project)) {
      throw new FleetError({
        code: "not-found",
        message: `there is no VM ${vm}; wanted: one that \`isola ps -a\` lists`,
      });
    }
    return found;
  }

  /** The id of `vm`, without the cost of its status where everything may be seen. */
  async idOf(vm: string): Promise<string> {
    return this.caller.projects === null ? vm : (await this.find(vm)).id;
  }

  /** The spec as the caller may ask for it: its project filled in where it has one of its own. */
  draft(spec: unknown, template: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
    if (typeof spec !== "object" || spec === null || Array.isArray(spec)) {
      throw new FleetError({
        code: "invalid-spec",
        message: "cannot use the body: it is not an object; wanted: a VM's spec",
      });
    }
    const asked = spec as Readonly<Record<string, unknown>>;
    const { projects } = this.caller;
    if (projects === null) {
      this.#refuseFiles(asked);
      return asked;
    }
    const project =
      asked["project"] ?? template["project"] ?? (projects.includes(DEFAULT_PROJECT) ? DEFAULT_PROJECT : projects[0]);
    this.permit(project);
    this.#refuseFiles(asked);
    return { ...asked, project };
  }

  /** Throws `forbidden` where a change would move a VM out of the caller's reach, or read the server's files. */
  permitChange(change: Readonly<Record<string, unknown>>): void {
    if (change["project"] !== undefined) this.permit(change["project"]);
    this.#refuseFiles(change);
  }

  permit(project: unknown): void {
    if (this.caller.projects === null || (typeof project === "string" && this.sees(project))) return;
    throw new IsolaError({
      code: "forbidden",
      message: `cannot use the project ${String(project)}: ${this.caller.who} reaches ${this.caller.projects.join(", ")} only`,
    });
  }

  /** A path names any file that the server can read, and a guest shows what is in it. */
  #refuseFiles(spec: Readonly<Record<string, unknown>>): void {
    if (allows(this.caller, "admin") && this.caller.projects === null) return;
    const initrds = spec["initrds"];
    if ((spec["kernel"] ?? null) === null && (!Array.isArray(initrds) || initrds.length === 0)) return;
    throw new IsolaError({
      code: "forbidden",
      message: `cannot boot from the server's own files: ${this.caller.who} may not read them; wanted: an image, or a token of scope admin for the whole server`,
    });
  }

  async host(): Promise<HostInventory> {
    const host = await this.#fleet.host();
    if (this.caller.projects === null) return host;
    const mine = new Set((await this.list()).map(({ name }) => name));
    return { ...host, pools: host.pools.map((pool) => ({ ...pool, vms: pool.vms.filter((vm) => mine.has(vm)) })) };
  }

  async projects(): Promise<Project[]> {
    return (await this.#fleet.projects()).filter(({ name }) => this.sees(name));
  }

  async operations(): Promise<Operation[]> {
    return (await this.#fleet.operations()).filter(({ project }) => this.sees(project));
  }

  async operation(id: string): Promise<Operation> {
    const operation = await this.#fleet.operation(id);
    if (this.sees(operation.project)) return operation;
    throw new FleetError({ code: "not-found", message: `there is no operation ${id}` });
  }

  /** Events of no project are the server's own. */
  seesEvent(event: FleetEvent): boolean {
    return this.caller.projects === null || this.sees(event.project);
  }

  /** A refusal for want of resources names who holds them; the names of others' VMs become one. */
  async discreet(error: unknown): Promise<unknown> {
    if (this.caller.projects === null || !(error instanceof FleetError)) return error;
    const shortage = shortageSchema.safeParse(error.details);
    if (!shortage.success) return error;
    const mine = new Set((await this.list()).map(({ name }) => name));
    const known = shortage.data.holders.filter(({ name }) => mine.has(name));
    const rest = shortage.data.holders.filter(({ name }) => !mine.has(name));
    const amount = rest.reduce((sum, holder) => sum + holder.amount, 0);
    const holders = rest.length === 0 ? known : [...known, { name: OTHERS, amount }];
    const details = { ...shortage.data, holders };
    return new FleetError({ code: error.code, message: `there is no room: it ${describeShortage(details)}`, details });
  }
}
