/** The record's schema, as the steps that led to it. A step that was ever released is never changed; add another. */

export const MIGRATIONS: readonly string[] = [
  // 1: the beginning.
  `CREATE TABLE vms (
     number INTEGER PRIMARY KEY AUTOINCREMENT,
     id TEXT NOT NULL UNIQUE,
     name TEXT NOT NULL UNIQUE,
     spec TEXT NOT NULL,
     state TEXT NOT NULL,
     since TEXT NOT NULL,
     created TEXT NOT NULL,
     made INTEGER NOT NULL DEFAULT 0,
     wanted INTEGER NOT NULL DEFAULT 0,
     restarts INTEGER NOT NULL DEFAULT 0,
     exit TEXT NOT NULL DEFAULT 'null',
     run TEXT NOT NULL DEFAULT 'null'
   ) STRICT;
   CREATE TABLE projects (name TEXT PRIMARY KEY, quota TEXT NOT NULL) STRICT;
   CREATE TABLE templates (name TEXT PRIMARY KEY, description TEXT NOT NULL, spec TEXT NOT NULL) STRICT;
   CREATE TABLE pools (name TEXT PRIMARY KEY, processors TEXT NOT NULL, cores REAL NOT NULL) STRICT;
   CREATE TABLE events (
     sequence INTEGER PRIMARY KEY AUTOINCREMENT,
     time TEXT NOT NULL,
     kind TEXT NOT NULL,
     id TEXT NOT NULL,
     name TEXT NOT NULL,
     project TEXT,
     message TEXT NOT NULL,
     actor TEXT,
     data TEXT NOT NULL
   ) STRICT`,
];
