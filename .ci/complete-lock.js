#!/usr/bin/env node
/**
 * Completes package-lock.json after `npm install`.
 *
 * A registry's mirror may hold the builds of a tool for some platforms only. npm then leaves the others out of the lock
 * file, and `npm ci` refuses the file on every platform as out of step. This adds an entry for each left-out optional
 * dependency, with the version that its parent names and the platform that its name tells, so that `npm ci` accepts the
 * file and passes over what is not for this host.
 */
import { readFileSync, writeFileSync } from "node:fs";

const PATH = new URL("../package-lock.json", import.meta.url);
const SYSTEMS = [
  "aix",
  "android",
  "darwin",
  "freebsd",
  "linux",
  "netbsd",
  "openbsd",
  "openharmony",
  "sunos",
  "wasm32",
  "win32",
];
const PROCESSORS = ["arm64", "arm", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "wasm32", "x64"];

/**
 * @typedef {{ version?: string, dev?: boolean, optional?: boolean, os?: string[], cpu?: string[], libc?: string[],
 *   optionalDependencies?: Record<string, string> }} Entry
 * @type {{ packages: Record<string, Entry> }}
 */
const lock = JSON.parse(readFileSync(PATH, "utf8"));

/**
 * The platform in the name of a package: `cli-linux-arm64-musl`.
 *
 * @param {string} name
 * @returns {Entry | undefined}
 */
function platformOf(name) {
  const words = name.split(/[-/]/);
  const os = SYSTEMS.find((system) => words.includes(system));
  const cpu = PROCESSORS.find((processor) => words.includes(processor));
  if (os === undefined || cpu === undefined) return undefined;
  const libc = words.includes("musl")
    ? ["musl"]
    : words.includes("gnu") || words.includes("gnueabihf")
      ? ["glibc"]
      : [];
  return { ...(os === cpu ? {} : { os: [os] }), cpu: [cpu], ...(libc.length > 0 ? { libc } : {}) };
}

const added = [];
for (const parent of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    const key = `node_modules/${name}`;
    if (lock.packages[key] !== undefined || !/^\d+\.\d+\.\d+$/.test(version)) continue;
    const platform = platformOf(name);
    if (platform === undefined)
      throw new Error(`${name} is missing from the lock file, and its name tells no platform`);
    lock.packages[key] = { version, ...(parent.dev === true ? { dev: true } : {}), optional: true, ...platform };
    added.push(name);
  }
}
const packages = Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, "en"));
writeFileSync(PATH, `${JSON.stringify({ ...lock, packages: Object.fromEntries(packages) }, null, 2)}\n`);
console.log(`package-lock.json: ${added.length} entries added${added.length > 0 ? `: ${added.join(", ")}` : ""}`);
