import assert from "node:assert/strict";
import { test } from "node:test";
import type { ControlCommand } from "./control-protocol.ts";
import { readControlRequest } from "./control-request.ts";

const COMMANDS: readonly ControlCommand[] = [
  { do: "hello", secret: "s" },
  { do: "watch" },
  { do: "report" },
  { do: "pause" },
  { do: "resume" },
  { do: "reset" },
  { do: "stop", graceMs: 0 },
  { do: "kill" },
  { do: "budget", processors: 0.5 },
  { do: "budget", processors: null },
  { do: "settings", rebootOnReset: true },
  { do: "screen" },
  { do: "keys", codes: [0, 255] },
  { do: "console", replayBytes: 10 },
];

test("every command is taken as it is", () => {
  for (const command of COMMANDS) assert.deepEqual(readControlRequest({ ...command, id: 3 }), { ...command, id: 3 });
});

test("what is no request is refused, whatever it is", () => {
  const wrong: readonly unknown[] = [
    undefined,
    null,
    7,
    "watch",
    [],
    {},
    { do: "watch" },
    { do: "watch", id: 0.5 },
    { do: "nothing", id: 1 },
    { do: "constructor", id: 1 },
    { do: "__proto__", id: 1 },
    { do: ["watch"], id: 1 },
    { do: "hello", id: 1 },
    { do: "hello", id: 1, secret: ["s"] },
    { do: "stop", id: 1, graceMs: -1 },
    { do: "stop", id: 1, graceMs: Number.NaN },
    { do: "budget", id: 1 },
    { do: "budget", id: 1, processors: 0 },
    { do: "settings", id: 1, rebootOnReset: 1 },
    { do: "keys", id: 1, codes: "abc" },
    { do: "keys", id: 1, codes: [256] },
    { do: "keys", id: 1, codes: new Array(1025).fill(0) },
    { do: "console", id: 1, replayBytes: "all" },
  ];
  for (const message of wrong) assert.equal(readControlRequest(message), undefined, JSON.stringify(message));
});
