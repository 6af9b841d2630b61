/**
 * Who may call the server, and who did what: tokens and the audit log, in an SQLite file of their own, readable by the
 * server's user alone. A token's secret is kept as a hash only; it has 256 random bits, so a plain hash is enough.
 */

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { chmodSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { z } from "zod";
import { IsolaError } from "../../base/errors.ts";
import type { AuditEntry, NewToken, Token } from "../contract/access.ts";
import { SCOPES } from "../contract/operation.ts";

/** Numbered by place; never changed once released. */
const MIGRATIONS = [
  `CREATE TABLE tokens (
     id TEXT PRIMARY KEY, hash BLOB NOT NULL, name TEXT NOT NULL UNIQUE, scope TEXT NOT NULL, projects TEXT,
     created TEXT NOT NULL, expires TEXT, used TEXT
   ) STRICT;
   CREATE TABLE audit (
     id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, who TEXT NOT NULL, address TEXT NOT NULL,
     operation TEXT NOT NULL, target TEXT NOT NULL, status INTEGER NOT NULL, code TEXT
   ) STRICT;`,
];
/** Entries of the audit log that are kept. */
const AUDIT_LIMIT = 100_000;
/** How many entries go by between two looks at that limit. */
const AUDIT_TRIM_STEP = 1000;
/** A token's last use is noted to this precision, so that reads cost no write each. */
const USED_STEP_MS = 60_000;

const SECRET_BYTES = 32;
const TOKEN = /^isola_([0-9a-f]{12})_([A-Za-z0-9_-]{43})$/;

const tokenRow = z.object({
  id: z.string(),
  hash: z.instanceof(Uint8Array),
  name: z.string(),
  scope: z.enum(SCOPES),
  projects: z.string().nullable(),
  created: z.string(),
  expires: z.string().nullable(),
  used: z.string().nullable(),
});

const auditRow = z.object({
  id: z.int(),
  time: z.string(),
  who: z.string(),
  address: z.string(),
  operation: z.string(),
  target: z.string(),
  status: z.int(),
  code: z.string().nullable(),
});

function hashOf(secret: string): Uint8Array {
  return createHash("sha256").update(secret).digest();
}

function tokenOf(row: unknown): Token & { readonly hash: Uint8Array } {
  const { projects, ...token } = tokenRow.parse(row);
  return { ...token, projects: projects === null ? null : z.array(z.string()).parse(JSON.parse(projects)) };
}

export class AccessStore implements Disposable {
  readonly #database: DatabaseSync;
  readonly #now: () => number;
  #untrimmed = 0;

  /** Opens or makes the file; throws an IsolaError where that cannot be. */
  constructor(path: string, now: () => number = Date.now) {
    this.#now = now;
    try {
      this.#database = new DatabaseSync(path, { timeout: 5000 });
      // Before anything is in it; the journal files take the mode of the database.
      if (path !== ":memory:") chmodSync(path, 0o600);
      this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;");
      this.#migrate();
    } catch (error) {
      if (error instanceof IsolaError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new IsolaError({
        code: "state-unreadable",
        message: `cannot open ${path}: ${reason}; wanted: a folder that this user may write, and isola's own file in it`,
        cause: error,
      });
    }
  }

  #migrate(): void {
    const version = Number(this.#database.prepare("PRAGMA user_version").get()?.["user_version"]);
    if (version > MIGRATIONS.length) {
      throw new IsolaError({
        code: "state-too-new",
        message: `cannot use the access file: its version is ${version}; wanted: at most ${MIGRATIONS.length}, or a newer isola`,
      });
    }
    for (const [index, migration] of MIGRATIONS.entries()) {
      if (index >= version) this.#database.exec(`BEGIN; ${migration} PRAGMA user_version = ${index + 1}; COMMIT;`);
    }
  }

  /** Makes a token; its secret is in the answer and nowhere else. */
  createToken({ name, scope, projects, expires }: NewToken): { token: Token; secret: string } {
    if (this.#database.prepare("SELECT 1 FROM tokens WHERE name = ?").get(name) !== undefined) {
      throw new IsolaError({
        code: "token-exists",
        message: `cannot create the token ${name}: there is one of that name; wanted: another name, or revoke it first`,
      });
    }
    const id = randomBytes(6).toString("hex");
    const secret = randomBytes(SECRET_BYTES).toString("base64url");
    const created = new Date(this.#now()).toISOString();
    const listed = projects === null ? null : JSON.stringify(projects);
    this.#database
      .prepare("INSERT INTO tokens (id, hash, name, scope, projects, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)")
      .run(id, hashOf(secret), name, scope, listed, created, expires);
    return { token: { id, name, scope, projects, created, expires, used: null }, secret: `isola_${id}_${secret}` };
  }

  tokens(): Token[] {
    const rows = this.#database.prepare("SELECT * FROM tokens ORDER BY created, name").all();
    return rows.map((row) => {
      const { hash: _, ...token } = tokenOf(row);
      return token;
    });
  }

  /** Takes a token, by name or id, out of use at once; false where there is none. */
  revokeToken(nameOrId: string): boolean {
    return this.#database.prepare("DELETE FROM tokens WHERE name = ?1 OR id = ?1").run(nameOrId).changes > 0;
  }

  /** The token that `secret` is, or undefined: unknown, revoked or expired. */
  authenticate(secret: string): Token | undefined {
    const [, id, value] = TOKEN.exec(secret) ?? [];
    if (id === undefined || value === undefined) return undefined;
    const row = this.#database.prepare("SELECT * FROM tokens WHERE id = ?").get(id);
    if (row === undefined) return undefined;
    const { hash, ...token } = tokenOf(row);
    if (!timingSafeEqual(hash, hashOf(value))) return undefined;
    const now = this.#now();
    if (token.expires !== null && Date.parse(token.expires) <= now) return undefined;
    if (token.used === null || now - Date.parse(token.used) >= USED_STEP_MS) {
      this.#database.prepare("UPDATE tokens SET used = ? WHERE id = ?").run(new Date(now).toISOString(), id);
    }
    return token;
  }

  /** Adds to the audit log. */
  record(entry: Omit<AuditEntry, "id" | "time">): void {
    this.#database
      .prepare("INSERT INTO audit (time, who, address, operation, target, status, code) VALUES (?, ?, ?, ?, ?, ?, ?)")
      .run(
        new Date(this.#now()).toISOString(),
        entry.who,
        entry.address,
        entry.operation,
        entry.target,
        entry.status,
        entry.code,
      );
    this.#untrimmed += 1;
    if (this.#untrimmed < AUDIT_TRIM_STEP) return;
    this.#untrimmed = 0;
    this.#database.prepare("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?").run(AUDIT_LIMIT);
  }

  /** The newest entries, newest first; `before` goes on from an earlier answer. */
  audit(limit: number, before: number = Number.MAX_SAFE_INTEGER): AuditEntry[] {
    const rows = this.#database.prepare("SELECT * FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?").all(before, limit);
    return rows.map((row) => auditRow.parse(row));
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}
