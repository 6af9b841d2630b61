/**
 * Debian's own programs inside a guest: their answers are compared with what the host computes by other means, or with
 * published known answers.
 */

import assert from "node:assert/strict";
import { createCipheriv, createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { decompress } from "../../src/images/decompress/decompress.ts";
import { ImageStore } from "../../src/images/store.ts";
import { Guest, MIB } from "./guest.ts";
import { toolsInitramfs } from "./tools-image.ts";

let guest: Guest;
let commands = 0;

before(async () => {
  const { kernel, commandLine } = await new ImageStore().open("debian");
  const initrd = await toolsInitramfs();
  guest = await Guest.start({ memoryBytes: 256 * MIB, kernel, initrd, commandLine: `${commandLine} quiet` });
  await guest.expect(/tools ready\n/);
});

after(async () => {
  await guest[Symbol.asyncDispose]();
});

/** Runs one line in the guest's shell; its output, standard error included. Fails unless its status is 0. */
async function run(command: string): Promise<string> {
  commands += 1;
  const begin = `<<${commands}>>`;
  const end = new RegExp(`\n<<end ${commands}>> (\\d+)\n`);
  const line = `echo '${begin}'; { ${command}; } </dev/null; echo "\n<<end ${commands}>> $?"\n`;
  // A terminal in line mode takes no longer lines. [linux N_TTY_BUF_SIZE]
  assert.ok(line.length < 4000);
  const from = guest.text.length;
  guest.type(line);
  const [, status] = await guest.expect(end);
  const text = guest.text.slice(from);
  const output = text.slice(text.indexOf(begin) + begin.length + 1, text.search(end));
  assert.equal(status, "0", `${command}:\n${output}`);
  return output;
}

function sha256(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Numbers 1 to `count`, a line each: what `seq` prints. */
function sequence(count: number): string {
  return Array.from({ length: count }, (_, index) => `${index + 1}\n`).join("");
}

const KEY128 = "2b7e151628aed2a6abf7158809cf4f3c";
const KEY256 = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
/** [NIST SP 800-38A F.2.1, F.5.5] */
const PLAIN =
  "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
const CBC128 =
  "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7";
const CTR256 =
  "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c52b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6";
const CBC_IV = "000102030405060708090a0b0c0d0e0f";
const CTR_IV = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

test("openssl: SHA-256 of generated data", async () => {
  const data = sequence(100_000);
  await run("seq 100000 > data");
  assert.match(await run("openssl dgst -sha256 data"), new RegExp(`= ${sha256(data)}\n$`));
  assert.equal(await run("sha256sum < data"), `${sha256(data)}  -\n`);
});

test("openssl: AES by the standard's known answers", async () => {
  const hex = (text: string) => text.replaceAll(/../g, "\\x$&");
  await run(`busybox printf '${hex(PLAIN)}' > plain`);
  for (const [cipher, key, iv, wanted] of [
    ["aes-128-cbc", KEY128, CBC_IV, CBC128],
    ["aes-256-ctr", KEY256, CTR_IV, CTR256],
  ] as const) {
    const dump = "od -An -v -tx1 | tr -d ' \\n'";
    assert.equal(await run(`openssl enc -${cipher} -nopad -K ${key} -iv ${iv} -in plain | ${dump}`), wanted);
  }
});

test("openssl: AES of generated data, there and back", async () => {
  const data = sequence(100_000);
  await run("seq 100000 > data");
  for (const [cipher, key, iv] of [
    ["aes-128-cbc", KEY128, CBC_IV],
    ["aes-256-ctr", KEY256, CTR_IV],
  ] as const) {
    const host = createCipheriv(cipher, Buffer.from(key, "hex"), Buffer.from(iv, "hex"));
    const wanted = Buffer.concat([host.update(data), host.final()]);
    const options = `-${cipher} -K ${key} -iv ${iv}`;
    assert.equal(
      await run(`openssl enc ${options} -in data -out secret; sha256sum < secret`),
      `${sha256(wanted)}  -\n`,
    );
    assert.equal(await run(`openssl enc -d ${options} -in secret | busybox cmp - data`), "");
  }
});

test("gzip and xz: round trips in the guest, and the host reads what they wrote", async () => {
  const data = sequence(100_000);
  await run("seq 100000 > data");
  assert.equal(await run("gzip -9 -c data > data.gz; gzip -dc data.gz | busybox cmp - data"), "");
  assert.equal(gunzipSync(Buffer.from(await run("base64 data.gz"), "base64")).toString(), data);
  assert.equal(await run("xz -3 -c data > data.xz; xz -dc data.xz | busybox cmp - data"), "");
  const unpacked = await decompress(Buffer.from(await run("base64 data.xz"), "base64"), MIB);
  assert.equal(Buffer.from(unpacked).toString(), data);
});

test("awk and sort on generated numbers", async () => {
  // A linear congruence whose products stay below 2^53, so that awk's doubles are exact.
  let x = 12345;
  const numbers = Array.from({ length: 5000 }, () => (x = (x * 16807) % 2147483647));
  const awk = 'BEGIN { x = 12345; for (i = 0; i < 5000; i++) { x = (x * 16807) % 2147483647; printf "%d\\n", x } }';
  await run(`mawk '${awk}' > numbers`);
  assert.equal(await run("sha256sum < numbers"), `${sha256(numbers.map((n) => `${n}\n`).join(""))}  -\n`);
  const sorted = numbers.toSorted((a, b) => a - b);
  assert.equal(await run("sort -n numbers | sha256sum"), `${sha256(sorted.map((n) => `${n}\n`).join(""))}  -\n`);
  const texts = numbers.map(String).toSorted().toReversed();
  assert.equal(await run("sort -r numbers | sha256sum"), `${sha256(texts.map((n) => `${n}\n`).join(""))}  -\n`);
  let sum = 0;
  for (const n of numbers) sum += Math.sqrt(n) / 7;
  assert.equal(Number(await run(`mawk '{ s += sqrt($1) / 7 } END { printf "%.17g\\n", s }' numbers`)), sum);
});

test("python3: integers of any size, hashes and floating point", async () => {
  let factorial = 1n;
  for (let n = 2n; n <= 800n; n++) factorial *= n;
  const python = (script: string) => run(`python3 -I -S -c '${script}'`);
  const digest = "import hashlib, math; print(hashlib.sha256(str(math.factorial(800)).encode()).hexdigest())";
  assert.equal(await python(digest), `${sha256(String(factorial))}\n`);
  const power = 3n ** 4001n % 2n ** 521n;
  assert.equal(await python("print(pow(3, 4001) % 2**521, pow(3, 4001, 2**521))"), `${power} ${power}\n`);
  let harmonic = 0;
  for (let n = 1; n <= 2000; n++) harmonic += 1 / n;
  const loop = "s = 0.0\nfor n in range(1, 2001): s += 1 / n\nprint(repr(s), 0.1 + 0.2, (2.0**0.5).hex())";
  assert.equal(await python(loop), `${harmonic} 0.30000000000000004 0x1.6a09e667f3bcdp+0\n`);
});

test("sqlite3: a table in memory, by its shell and by python's module", async () => {
  const rows = Array.from({ length: 2000 }, (_, index) => {
    const a = index + 1;
    return { a, b: (a * a) % 1009 };
  });
  const sum = rows.reduce((total, { b }) => total + b, 0);
  const distinct = new Set(rows.map(({ b }) => b)).size;
  const top = rows.toSorted((p, q) => q.b - p.b || p.a - q.a).slice(0, 5);
  const wanted = `${sum}|${distinct}|${top.map(({ a }) => a).join(",")}\n`;
  const fill =
    "create table t(a integer primary key, b int); create index i on t(b); insert into t with recursive c(x) as " +
    "(values(1) union all select x + 1 from c where x < 2000) select x, x * x % 1009 from c;";
  const query =
    "select (select sum(b) from t), (select count(distinct b) from t), " +
    "(select group_concat(a) from (select a from t order by b desc, a limit 5));";
  assert.equal(await run(`sqlite3 :memory: '${fill} ${query}'`), wanted);
  const script = `import sqlite3; d = sqlite3.connect(":memory:"); d.executescript("${fill}"); print(*d.execute("${query}").fetchone(), sep="|")`;
  assert.equal(await run(`python3 -I -S -c '${script}'`), wanted);
});

test("the guest powers off after its work", async () => {
  guest.type("exit\n");
  assert.deepEqual(await guest.end(), { kind: "power-off" });
  assert.doesNotMatch(guest.text, /traps:|segfault|general protection|Oops|BUG:/);
});
