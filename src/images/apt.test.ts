/** apt's part is played by a script, so that every failure can be had without a network. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { IsolaError } from "../base/errors.ts";
import { Apt, parsePackageRecord, tellingLine } from "./apt.ts";
import type { Progress } from "./progress.ts";

const PACKAGE = "the package's bytes\n";
const sha256 = createHash("sha256").update(PACKAGE).digest("hex");
const META =
  "Package: linux-image-cloud-amd64\nVersion: 6.1-1\nSize: 9\nSHA256: " +
  "a".repeat(64) +
  "\nDepends: something (>= 1) | other, linux-image-6.1.0-9-cloud-amd64 (= 6.1-1)\n";
const KERNEL = `Package: linux-image-6.1.0-9-cloud-amd64\nVersion: 6.1-1\nSize: ${PACKAGE.length}\nSHA256: ${sha256}\n`;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "isola-apt-"));
});
afterEach(() => rm(directory, { recursive: true }));

/** A program that plays apt-get and apt-cache; `cases` are shell patterns on its last word but options. */
async function fakeApt(cases: Record<string, string>): Promise<{ get: string; cache: string }> {
  const path = join(directory, "apt");
  const arms = Object.entries(cases)
    .map(([pattern, body]) => `${pattern}) ${body} ;;`)
    .join("\n");
  const script = `#!/bin/sh
echo "$@" >>"${directory}/calls"
while [ $# -gt 0 ]; do case "$1" in -o|-c) shift 2 ;; -q) shift ;; *) break ;; esac; done
case "$*" in
${arms}
*) echo "E: No packages found" >&2; exit 100 ;;
esac
`;
  await writeFile(path, script, { mode: 0o755 });
  for (const [name, text] of [
    ["meta", META],
    ["kernel", KERNEL],
    ["package", PACKAGE],
  ] as const) {
    await writeFile(join(directory, name), text);
  }
  return { get: path, cache: path };
}

const show = {
  "*show*linux-image-cloud-amd64": 'cat "$(dirname "$0")/meta"',
  "*show*linux-image-6.1.0-9-cloud-amd64": 'cat "$(dirname "$0")/kernel"',
};
const good = { update: ":", ...show, "download*": 'cp "$(dirname "$0")/package" a%3a1_amd64.deb' };

async function fetchKernel(
  cases: Record<string, string>,
  progress?: (progress: Progress) => void,
): Promise<Uint8Array> {
  const programs = await fakeApt(cases);
  const apt = await Apt.create({ directory: join(directory, "private"), programs, ...(progress ? { progress } : {}) });
  return apt.download(await apt.resolve("linux-image-cloud-amd64", /^linux-image-[0-9]/));
}

const rejectsWith = (work: Promise<unknown>, code: string, message: RegExp) =>
  assert.rejects(work, (error) => {
    assert.ok(error instanceof IsolaError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });

describe("apt", () => {
  test("a metapackage leads to its versioned package, in that version", async () => {
    assert.equal(new TextDecoder().decode(await fetchKernel(good)), PACKAGE);
    const calls = await readFile(join(directory, "calls"), "utf8");
    assert.match(calls, /download linux-image-6\.1\.0-9-cloud-amd64=6\.1-1\n/);
  });

  test("all of its state is the caller's directory, and no lock or other user is taken", async () => {
    await fetchKernel(good);
    const calls = (await readFile(join(directory, "calls"), "utf8")).trim().split("\n");
    for (const call of calls) {
      for (const setting of ["Dir::State=", "Dir::State::status=", "Dir::Cache="]) {
        assert.ok(call.includes(`${setting}${directory}/private/`), call);
      }
      assert.match(call, /APT::Sandbox::User= /);
      assert.match(call, /Debug::NoLocking=1/);
    }
    assert.equal(await readFile(join(directory, "private/status"), "utf8"), "");
    assert.match(await readFile(join(directory, "private/apt.conf"), "utf8"), /#clear APT::Update::Post-Invoke;/);
  });

  test("progress is told in parts of the package's size", async () => {
    const seen: Progress[] = [];
    const body = `printf 'dlstatus:1:0.0:x\\ndlstatus:1:50.0:y\\nnonsense\\ndlstatus:1:999:z\\n' >&3; ${good["download*"]}`;
    await fetchKernel({ ...good, "download*": body }, (progress) => seen.push(progress));
    const download = seen.filter(({ step }) => step.startsWith("downloading"));
    assert.deepEqual(
      download.map(({ fraction }) => fraction),
      [0, 0.5, 1],
    );
    assert.ok(download.every(({ totalBytes }) => totalBytes === PACKAGE.length));
  });

  test("one failing index is no failure where another has the package", async () => {
    const update = "echo 'E: Failed to fetch http://x/  404' >&2; exit 100";
    assert.equal((await fetchKernel({ ...good, update })).length, PACKAGE.length);
  });

  test("without a network the first cause is named", async () => {
    const update = "echo \"W: Failed to fetch http://x/  Temporary failure resolving 'x'\" >&2";
    const message =
      /could not fetch its indexes \(Failed to fetch .*Temporary failure resolving 'x'\).*--kernel and --initrd/;
    await rejectsWith(fetchKernel({ update }), "apt-update-failed", message);
  });

  test("a package that the sources lack", async () => {
    await rejectsWith(
      fetchKernel({ update: ":" }),
      "package-unknown",
      /linux-image-cloud-amd64: the host's apt sources/,
    );
  });

  test("a host without apt", async () => {
    const programs = { get: "/nonexistent/apt-get", cache: "/nonexistent/apt-cache" };
    const work = Apt.create({ directory: join(directory, "private"), programs });
    await rejectsWith(work, "apt-missing", /no working \/nonexistent\/apt-get; .*--kernel and --initrd/);
  });

  test("many packages take one call each for what they are and for their files; unknown names are left out", async () => {
    const both = 'cat "$(dirname "$0")/meta"; echo; cat "$(dirname "$0")/kernel"; exit 100';
    const programs = await fakeApt({ "*show*nothing": both, ...good });
    const apt = await Apt.create({ directory: join(directory, "private"), programs });
    const records = await apt.showAll(["linux-image-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64", "nothing"]);
    assert.deepEqual([...records.keys()], ["linux-image-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64"]);
    const kernel = records.get("linux-image-6.1.0-9-cloud-amd64") ?? assert.fail("no kernel");
    const packages = await apt.downloadAll([kernel]);
    assert.equal(new TextDecoder().decode(packages.get(kernel.name)), PACKAGE);
    // What comes with a wrong hash is asked for again, alone.
    const meta = records.get("linux-image-cloud-amd64") ?? assert.fail("no metapackage");
    await rejectsWith(apt.downloadAll([kernel, meta]), "package-download-failed", /linux-image-cloud-amd64/);
    const calls = await readFile(join(directory, "calls"), "utf8");
    assert.equal(calls.match(/ show /g)?.length, 1);
  });

  test("a download that fails once is tried again", async () => {
    const body = `if mkdir "$(dirname "$0")/tried" 2>/dev/null; then exit 100; fi; ${good["download*"]}`;
    assert.equal((await fetchKernel({ ...good, "download*": body })).length, PACKAGE.length);
  });

  test("a download that fails twice ends", async () => {
    const body = "echo 'E: Connection timed out' >&2; exit 100";
    await rejectsWith(
      fetchKernel({ ...good, "download*": body }),
      "package-download-failed",
      /6\.1-1: Connection timed out/,
    );
    assert.equal((await readFile(join(directory, "calls"), "utf8")).match(/download/g)?.length, 2);
  });

  test("a file with another hash, another size, or none at all is refused", async () => {
    const other = `printf '%s\\n' "THE package's bytes" >a.deb`;
    await rejectsWith(
      fetchKernel({ ...good, "download*": other }),
      "package-download-failed",
      /SHA-256 is [0-9a-f]{64}, wanted/,
    );
    await rejectsWith(
      fetchKernel({ ...good, "download*": "echo >a.deb" }),
      "package-download-failed",
      /1 bytes, wanted 20/,
    );
    await rejectsWith(fetchKernel({ ...good, "download*": ":" }), "package-download-failed", /apt left no file/);
  });
});

describe("what apt says", () => {
  test("records without size, hash or version are none", () => {
    assert.equal(parsePackageRecord(""), undefined);
    assert.equal(parsePackageRecord(KERNEL.replace("SHA256", "MD5sum")), undefined);
    assert.equal(parsePackageRecord(KERNEL.replace(/Size: [0-9]+/, "Size: many")), undefined);
    assert.deepEqual(parsePackageRecord(META)?.depends, ["something", "linux-image-6.1.0-9-cloud-amd64"]);
  });

  test("a cause goes before its consequences", () => {
    assert.equal(tellingLine("E: Some index files failed\nCould not connect to x:80"), "Could not connect to x:80");
    assert.equal(tellingLine("note\nE: Unable to locate package x\n"), "Unable to locate package x");
    assert.equal(tellingLine(""), "no reason given");
  });
});
