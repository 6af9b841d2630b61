/** A request and its answer as the API's code sees them; http-listener.ts makes them from Node's and back. */

export interface ApiRequest {
  readonly method: string;
  /** Without its query; escapes as they were sent. */
  readonly path: string;
  /** What follows the question mark; empty where there is none. */
  readonly query: string;
  /** By name in lower case. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** Read at most once; who stops in the middle leaves the rest to the listener. */
  readonly body: () => AsyncIterable<Uint8Array>;
  /** Whether it came by the Unix socket. */
  readonly local: boolean;
  readonly address: string;
}

export interface ApiAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Null: none. */
  readonly body: string | Uint8Array | ReadableStream<Uint8Array> | null;
}

/** One header's text; empty where it is not there. */
export function header({ headers }: ApiRequest, name: string): string {
  const value = headers[name] ?? "";
  return typeof value === "string" ? value : value.join(", ");
}
