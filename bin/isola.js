#!/usr/bin/env node
/**
 * Starts isola on the Node that it is made for. Plain JavaScript that old Nodes understand: it runs on whatever `node`
 * is in the PATH, and hands over to the pinned runtime that npm installed beside the package, unless this one is new
 * enough itself.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import module, { createRequire } from "node:module";
import { constants, homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const WANTED_MAJOR = 26;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
// A clone runs its sources, a published package its build: Node strips no types under node_modules.
const main = [join(root, "src/cli/main.ts"), join(root, "dist/cli/main.js")].find((path) => existsSync(path));

/**
 * Where Node keeps compiled code: sources that were compiled once start a second sooner, and do not bring the compiler,
 * 15 MB a thread, into memory. Undefined where there is no home: then nothing is kept.
 */
function compileCache() {
  const cache = process.env.XDG_CACHE_HOME ?? "";
  try {
    return join(isAbsolute(cache) ? cache : join(homedir(), ".cache"), "isola", "compiled");
  } catch {
    return undefined;
  }
}

/** The path of the pinned node, or undefined where npm installed none for this platform. */
function pinnedNode() {
  const require = createRequire(import.meta.url);
  for (const name of [`node-${process.platform}-${process.arch}`, `node-bin-${process.platform}-${process.arch}`]) {
    try {
      const manifest = require.resolve(`${name}/package.json`);
      const path = join(dirname(manifest), JSON.parse(readFileSync(manifest, "utf8")).bin.node);
      if (existsSync(path)) return path;
    } catch {
      // Not this one.
    }
  }
  return undefined;
}

/**
 * Runs isola as a child that shares the terminal; signals go to it, and its end becomes this process's end.
 *
 * @param {string} node
 * @param {string} script
 */
function handOver(node, script) {
  const child = spawn(node, [script, ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGCONT", "SIGUSR2"])) {
    process.on(signal, () => child.kill(signal));
  }
  child.on("error", (error) => {
    console.error(
      `isola: cannot start ${node}: ${error.message}; wanted: Node ${WANTED_MAJOR}, as \`npm ci\` brings it`,
    );
    process.exit(1);
  });
  child.on("exit", (status, signal) => {
    if (signal === null) process.exit(status ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
    // Where the signal does not end this process at once, its number does.
    setTimeout(() => process.exit(128 + constants.signals[signal]), 1000);
  });
}

// Workers and the pinned runtime look for it in the environment.
const compiled = compileCache();
if (compiled !== undefined) process.env.NODE_COMPILE_CACHE ??= compiled;

// One arena of the C library for all threads: V8's compile threads would keep 20 MB in arenas of their own. The library
// reads this once, at a process's start.
const oneArena = process.platform === "linux" && process.env.MALLOC_ARENA_MAX === undefined;
if (oneArena) process.env.MALLOC_ARENA_MAX = "1";

if (main === undefined) {
  console.error(
    `isola: nothing to run under ${root}; wanted: src/cli/main.ts or dist/cli/main.js; install isola again`,
  );
  process.exit(1);
}
if (Number(process.versions.node.split(".")[0]) >= WANTED_MAJOR) {
  if (oneArena && process.execve !== undefined) {
    process.execve(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)], process.env);
  }
  module.enableCompileCache?.();
  await import(pathToFileURL(main).href);
} else {
  const node = pinnedNode();
  if (node === undefined) {
    console.error(
      `isola: this is Node ${process.versions.node}, and none is installed for ${process.platform}-${process.arch}; ` +
        `wanted: \`npm ci\`, which brings one, or Node ${WANTED_MAJOR} or later in the PATH (https://nodejs.org)`,
    );
    process.exit(1);
  }
  handOver(node, main);
}
