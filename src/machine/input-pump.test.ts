import assert from "node:assert/strict";
import { test } from "node:test";
import { InputPump } from "./input-pump.ts";

/** A receiver that takes `room` bytes and no more until told. */
class Receiver {
  readonly taken: number[] = [];
  room = 0;
  #listener: () => void = () => undefined;

  write(bytes: Uint8Array): number {
    const count = Math.min(this.room, bytes.length);
    this.taken.push(...bytes.subarray(0, count));
    this.room -= count;
    return count;
  }

  onInputSpace(listener: () => void): void {
    this.#listener = listener;
  }

  give(room: number): void {
    this.room += room;
    this.#listener();
  }
}

const sequence = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, index) => from + index);

test("bytes arrive in order, at the receiver's pace, none lost", () => {
  const receiver = new Receiver();
  const pump = new InputPump({ hold: () => undefined });
  pump.push(Uint8Array.from(sequence(0, 10)));
  pump.attach(receiver);
  pump.push(Uint8Array.from(sequence(10, 30)));
  assert.deepEqual(receiver.taken, []);
  receiver.give(3);
  assert.deepEqual(receiver.taken, sequence(0, 3));
  receiver.give(20);
  assert.equal(pump.queuedBytes, 7);
  receiver.give(20);
  assert.deepEqual(receiver.taken, sequence(0, 30));
  assert.equal(pump.queuedBytes, 0);
});

test("the source is held once while the queue is long, and released when it is empty", () => {
  const receiver = new Receiver();
  const holds: boolean[] = [];
  const pump = new InputPump({ hold: (held) => holds.push(held) });
  pump.attach(receiver);
  pump.push(new Uint8Array(40_000));
  assert.deepEqual(holds, []);
  assert.equal(pump.full, false);
  pump.push(new Uint8Array(40_000));
  pump.push(new Uint8Array(1));
  assert.deepEqual(holds, [true]);
  assert.equal(pump.full, true);
  receiver.give(80_000);
  assert.deepEqual(holds, [true]);
  receiver.give(1);
  assert.deepEqual(holds, [true, false]);
});

test("what one machine did not take goes to the next; the former has no say any more", () => {
  const first = new Receiver();
  const second = new Receiver();
  const pump = new InputPump({ hold: () => undefined });
  pump.attach(first);
  pump.push(Uint8Array.from([1, 2, 3]));
  first.give(1);
  pump.detach();
  first.give(5);
  assert.deepEqual(first.taken, [1]);
  pump.attach(second);
  first.give(5);
  assert.deepEqual(first.taken, [1]);
  second.give(5);
  assert.deepEqual(second.taken, [2, 3]);
});

test("a receiver that reports space from within a write gets each byte once", () => {
  const taken: number[] = [];
  let listener: () => void = () => undefined;
  const pump = new InputPump({ hold: () => undefined });
  pump.attach({
    write(bytes) {
      const [first] = bytes;
      if (first !== undefined) taken.push(first);
      if (taken.length < 5) listener();
      return Math.min(1, bytes.length);
    },
    onInputSpace(next) {
      listener = next;
    },
  });
  pump.push(Uint8Array.from(sequence(0, 5)));
  for (let i = 0; i < 5; i += 1) listener();
  assert.deepEqual(taken, sequence(0, 5));
});
