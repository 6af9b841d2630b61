/**
 * The signals by which a person or a system asks a program to end.
 */
import process from "node:process";

const END_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
export type EndSignal = (typeof END_SIGNALS)[number];

/**
 * Hands each such signal to `hear` instead of ending the process by it.
 *
 * @returns what gives them back their own effect; it may be called more than once
 */
export function hearEndSignals(hear: (signal: EndSignal) => void): () => void {
  const handlers = END_SIGNALS.map((signal) => [signal, () => hear(signal)] as const);
  for (const [signal, handler] of handlers) process.on(signal, handler);
  return () => {
    for (const [signal, handler] of handlers) process.off(signal, handler);
  };
}
