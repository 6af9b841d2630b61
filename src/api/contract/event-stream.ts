/** Server-sent events: both sides of the form in which they are written. [WHATWG HTML §9.2.6] */

export interface SentEvent {
  readonly id?: string;
  readonly event?: string;
  /** JSON. */
  readonly data: unknown;
}

/** One event as text; JSON holds no raw line break, so one data line is enough. */
export function formatEvent({ id, event, data }: SentEvent): string {
  const head = `${id === undefined ? "" : `id: ${id}\n`}${event === undefined ? "" : `event: ${event}\n`}`;
  return `${head}data: ${JSON.stringify(data)}\n\n`;
}

/** A line that carries nothing: keeps a silent stream from looking dead to what lies between. */
export const HEARTBEAT = ": still here\n\n";

/** A line longer than this, in characters, is no event of isola's. */
const LINE_LIMIT = 1 << 22;

/** The data of each event of a stream, parsed. Ends with the stream; leaving the loop cancels it. */
export async function* eventLines<T>(stream: ReadableStream<Uint8Array>): AsyncGenerator<T> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > LINE_LIMIT) throw new Error(`an event of more than ${LINE_LIMIT} characters`);
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (line === "" && data.length > 0) {
          yield JSON.parse(data.join("\n")) as T;
          data = [];
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
