/** `isola` with a fake virtual machine and a fake store, for tests that need a process of their own. */

import { launch } from "../launch.ts";
import { FAKE_HOST } from "./fake-host.ts";

await launch(FAKE_HOST);
