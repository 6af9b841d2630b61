/**
 * Entry of a VM's own process. It lives by itself: a server may come, go and come again over the control socket. All
 * files it uses were opened for it; it opens none but its own code.
 */

import { ftruncateSync, readFileSync, writeSync } from "node:fs";
import { ConsoleLogWriter } from "./console-log.ts";
import { CONFIG_FD, type ExitReport, type VmProcessConfig, type VmReport } from "./control-protocol.ts";
import { ControlServer } from "./control-server.ts";
import { VmRunner } from "./vm-runner.ts";

/** How often use is looked at, in ms; and the least that is worth telling: 1 % of a processor, or a while passed. */
const NOTICE_MS = 250;
const WORTH_MICROS = NOTICE_MS * 10;
const LONGEST_SILENCE_MS = 5000;
const LINGER_MS = 2000;

/** Leaves the cause of the end behind. It need not outlive the host: after its restart every VM has ended. */
function leave(fd: number, report: ExitReport): void {
  ftruncateSync(fd, 0);
  writeSync(fd, JSON.stringify(report), 0);
}

async function main(): Promise<void> {
  const config = JSON.parse(readFileSync(CONFIG_FD, "utf8")) as VmProcessConfig;
  process.title = `isola-vm ${config.name}`;
  const fail = (error: unknown): void => {
    const message = `the VM's process failed: ${error instanceof Error ? error.message : String(error)}`;
    console.error(error);
    leave(config.exitFd, { kind: "internal-error", message, time: new Date().toISOString() });
    process.exit(1);
  };
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
  // A server's terminal is not this process's: only its own server ends it, over the socket, or a kill.
  for (const signal of ["SIGINT", "SIGHUP", "SIGPIPE"] as const) process.on(signal, () => undefined);

  const log = new ConsoleLogWriter(config.logFd);
  const runner = new VmRunner(config, {
    output(bytes) {
      try {
        log.add(bytes);
      } catch {
        // A full disk costs the log, not the guest.
      }
      server.output(bytes);
    },
    holdInput: (held) => server.holdInput(held),
    changed: () => tell(runner.report()),
  });
  const server = new ControlServer(config.secret, runner);
  // As a person would expect of a service that is told to end: the guest's own way down first.
  process.on("SIGTERM", () => runner.stop(10_000));

  let told: VmReport | undefined;
  let toldAt = 0;
  const tell = (report: VmReport): void => {
    [told, toldAt] = [report, performance.now()];
    server.notify(report);
  };
  const timer = setInterval(() => {
    const report = runner.report();
    const used = report.cpuMicros - (told?.cpuMicros ?? 0);
    const held = report.throttledMs - (told?.throttledMs ?? 0);
    if (used > WORTH_MICROS || held > 0 || performance.now() - toldAt > LONGEST_SILENCE_MS) tell(report);
  }, NOTICE_MS);

  await server.listen(config.listen);
  const end = await runner.run();
  clearInterval(timer);
  leave(config.exitFd, end);
  await server.close(LINGER_MS);
  process.exit(0);
}

await main();
