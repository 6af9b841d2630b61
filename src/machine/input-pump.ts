/**
 * Moves input to the guest's serial port at the pace of the guest: what `write` does not take waits in a queue, and the
 * source is held while the queue is long.
 */

/** Queued bytes at which the source is asked to pause; small, since it is only input that the guest has not read. */
const HIGH_WATER_BYTES = 64 * 1024;

export interface InputSink {
  write(bytes: Uint8Array): number;
  onInputSpace(listener: () => void): void;
}

export interface InputPumpOptions {
  /** Called with true when the queue is full, with false when it is empty again. */
  readonly hold: (held: boolean) => void;
}

export class InputPump {
  readonly #options: InputPumpOptions;
  #sink: InputSink | undefined;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #held = false;
  #draining = false;

  constructor(options: InputPumpOptions) {
    this.#options = options;
  }

  /** Sends to `sink` from now on, queued bytes first: after a reset, to the next VM. */
  attach(sink: InputSink): void {
    this.#sink = sink;
    sink.onInputSpace(() => {
      if (this.#sink === sink) this.#drain();
    });
    this.#drain();
  }

  /** Keeps input until the next `attach`. */
  detach(): void {
    this.#sink = undefined;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** What waits: a copy. */
  queued(): Uint8Array {
    const all = new Uint8Array(this.#queuedBytes);
    let at = 0;
    for (const bytes of this.#queue) {
      all.set(bytes, at);
      at += bytes.length;
    }
    return all;
  }

  /** Whether more input would only pile up. */
  get full(): boolean {
    return this.#queuedBytes >= HIGH_WATER_BYTES;
  }

  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    this.#drain();
    if (this.full && !this.#held) {
      this.#held = true;
      this.#options.hold(true);
    }
  }

  #drain(): void {
    const sink = this.#sink;
    // A sink may report space from within `write`; the loop below goes on anyway.
    if (sink === undefined || this.#draining) return;
    this.#draining = true;
    try {
      for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
        const taken = sink.write(first);
        this.#queuedBytes -= taken;
        if (taken < first.length) {
          this.#queue[0] = first.subarray(taken);
          return;
        }
        this.#queue.shift();
      }
    } finally {
      this.#draining = false;
    }
    if (this.#held) {
      this.#held = false;
      this.#options.hold(false);
    }
  }
}
