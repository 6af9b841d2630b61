/** The VM's end of its control socket: who knows the secret steers the VM and watches its console. */

import { timingSafeEqual } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { paintedRows } from "../machine/painted-screen.ts";
import { screenLines } from "../machine/vm-contract.ts";
import { ConsoleHistory } from "./console-history.ts";
import type { ControlRequest, Screen, VmReport } from "./control-protocol.ts";
import { readControlRequest } from "./control-request.ts";
import {
  decodeMessage,
  encodeFrame,
  encodeMessage,
  FRAME,
  type Frame,
  FrameReader,
  MAX_FRAME_BYTES,
} from "./frames.ts";
import type { VmRunner } from "./vm-runner.ts";

/** What a watcher can fall behind, and the most that is replayed. */
const HISTORY_BYTES = 256 * 1024;
const CHUNK_BYTES = 64 * 1024;
const MAX_CONNECTIONS = 128;
/** Of whoever has not said `hello` yet. */
const HELLO_BYTES = 512;
const HELLO_MS = 5000;

interface Peer {
  readonly socket: Socket;
  readonly reader: FrameReader;
  known: boolean;
  /** Gets notices. */
  watching: boolean;
  /** Offset of the next console byte to send; undefined on a control connection. */
  position: number | undefined;
}

export class ControlServer {
  readonly #server: Server;
  readonly #peers = new Set<Peer>();
  readonly #secret: Buffer;
  readonly #runner: VmRunner;
  readonly #history = new ConsoleHistory(HISTORY_BYTES);

  constructor(secret: string, runner: VmRunner) {
    this.#secret = Buffer.from(secret);
    this.#runner = runner;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  async listen(where: { readonly fd: number } | { readonly path: string }): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#server.once("error", reject);
    this.#server.listen(where, resolve);
    await promise;
    this.#server.off("error", reject);
  }

  /** Sends what is left to watchers that read, at most for `ms`, and closes every connection. */
  async close(ms: number): Promise<void> {
    this.#server.close();
    const ends = [...this.#peers].map(async ({ socket }) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      socket.end(resolve);
      await promise;
    });
    await Promise.race([Promise.all(ends), new Promise((resolve) => setTimeout(resolve, ms))]);
    for (const { socket } of this.#peers) socket.destroy();
  }

  output(bytes: Uint8Array): void {
    this.#history.add(bytes);
    for (const peer of this.#peers) this.#flush(peer);
  }

  notify(report: VmReport): void {
    const frame = encodeMessage({ notice: report });
    // A server that does not read gets no more than what its socket holds; the next notice tells all again.
    for (const { socket, watching } of this.#peers) if (watching && !socket.writableNeedDrain) socket.write(frame);
  }

  holdInput(held: boolean): void {
    for (const { socket, position } of this.#peers) {
      if (position === undefined) continue;
      if (held) socket.pause();
      else socket.resume();
    }
  }

  #accept(socket: Socket): void {
    if (this.#peers.size >= MAX_CONNECTIONS) {
      socket.destroy();
      return;
    }
    const peer: Peer = {
      socket,
      reader: new FrameReader(HELLO_BYTES),
      known: false,
      watching: false,
      position: undefined,
    };
    this.#peers.add(peer);
    const timer = setTimeout(() => {
      if (!peer.known) socket.destroy();
    }, HELLO_MS);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      clearTimeout(timer);
      this.#peers.delete(peer);
    });
    socket.on("drain", () => this.#flush(peer));
    socket.on("data", (bytes: Buffer) => {
      const frames = peer.reader.push(bytes);
      if (frames === undefined) {
        socket.destroy();
        return;
      }
      for (const frame of frames) this.#take(peer, frame);
    });
  }

  #take(peer: Peer, frame: Frame): void {
    if (peer.socket.destroyed) return;
    if (frame.kind === FRAME.console && peer.position !== undefined) {
      this.#runner.type(frame.body);
      return;
    }
    const request = readControlRequest(decodeMessage(frame));
    if (request === undefined || (!peer.known && request.do !== "hello")) {
      peer.socket.destroy();
      return;
    }
    void this.#answer(peer, request);
  }

  async #answer(peer: Peer, request: ControlRequest): Promise<void> {
    const { socket } = peer;
    const { id } = request;
    try {
      if (!(await this.#perform(peer, request))) {
        socket.destroy();
        return;
      }
      const screen = request.do === "screen" ? { screen: this.#screen() } : {};
      socket.write(encodeMessage({ id, ok: this.#runner.report(), ...screen }));
      if (request.do === "console") {
        const { end, start } = this.#history;
        peer.position = Math.max(start, end - request.replayBytes);
        this.#flush(peer);
      }
    } catch (error) {
      socket.write(encodeMessage({ id, error: error instanceof Error ? error.message : String(error) }));
    }
  }

  #screen(): Screen | null {
    const screen = this.#runner.screen();
    if (screen === undefined) return null;
    const { columns, rows, cursor = null } = screen;
    return { columns, rows, lines: screenLines(screen), painted: paintedRows(screen), cursor };
  }

  /** False where the peer is not who it says. */
  async #perform(peer: Peer, request: ControlRequest): Promise<boolean> {
    const runner = this.#runner;
    switch (request.do) {
      case "hello": {
        const secret = Buffer.from(request.secret);
        peer.known = secret.length === this.#secret.length && timingSafeEqual(secret, this.#secret);
        if (peer.known) peer.reader.limitBytes = MAX_FRAME_BYTES;
        return peer.known;
      }
      case "watch":
        peer.watching = true;
        break;
      case "pause":
        await runner.pause();
        break;
      case "resume":
        runner.resume();
        break;
      case "reset":
        runner.reset();
        break;
      case "stop":
        runner.stop(request.graceMs);
        break;
      case "kill":
        runner.kill("killed on request");
        break;
      case "save":
        await runner.save();
        break;
      case "budget":
        runner.setBudget(request.processors);
        break;
      case "settings":
        runner.rebootOnReset = request.rebootOnReset;
        break;
      case "keys":
        runner.pressKeys(new Uint8Array(request.codes));
        break;
      case "report":
      case "screen":
      case "console":
        break;
    }
    return true;
  }

  /** Gives a watcher what it has not had yet, as far as its socket takes it. */
  #flush(peer: Peer): void {
    const { socket } = peer;
    if (peer.position === undefined) return;
    while (!socket.destroyed && !socket.writableNeedDrain && peer.position < this.#history.end) {
      const { start } = this.#history;
      if (peer.position < start) {
        socket.write(encodeMessage({ gap: start - peer.position }));
        peer.position = start;
      }
      const bytes = this.#history.read(peer.position, CHUNK_BYTES);
      peer.position += bytes.length;
      socket.write(encodeFrame(FRAME.console, bytes));
    }
  }
}
