/**
 * isola itself as files for an image: its sources as JavaScript (types would be stripped at every start, by a runtime
 * that may be emulated), the packages that it depends on, and the Node that runs this with its shared libraries.
 */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join, relative } from "node:path";

/** Contents by absolute path in the image. */
export interface ImageFileEntry {
  readonly path: string;
  readonly contents: Uint8Array | string;
  readonly executable?: boolean;
}

/** Where isola lies in an image. */
export const PROGRAM_ROOT = "/isola";

/** JavaScript of a source file, laid out as the published package is: `src` becomes `dist`, and `.ts` becomes `.js`. */
export function toJavaScript(source: string): string {
  return stripTypeScriptTypes(source, { mode: "strip" }).replaceAll(
    /(["'])(\.{1,2}\/[^"'\n]*?)\.ts\1/g,
    (_, quote: string, path: string) => `${quote}${path.replace(/^((?:\.\.\/)+)src\//, "$1dist/")}.js${quote}`,
  );
}

function* filesBelow(directory: string): Generator<string> {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile()) yield path;
  }
}

/** Sources below `directory` of the checkout at `root`, as JavaScript in the image; `wanted` sees paths below root. */
export function* sourceFiles(
  root: string,
  directory: string,
  wanted: (path: string) => boolean = (path) => !path.endsWith(".test.ts"),
): Generator<ImageFileEntry> {
  for (const file of filesBelow(join(root, directory))) {
    const path = relative(root, file);
    if (!wanted(path)) continue;
    const place = `${PROGRAM_ROOT}/${path.replace(/^src\//, "dist/")}`;
    if (path.endsWith(".ts")) {
      yield { path: place.replace(/\.ts$/, ".js"), contents: toJavaScript(readFileSync(file, "utf8")) };
    } else {
      yield { path: place, contents: readFileSync(file) };
    }
  }
}

/** The launcher, the manifest, and the packages of its `dependencies`. */
export function* packageFiles(root: string): Generator<ImageFileEntry> {
  const manifest = readFileSync(join(root, "package.json"), "utf8");
  yield { path: `${PROGRAM_ROOT}/package.json`, contents: manifest };
  yield { path: `${PROGRAM_ROOT}/bin/isola.js`, contents: readFileSync(join(root, "bin/isola.js")), executable: true };
  const { dependencies } = JSON.parse(manifest) as { readonly dependencies: Readonly<Record<string, string>> };
  const pending = Object.keys(dependencies);
  const seen = new Set<string>();
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const home = join(root, "node_modules", name);
    if (seen.has(name) || !existsSync(home)) continue;
    seen.add(name);
    for (const file of filesBelow(home)) {
      // Types, source maps and sources are for whoever builds, not for whoever runs.
      if (/\.(c|m)?ts$|\.map$|\.md$/.test(file)) continue;
      yield { path: `${PROGRAM_ROOT}/${relative(root, file)}`, contents: readFileSync(file) };
    }
    const own = JSON.parse(readFileSync(join(home, "package.json"), "utf8")) as {
      readonly dependencies?: Readonly<Record<string, string>>;
    };
    pending.push(...Object.keys(own.dependencies ?? {}));
  }
}

/** This process's Node as /bin/node, and every shared library that it has loaded, each where it looks for it. */
export function* runtimeFiles(): Generator<ImageFileEntry> {
  yield { path: "/bin/node", contents: readFileSync(process.execPath), executable: true };
  const { sharedObjects } = process.report.getReport() as unknown as { readonly sharedObjects: readonly string[] };
  for (const path of sharedObjects) {
    // The kernel's own page of code has no file.
    if (path.startsWith("/") && existsSync(path)) yield { path, contents: readFileSync(path), executable: true };
  }
}
