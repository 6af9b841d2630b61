/** Work that leaves nothing behind when the process is told to end, by SIGINT or SIGTERM. */

import { IsolaError } from "../src/base/errors.ts";

/**
 * Runs `work`, whose signal is aborted when the process is told to end. `release` runs in any case, and again once `work`
 * has settled, for what was being started meanwhile.
 * @throws IsolaError `bench-interrupted`
 */
export async function untilTold<T>(
  work: (signal: AbortSignal) => Promise<T>,
  release: () => Promise<void>,
): Promise<T> {
  const controller = new AbortController();
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = (signal: NodeJS.Signals): void => {
    controller.abort();
    reject(
      new IsolaError({ code: "bench-interrupted", message: `measuring: stopped by ${signal}; its VMs are killed` }),
    );
  };
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.on(signal, stop);
  const working = work(controller.signal);
  try {
    return await Promise.race([working, promise]);
  } finally {
    controller.abort();
    await release();
    await Promise.allSettled([working]);
    await release();
    for (const signal of signals) process.off(signal, stop);
  }
}
