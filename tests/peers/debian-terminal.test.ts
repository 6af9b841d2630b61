/** A person at a terminal with Debian in it: keys reach the guest, Ctrl-C its programs, Ctrl-A isola. Needs script(1). */

import assert from "node:assert/strict";
import { test } from "node:test";
import { GuestProcess } from "../guests/guest.ts";

const PROMPT = /root@debian:[^\n]*# /;
/** How BusyBox asks where the cursor is; a terminal answers with ESC [ row ; column R. */
const CURSOR_QUESTION = /\[6n/;

function onTerminal(): GuestProcess {
  return new GuestProcess(["run", "debian", "--append", "quiet"], process.env, true);
}

test("a session: help, Ctrl-C, an editor, power-off", async () => {
  await using isola = onTerminal();
  await isola.expect(/isola: 256M of memory; Ctrl-A x leaves, Ctrl-A h helps\r\n/);
  await isola.expect(PROMPT);
  await isola.expect(CURSOR_QUESTION);
  isola.type("\x1b[20;16R");
  isola.type("\x01h");
  await isola.expect(/Ctrl-A Ctrl-A {2}send Ctrl-A to the guest\r\n/);
  isola.type("sh -c 'echo run''ning; exec sleep 1000'\r");
  await isola.expect(/\nrunning\r\n/);
  isola.type("\x03");
  await isola.expect(PROMPT);
  isola.type("echo status $?\r");
  await isola.expect(/\nstatus 130\r\n/);
  await isola.expect(PROMPT);
  isola.type("vi /etc/issue\r");
  await isola.expect(/Debian's kernel with a BusyBox shell/);
  isola.type(":q\r");
  await isola.expect(PROMPT);
  isola.type("exit\r");
  assert.equal((await isola.end()).status, 0);
});

test("Ctrl-A x leaves a busy guest at once", async () => {
  await using isola = onTerminal();
  await isola.expect(PROMPT);
  isola.type("while :; do :; done\r");
  await isola.expect(/done\r\n/);
  isola.type("\x01x");
  await isola.expect(/isola: the guest was switched off\r\n/);
  assert.equal((await isola.end()).status, 0);
});
