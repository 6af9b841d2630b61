/**
 * Entry of the process that becomes a VM's: it reads what to do from its server, builds the walls around itself, and
 * executes the VM's program in its own place. A server that dies before it has said all leaves no process behind: the
 * end of the pipe ends this one. A wall that cannot be built ends it too; none is left out silently.
 */

import { readFileSync } from "node:fs";
import { processDoor } from "../sys/confine.ts";
import { CONFIG_FD, LAUNCH_FD, type LaunchConfig, LISTEN_FD } from "./control-protocol.ts";

function launch(): void {
  let config: LaunchConfig;
  try {
    config = JSON.parse(readFileSync(LAUNCH_FD, "utf8")) as LaunchConfig;
  } catch {
    // The server ended in the middle of a start: there is nobody to report to.
    process.exit(1);
  }
  const door = processDoor();
  const [program = "", ...rest] = config.argv;
  const listening = door.listenUnix(config.listenPath);
  door.moveTo(listening, LISTEN_FD);
  for (const fd of [CONFIG_FD, ...config.keep]) door.keepOpen(fd);
  if (config.processors !== null) door.setAffinity(0, config.processors);
  if (config.noNewPrivileges) door.setNoNewPrivileges();
  if (config.landlock !== null) door.landlock(config.landlock);
  if (config.uid !== null) {
    process.setgroups?.([]);
    process.setgid?.(config.uid);
    process.setuid?.(config.uid);
  }
  process.execve?.(program, [program, ...rest], config.environment);
}

launch();
