/** Streams that are pushed into, with a bound: a reader that does not keep up is cut off, and costs no more memory. */

export interface Sink {
  /** Bytes go out in order; what is pushed after the end is dropped. */
  push(bytes: Uint8Array | string): void;
  /** How much may be pushed before the reader counts as too slow, in bytes. */
  readonly room: number;
  /** Resolves when the reader has taken most of what was pushed, or is gone. */
  drained(): Promise<void>;
  end(): void;
}

const encoder = new TextEncoder();

/**
 * A stream for a response. `open` is called once and gives what to do when the stream is over, whoever ended it. More
 * than `limitBytes` unread cuts the reader off.
 */
export function pushStream(limitBytes: number, open: (sink: Sink) => () => void): ReadableStream<Uint8Array> {
  let cleanUp: () => void = () => undefined;
  let over = false;
  let waiting: (() => void)[] = [];
  const wake = (): void => {
    for (const resolve of waiting) resolve();
    waiting = [];
  };
  const finish = (): void => {
    if (over) return;
    over = true;
    wake();
    cleanUp();
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const sink: Sink = {
          push(bytes) {
            if (over) return;
            controller.enqueue(typeof bytes === "string" ? encoder.encode(bytes) : bytes);
            if ((controller.desiredSize ?? 0) > 0) return;
            finish();
            controller.error(new Error(`the reader left more than ${limitBytes} bytes unread`));
          },
          get room() {
            return over ? 0 : (controller.desiredSize ?? 0);
          },
          drained: async () => {
            if (over || (controller.desiredSize ?? 0) > limitBytes / 2) return;
            await new Promise<void>((resolve) => waiting.push(resolve));
          },
          end() {
            if (over) return;
            finish();
            controller.close();
          },
        };
        cleanUp = open(sink);
        // It may have ended from within `open`.
        if (over) cleanUp();
      },
      pull: wake,
      cancel: finish,
    },
    new ByteLengthQueuingStrategy({ highWaterMark: limitBytes }),
  );
}
