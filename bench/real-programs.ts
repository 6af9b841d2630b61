/**
 * Real programs as Debian's packages install them, with work whose output is the same everywhere. Paths are the host's,
 * and the guest finds the files at the same ones.
 */

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export interface RealProgram {
  readonly name: string;
  /** Shell commands; what they print is hashed. */
  readonly command: string;
}

const PYTHON = `
def primes(n):
    found = []
    for i in range(2, n):
        for p in found:
            if p * p > i:
                found.append(i)
                break
            if i % p == 0:
                break
        else:
            found.append(i)
    return found
words = {}
for i in primes(5000):
    word = hex(i * 7919)[2:]
    words[word[-2:]] = words.get(word[-2:], 0) + len(word)
text = " ".join(sorted(f"{word}={count}" for word, count in words.items()))
print(len(text), sum(ord(c) * i for i, c in enumerate(text)) % 1000003)
class Node:
    def __init__(self, depth):
        self.left = Node(depth - 1) if depth else None
        self.right = Node(depth - 1) if depth else None
    def count(self):
        return 1 + (self.left.count() if self.left else 0) + (self.right.count() if self.right else 0)
print(Node(9).count(), pow(3, 10 ** 2000, 10 ** 300 + 7) % 1000003)
`;

const SQL = `
create table t(id integer primary key, word text, n integer);
with recursive c(i) as (select 1 union all select i + 1 from c where i < 2500)
  insert into t(word, n) select printf('%x', i * 7919 % 65521), i * 31 % 1009 from c;
create index by_n on t(n);
select count(*), sum(length(word)), min(word), max(word) from t;
select a.n, count(*), group_concat(substr(b.word, 1, 1), '') from t a join t b on a.n = b.n where a.n < 60 group by a.n;
update t set word = upper(word) where n % 3 = 0;
delete from t where n % 7 = 0;
select count(*), sum(n) from t where word like '%A%';
`;

/** A C program after the preprocessor, in the folder where the programs run. */
export const PREPROCESSED = "program.i";

/** Runs gcc to ask for its compiler proper. */
export function realPrograms(): readonly RealProgram[] {
  return [
    { name: "gzip", command: "/usr/bin/gzip -n -c numbers" },
    { name: "xz", command: "/usr/bin/xz -T1 -1 -c numbers" },
    { name: "sha256", command: "/usr/bin/sha256sum big" },
    {
      name: "aes",
      command:
        "/usr/bin/openssl enc -aes-128-ctr -K 000102030405060708090a0b0c0d0e0f -iv 0f0e0d0c0b0a09080706050403020100 <big",
    },
    {
      name: "shell",
      command: "i=0; s=0; while [ $i -lt 4000 ]; do s=$(((s * 31 + i) % 65521)); i=$((i + 1)); done; echo $s",
    },
    { name: "python", command: `/usr/bin/python3 -I -S -B -c '${PYTHON}'` },
    { name: "sqlite", command: `/usr/bin/sqlite3 :memory: '${SQL.replaceAll("'", "'\\''")}'` },
    { name: "compiler", command: `${compilerPath()} -quiet -O1 -fpreprocessed ${PREPROCESSED} -o -` },
  ];
}

/** What the programs work on. */
export const REAL_PREPARATION: readonly string[] = [
  "seq 1 60000 >numbers",
  "for i in 1 2 3 4 5 6; do cat numbers; done >big",
];

/** What gcc runs to compile C. */
export function compilerPath(): string {
  return execFileSync("gcc", ["-print-prog-name=cc1"], { encoding: "utf8" }).trim();
}

/** A C program after the preprocessor. */
export function preprocessedProgram(): string {
  const source = fileURLToPath(new URL("guest/integer.c", import.meta.url));
  return execFileSync("gcc", ["-E", "-P", source], { encoding: "utf8" });
}
