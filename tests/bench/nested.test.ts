/** The bench in a host that QEMU emulates: what goes into that host's image. */

import assert from "node:assert/strict";
import { posix } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { benchFiles } from "../../bench/nested.ts";
import { PROGRAM_ROOT, packageFiles, sourceFiles } from "../../src/images/program-files.ts";
import { testFiles } from "../peers/nested-host.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

test("every file that the bench imports or starts, directly or not, is in the image", () => {
  const all = [...packageFiles(ROOT), ...sourceFiles(ROOT, "src"), ...testFiles(ROOT), ...benchFiles(ROOT)];
  const image = new Map(all.map(({ path, contents }) => [path, contents]));
  const missing: string[] = [];
  const seen = new Set<string>();
  const pending = [`${PROGRAM_ROOT}/bench/main.js`];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    const contents = image.get(path);
    if (contents === undefined) missing.push(path);
    else if (path.endsWith(".js")) {
      const text = Buffer.from(contents).toString();
      for (const [, imported, started] of text.matchAll(
        /^(?:import|export|\}) .*from "(\.[^"]+)"|new URL\("([^"]+\.[jt]s)"/gm,
      )) {
        pending.push(posix.join(posix.dirname(path), imported ?? started ?? ""));
      }
    }
  }
  assert.ok(seen.size > 100, `${seen.size} files`);
  assert.deepEqual(missing, []);
});
