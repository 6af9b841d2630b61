import assert from "node:assert/strict";
import { PassThrough, Writable } from "node:stream";
import { test } from "node:test";
import { Terminal, type TerminalStreams } from "./terminal.ts";

/** Streams as of a terminal (or not), whose raw mode and output can be looked at. */
function fakeStreams(isTTY: boolean) {
  const modes: boolean[] = [];
  const output: Buffer[] = [];
  const notes: Buffer[] = [];
  const collect = (into: Buffer[]): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        into.push(chunk);
        done();
      },
    });
  const stdin = Object.assign(new PassThrough(), { isTTY, setRawMode: (raw: boolean) => modes.push(raw) });
  const streams = { stdin, stdout: collect(output), stderr: collect(notes) } as unknown as TerminalStreams;
  return {
    streams,
    stdin,
    modes,
    text: () => Buffer.concat(output).toString(),
    notes: () => Buffer.concat(notes).toString(),
  };
}

/** A receiver with room for `room` bytes. */
function receiver(room = Number.POSITIVE_INFINITY) {
  const taken: number[] = [];
  return {
    taken,
    write(bytes: Uint8Array): number {
      const count = Math.min(bytes.length, room - taken.length);
      taken.push(...bytes.subarray(0, count));
      return count;
    },
    onInputSpace: () => undefined,
  };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const quiet = { leave: () => undefined, outputFailed: () => undefined };

test("a terminal is raw from open to close, and closing twice does no harm", () => {
  const { streams, modes } = fakeStreams(true);
  const before = process.listenerCount("exit");
  const terminal = new Terminal(streams, quiet);
  terminal.open();
  assert.deepEqual(modes, [true]);
  assert.equal(process.listenerCount("exit"), before + 1);
  terminal.close();
  terminal.close();
  assert.deepEqual(modes, [true, false]);
  assert.equal(process.listenerCount("exit"), before);
});

test("a process that exits with its terminal open restores it", () => {
  const { streams, modes } = fakeStreams(true);
  const before = process.listeners("exit");
  new Terminal(streams, quiet).open();
  const [hook] = process.listeners("exit").filter((listener) => !before.includes(listener));
  hook?.call(process, 0);
  assert.deepEqual(modes, [true, false]);
});

test("a terminal whose mode cannot be set, because it is gone, is no failure", () => {
  const { streams } = fakeStreams(true);
  Object.assign(streams.stdin, {
    setRawMode() {
      throw new Error("EIO");
    },
  });
  const terminal = new Terminal(streams, quiet);
  terminal.open();
  terminal.close();
});

test("typed keys reach the guest, the escape key isola", async () => {
  const { streams, stdin, notes } = fakeStreams(true);
  let left = 0;
  const terminal = new Terminal(streams, { ...quiet, leave: () => (left += 1) });
  const guest = receiver();
  terminal.open();
  terminal.attach(guest);
  stdin.write("ab\x01hc\x01\x01\x01x");
  await settle();
  terminal.close();
  assert.deepEqual(guest.taken, [...Buffer.from("abc\x01")]);
  assert.equal(left, 1);
  assert.match(notes(), /Ctrl-A x {7}leave/);
});

test("Ctrl-A x works though the guest reads nothing, and what it will never read is refused with a bell", async () => {
  const { streams, stdin, notes } = fakeStreams(true);
  let left = 0;
  const terminal = new Terminal(streams, { ...quiet, leave: () => (left += 1) });
  terminal.open();
  terminal.attach(receiver(0));
  for (let i = 0; i < 20; i += 1) stdin.write(Buffer.alloc(8192, 0x61));
  stdin.write("\x01x");
  await settle();
  terminal.close();
  assert.equal(left, 1);
  assert.ok(notes().includes("\x07"));
});

test("without a terminal every byte is the guest's, and the source waits for it", async () => {
  const { streams, stdin, modes } = fakeStreams(false);
  const terminal = new Terminal(streams, quiet);
  terminal.open();
  terminal.attach(receiver(4));
  stdin.write("\x01x\x01h");
  await settle();
  assert.equal(stdin.isPaused(), false);
  stdin.write(Buffer.alloc(100_000));
  await settle();
  assert.equal(stdin.isPaused(), true);
  terminal.close();
  assert.deepEqual(modes, []);
});

test("output waits for a slow reader, and goes on when the reader fails", async () => {
  const { streams } = fakeStreams(false);
  let release: () => void = () => undefined;
  const slow = new Writable({
    highWaterMark: 1,
    write(_chunk, _encoding, done) {
      release = () => done();
    },
  });
  const failures: Error[] = [];
  const terminal = new Terminal(
    { ...streams, stdout: slow as unknown as NodeJS.WriteStream },
    { ...quiet, outputFailed: (error) => failures.push(error) },
  );
  terminal.open();
  const first = terminal.write(Buffer.from("abc"));
  assert.ok(first instanceof Promise);
  let done = false;
  void first.then(() => (done = true));
  await settle();
  assert.equal(done, false);
  release();
  await settle();
  assert.equal(done, true);
  const second = terminal.write(Buffer.from("def"));
  slow.destroy(new Error("EPIPE"));
  await second;
  assert.deepEqual(
    failures.map(({ message }) => message),
    ["EPIPE"],
  );
  assert.equal(terminal.write(Buffer.from("ghi")), undefined);
  terminal.close();
});
