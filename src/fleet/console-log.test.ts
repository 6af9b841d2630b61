import assert from "node:assert/strict";
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ConsoleHistory } from "./console-history.ts";
import { ConsoleLogWriter, readConsoleLog } from "./console-log.ts";

const folder = mkdtempSync(join(tmpdir(), "isola-log-"));
after(() => rmSync(folder, { recursive: true }));
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);

test("a log keeps the last bytes over reopening, and its file stays bounded", () => {
  const path = join(folder, "log");
  let all = "";
  for (let round = 0; round < 50; round++) {
    const fd = openSync(path, round === 0 ? "w+" : "r+");
    const log = new ConsoleLogWriter(fd, 100);
    for (const part of [`round ${round}\n`, "x".repeat(round), ""]) {
      log.add(bytes(part));
      all += part;
      assert.equal(text(readConsoleLog(path)), all.slice(-100));
      assert.equal(text(readConsoleLog(path, 7)), all.slice(-7));
    }
    log.add(bytes("y".repeat(250)));
    all += "y".repeat(250);
    closeSync(fd);
  }
  assert.equal(text(readConsoleLog(path)), "y".repeat(100));
  assert.equal(statSync(path).size, 164);
});

test("what is no log reads as nothing, and is begun anew", () => {
  const path = join(folder, "other");
  assert.equal(readConsoleLog(join(folder, "none")).length, 0);
  writeFileSync(path, "something else that is long enough to be taken for a header, and then some");
  assert.equal(readConsoleLog(path).length, 0);
  const header = new DataView(new ArrayBuffer(64));
  header.setBigUint64(0, 0x676f_6c61_6c6f_7369n, true);
  header.setBigUint64(8, 2n ** 60n, true);
  writeFileSync(path, header);
  assert.equal(readConsoleLog(path).length, 0);
  const fd = openSync(path, "r+");
  new ConsoleLogWriter(fd).add(bytes("new"));
  closeSync(fd);
  assert.equal(text(readConsoleLog(path)), "new");
});

test("the history gives any stretch that it keeps", () => {
  const history = new ConsoleHistory(10);
  let all = "";
  for (const part of ["abc", "defgh", "ijklmnopqrstuvwxyz", "", "0", "123456789"]) {
    history.add(bytes(part));
    all += part;
    assert.equal(history.end, all.length);
    for (let from = history.start; from <= history.end; from++) {
      assert.equal(text(history.read(from, 4)), all.slice(from, from + 4));
    }
  }
});
