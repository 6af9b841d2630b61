/** The server's end of a VM's control socket. */

import { createConnection, type Socket } from "node:net";
import type { ConsoleAttachment, ConsoleListener } from "./contract.ts";
import { controlAnswerSchema } from "./control-answers.ts";
import type { ControlCommand, Screen, VmReport } from "./control-protocol.ts";
import { FleetError } from "./fleet-error.ts";
import { decodeMessage, encodeFrame, encodeMessage, FRAME, type Frame, FrameReader } from "./frames.ts";

const ANSWER_MS = 15_000;
/** A guest of 4 GiB, on a busy host. */
const SAVE_MS = 600_000;
const INPUT_CHUNK_BYTES = 64 * 1024;

interface Waiting {
  readonly resolve: (answer: { ok: VmReport; screen?: Screen | null | undefined }) => void;
  readonly reject: (error: FleetError) => void;
}

const unreachable = (message: string, cause?: unknown): FleetError =>
  new FleetError({ code: "vm-unreachable", message, cause });

/** One connection, its secret said. Everything that arrives is the VM process's, which may be in a guest's hands. */
export class VmControl {
  readonly #socket: Socket;
  readonly #name: string;
  readonly #answerMs: number;
  readonly #reader = new FrameReader();
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #closed = false;
  #notice: (report: VmReport) => void = () => undefined;
  #console: ((frame: Frame) => void) | undefined;
  readonly #onClose: (() => void)[] = [];

  private constructor(socket: Socket, name: string, answerMs: number) {
    this.#socket = socket;
    this.#name = name;
    this.#answerMs = answerMs;
    socket.on("data", (bytes: Buffer) => {
      const frames = this.#reader.push(bytes);
      if (frames === undefined) socket.destroy();
      for (const frame of frames ?? []) this.#take(frame);
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      this.#closed = true;
      for (const { reject } of this.#waiting.values()) reject(unreachable(`the process of ${name} has gone`));
      this.#waiting.clear();
      for (const listener of this.#onClose) listener();
    });
  }

  /** Connects and says the secret; `answerMs` is how long one answer is awaited. @throws FleetError `vm-unreachable` */
  static async open(path: string, name: string, secret: string, answerMs = ANSWER_MS): Promise<VmControl> {
    const socket = createConnection(path);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.once("connect", resolve);
    socket.once("error", (cause) =>
      reject(unreachable(`cannot reach the process of ${name}: ${cause.message}`, cause)),
    );
    await promise;
    const control = new VmControl(socket, name, answerMs);
    try {
      await control.request({ do: "hello", secret });
      return control;
    } catch (error) {
      control.close();
      throw error;
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** @throws FleetError `vm-unreachable`; `illegal-transition` where the VM's process refuses */
  async request(command: ControlCommand): Promise<VmReport> {
    return (await this.#ask(command)).ok;
  }

  /** What the guest's VGA shows; null in graphics. */
  async screen(): Promise<Screen | null> {
    return (await this.#ask({ do: "screen" })).screen ?? null;
  }

  async #ask(command: ControlCommand): Promise<{ ok: VmReport; screen?: Screen | null | undefined }> {
    if (this.#closed) throw unreachable(`the process of ${this.#name} has gone`);
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<Parameters<Waiting["resolve"]>[0]>();
    const patience = command.do === "save" ? SAVE_MS : this.#answerMs;
    const timer = setTimeout(() => {
      this.#waiting.delete(id);
      reject(
        unreachable(`the process of ${this.#name} did not answer "${command.do}" within ${patience / 1000} s; kill it`),
      );
    }, patience);
    this.#waiting.set(id, { resolve, reject });
    this.#socket.write(encodeMessage({ id, ...command }));
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Notices from now on. Returns the state at their beginning. */
  async watch(listener: (report: VmReport) => void): Promise<VmReport> {
    this.#notice = listener;
    return await this.request({ do: "watch" });
  }

  onClose(listener: () => void): void {
    if (this.#closed) listener();
    else this.#onClose.push(listener);
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Lets the process end while this connection is open. */
  unref(): void {
    this.#socket.unref();
  }

  #take(frame: Frame): void {
    if (frame.kind === FRAME.console) {
      this.#console?.(frame);
      return;
    }
    const parsed = controlAnswerSchema.safeParse(decodeMessage(frame));
    if (!parsed.success) {
      this.#socket.destroy();
      return;
    }
    const answer = parsed.data;
    if ("gap" in answer) this.#console?.(frame);
    else if ("notice" in answer) this.#notice(answer.notice);
    else {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if ("ok" in answer) waiting?.resolve(answer);
      else waiting?.reject(new FleetError({ code: "illegal-transition", message: `${this.#name}: ${answer.error}` }));
    }
  }

  /** Makes this connection a console. */
  async console(listener: ConsoleListener, replayBytes: number): Promise<ConsoleAttachment> {
    const socket = this.#socket;
    let last: Promise<void> = Promise.resolve();
    let pending = 0;
    const deliver = (frame: Frame): Promise<void> | void => {
      if (frame.kind === FRAME.console) return listener.onData(frame.body);
      const message = decodeMessage(frame) as { gap?: number } | undefined;
      if (message?.gap !== undefined) listener.onGap?.(message.gap);
    };
    // One after the other; while one is pending the socket is held, and with it the VM's process keeps the rest.
    this.#console = (frame) => {
      pending++;
      socket.pause();
      last = last
        .then(() => deliver(frame))
        .catch(() => {
          socket.destroy();
        })
        .finally(() => {
          if (--pending === 0) socket.resume();
        });
    };
    let detached = false;
    this.onClose(() => void last.then(() => listener.onEnd(detached ? "detached" : "the VM has ended")));
    await this.request({ do: "console", replayBytes });
    return {
      async write(bytes) {
        for (let at = 0; at < bytes.length; at += INPUT_CHUNK_BYTES) {
          const { promise, resolve, reject } = Promise.withResolvers<void>();
          const frame = encodeFrame(FRAME.console, bytes.subarray(at, at + INPUT_CHUNK_BYTES));
          socket.write(frame, (error) => {
            if (error) reject(unreachable(`cannot type: ${error.message}`));
            else resolve();
          });
          await promise;
        }
      },
      close() {
        detached = true;
        socket.destroy();
      },
    };
  }
}
