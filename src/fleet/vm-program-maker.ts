/**
 * Writes the entries of VMs' processes, and all that they import, as JavaScript: `node vm-program-maker.ts FOLDER`. Types
 * become blanks, so that lines and columns stay as they are in the sources.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const ENTRIES = ["fleet/vm-launcher.ts", "fleet/vm-process.ts"];
const SOURCES = dirname(dirname(fileURLToPath(import.meta.url)));
/** A module of ours, as `import`, `export` and `new URL` name it. */
const OURS = /(["'])(\.{1,2}\/[\w./-]+)\.ts\1/g;
/** A package, as an import names it: it is looked for from here, not from where the program will lie. */
const PACKAGE = /(^|\n)(import [^"';]*? from )"((?![./]|node:)[^"]+)"/g;

const [target = ""] = process.argv.slice(2);
const waiting = ENTRIES.map((entry) => join(SOURCES, entry));
const seen = new Set(waiting);
for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
  const from = path;
  const code = stripTypeScriptTypes(readFileSync(from, "utf8"));
  for (const [, , module = ""] of code.matchAll(OURS)) {
    const found = resolve(dirname(from), `${module}.ts`);
    if (seen.has(found)) continue;
    seen.add(found);
    waiting.push(found);
  }
  const url = pathToFileURL(from).href;
  const plain = code
    .replaceAll(OURS, "$1$2.js$1")
    .replaceAll(PACKAGE, (_, before: string, head: string, name: string) => {
      return `${before}${head}${JSON.stringify(import.meta.resolve(name, url))}`;
    });
  const written = join(target, relative(SOURCES, from).replace(/\.ts$/, ".js"));
  mkdirSync(dirname(written), { recursive: true });
  writeFileSync(written, plain);
}
writeFileSync(join(target, "package.json"), `${JSON.stringify({ type: "module" })}\n`);
