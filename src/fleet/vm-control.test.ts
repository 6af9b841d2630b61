import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { VmControl } from "./vm-control.ts";

test("a process that takes a connection and does not answer is given up, and the connection closed", async () => {
  const folder = await mkdtemp(join(tmpdir(), "isola-control-"));
  const path = join(folder, "control");
  const server = createServer().listen(path);
  try {
    await once(server, "listening");
    const connected = once(server, "connection") as Promise<[Socket]>;
    await assert.rejects(VmControl.open(path, "one", "secret", 50), {
      code: "vm-unreachable",
      message: 'the process of one did not answer "hello" within 0.05 s; kill it',
    });
    const [socket] = await connected;
    socket.resume();
    if (!socket.readableEnded) await once(socket, "end");
  } finally {
    server.close();
    await rm(folder, { recursive: true });
  }
});
