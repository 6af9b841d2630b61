/**
 * The fleet's record: one SQLite file in the state folder, written before and after each step that changes the world,
 * so that a server killed at any point finds out what was under way. Rows are JSON where nobody searches in them.
 */

import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { FleetError } from "./fleet-error.ts";
import { MIGRATIONS } from "./record-migrations.ts";
import type { Barrier, CpuPool, FleetEvent, Quota, Template, VmExit } from "./contract.ts";
import type { VmState } from "./lifecycle.ts";
import { type VmSpec, vmSpecSchema } from "./vm-spec.ts";

/** The process of a VM that is on. */
export interface RunRecord {
  readonly secret: string;
  /** null until it has been made: before that there is none, since it waits for the word to go on. */
  readonly pid: number | null;
  /** Start time of the process, and the host's boot: together with the pid they name it for ever. */
  readonly pidStart: string;
  readonly bootId: string;
  readonly engine: "wasm" | "kvm";
  readonly started: string;
  readonly confinement: readonly Barrier[];
  /** Folder of the process's control group, where it has one. */
  readonly group?: string;
}

export interface VmRecord {
  readonly id: string;
  /** Counts up over all VMs ever made: gives each its own uid. */
  readonly number: number;
  readonly name: string;
  readonly spec: VmSpec;
  readonly state: VmState;
  readonly since: string;
  readonly created: string;
  /** Whether someone wants it to be on: what restart policies go by. */
  readonly wanted: boolean;
  readonly restarts: number;
  readonly exit: VmExit | null;
  readonly run: RunRecord | null;
}

const KEPT_EVENTS = 10_000;
/** Removing old events at every one would cost more than the event. */
const EVENT_SLACK = 1000;

/** No column here holds bytes. */
type Row = Record<string, string | number | null>;
const parse = <T>(text: Row[string] | undefined): T => JSON.parse(String(text)) as T;

export class FleetRecord {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  /** The page of events that was read last: who polls asks for the same one until there is news. */
  #page: { readonly after: number; readonly limit: number; readonly events: readonly FleetEvent[] } | undefined;

  /** @throws FleetError `host-failed` where the file cannot be used, or was written by a newer isola */
  constructor(path: string) {
    try {
      this.#database = new DatabaseSync(path, { timeout: 5000 });
      this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON");
      this.#migrate(path);
    } catch (cause) {
      if (cause instanceof FleetError) throw cause;
      const problem = cause instanceof Error ? cause.message : String(cause);
      throw new FleetError({
        code: "host-failed",
        message: `opening the record ${path}: ${problem}; wanted: a file of isola's that can be written; move it aside to begin anew`,
        cause,
      });
    }
  }

  #migrate(path: string): void {
    const version = Number(this.#database.prepare("PRAGMA user_version").get()?.["user_version"] ?? 0);
    if (version > MIGRATIONS.length) {
      throw new FleetError({
        code: "host-failed",
        message: `opening the record ${path}: its version is ${version}, this isola knows ${MIGRATIONS.length}; use the newer isola`,
      });
    }
    for (let next = version; next < MIGRATIONS.length; next++) {
      this.#database.exec(`BEGIN IMMEDIATE; ${MIGRATIONS[next]}; PRAGMA user_version = ${next + 1}; COMMIT`);
    }
  }

  close(): void {
    this.#database.close();
  }

  /** Each statement is compiled once: that takes SQLite longer than most of them run. */
  #prepared(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #rows(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#prepared(sql).all(...values) as Row[];
  }

  #run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#prepared(sql).run(...values).changes);
  }

  // -- virtual machines ---------------------------------------------------------------------------------------------

  /** Those that are there; `drafts`: those whose making was never completed. */
  vms(drafts = false): VmRecord[] {
    return this.#rows("SELECT * FROM vms WHERE made = ? ORDER BY number", drafts ? 0 : 1).map(vmOf);
  }

  vm(nameOrId: string): VmRecord | undefined {
    const [row] = this.#rows("SELECT * FROM vms WHERE made = 1 AND (id = ?1 OR name = ?1)", nameOrId);
    return row && vmOf(row);
  }

  /** Records a VM that is being made. Its name is taken from now on. */
  draftVm(id: string, spec: VmSpec, time: string): VmRecord {
    const [row] = this.#rows(
      "INSERT INTO vms (id, name, spec, state, since, created) VALUES (?, ?, ?, 'stopped', ?, ?) RETURNING *",
      id,
      spec.name,
      JSON.stringify(spec),
      time,
      time,
    );
    if (row === undefined) throw new FleetError({ code: "host-failed", message: "the record gave no row back" });
    return vmOf(row);
  }

  madeVm(id: string): void {
    this.#run("UPDATE vms SET made = 1 WHERE id = ?", id);
  }

  /** Changes what is given; false where there is no such VM. */
  changeVm(id: string, change: Partial<Omit<VmRecord, "id" | "number" | "created" | "name">>): boolean {
    const columns: [string, SQLInputValue][] = [];
    if (change.spec !== undefined) columns.push(["spec", JSON.stringify(change.spec)], ["name", change.spec.name]);
    if (change.state !== undefined) columns.push(["state", change.state]);
    if (change.since !== undefined) columns.push(["since", change.since]);
    if (change.wanted !== undefined) columns.push(["wanted", change.wanted ? 1 : 0]);
    if (change.restarts !== undefined) columns.push(["restarts", change.restarts]);
    if (change.exit !== undefined) columns.push(["exit", JSON.stringify(change.exit)]);
    if (change.run !== undefined) columns.push(["run", JSON.stringify(change.run)]);
    const sets = columns.map(([name]) => `${name} = ?`).join(", ");
    return this.#run(`UPDATE vms SET ${sets} WHERE id = ?`, ...columns.map(([, value]) => value), id) > 0;
  }

  removeVm(id: string): void {
    this.#run("DELETE FROM vms WHERE id = ?", id);
  }

  // -- projects, templates, pools -----------------------------------------------------------------------------------

  projects(): { name: string; quota: Quota }[] {
    return this.#rows("SELECT * FROM projects ORDER BY name").map(({ name, quota }) => {
      return { name: String(name), quota: parse<Quota>(quota) };
    });
  }

  putProject(name: string, quota: Quota): void {
    this.#run("INSERT OR REPLACE INTO projects (name, quota) VALUES (?, ?)", name, JSON.stringify(quota));
  }

  removeProject(name: string): boolean {
    return this.#run("DELETE FROM projects WHERE name = ?", name) > 0;
  }

  templates(): Template[] {
    return this.#rows("SELECT * FROM templates ORDER BY name").map(({ name, description, spec }) => {
      return { name: String(name), description: String(description), spec: parse<Template["spec"]>(spec) };
    });
  }

  putTemplate({ name, description, spec }: Template): void {
    const sql = "INSERT OR REPLACE INTO templates (name, description, spec) VALUES (?, ?, ?)";
    this.#run(sql, name, description, JSON.stringify(spec));
  }

  removeTemplate(name: string): boolean {
    return this.#run("DELETE FROM templates WHERE name = ?", name) > 0;
  }

  pools(): CpuPool[] {
    return this.#rows("SELECT * FROM pools ORDER BY name").map(({ name, processors, cores }) => {
      return { name: String(name), processors: parse<number[]>(processors), cores: Number(cores) };
    });
  }

  putPool({ name, processors, cores }: CpuPool): void {
    const sql = "INSERT OR REPLACE INTO pools (name, processors, cores) VALUES (?, ?, ?)";
    this.#run(sql, name, JSON.stringify(processors), cores);
  }

  removePool(name: string): boolean {
    return this.#run("DELETE FROM pools WHERE name = ?", name) > 0;
  }

  // -- events -------------------------------------------------------------------------------------------------------

  addEvent(event: Omit<FleetEvent, "sequence">): FleetEvent {
    const { time, kind, id, name, project, message, actor, data } = event;
    const sql =
      "INSERT INTO events (time, kind, id, name, project, message, actor, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?) " +
      "RETURNING sequence";
    const [row] = this.#rows(sql, time, kind, id, name, project, message, actor, JSON.stringify(data));
    this.#page = undefined;
    const sequence = Number(row?.["sequence"]);
    if (sequence % EVENT_SLACK === 0) this.#run("DELETE FROM events WHERE sequence <= ?", sequence - KEPT_EVENTS);
    return { sequence, ...event };
  }

  events(after: number, limit: number): readonly FleetEvent[] {
    const page = this.#page;
    if (page?.after === after && page.limit === limit) return page.events;
    const rows = this.#rows("SELECT * FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?", after, limit);
    const events = rows.map(({ data, sequence, ...row }) => {
      return { ...row, sequence: Number(sequence), data: parse(data) } as FleetEvent;
    });
    this.#page = { after, limit, events };
    return events;
  }
}

/** A spec with the fields that came after it was recorded. */
function completed(spec: VmSpec): VmSpec {
  const { success, data } = vmSpecSchema.safeParse(spec);
  return success ? data : spec;
}

function vmOf(row: Row): VmRecord {
  return {
    id: String(row["id"]),
    number: Number(row["number"]),
    name: String(row["name"]),
    spec: completed(parse<VmSpec>(row["spec"])),
    state: String(row["state"]) as VmState,
    since: String(row["since"]),
    created: String(row["created"]),
    wanted: row["wanted"] === 1,
    restarts: Number(row["restarts"]),
    exit: parse<VmExit | null>(row["exit"]),
    run: parse<RunRecord | null>(row["run"]),
  };
}
