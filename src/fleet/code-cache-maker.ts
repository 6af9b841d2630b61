/** Loads what a VM's process and its vCPU's worker load, so that Node stores the compiled code, and ends. */

import { flushCompileCache } from "node:module";
import "../machine/vcpu-thread.ts";
import "./console-log.ts";
import "./control-server.ts";
import "./vm-runner.ts";

flushCompileCache();
process.exit(0);
