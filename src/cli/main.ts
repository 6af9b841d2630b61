/** The process behind `isola`: real streams, real virtual machines, the real store of images. */

import packageJson from "../../package.json" with { type: "json" };
import { IsolaError } from "../base/errors.ts";
import { ImageStore } from "../images/store.ts";
import type { CliHost } from "./host.ts";
import { launch } from "./launch.ts";

const notYet = (what: string) => (): never => {
  throw new IsolaError({ code: "not-built", message: `${what} is not built into this version yet` });
};

const host: CliHost = {
  streams: process,
  version: packageJson.version,
  createVm: notYet("the virtual machine"),
  openStore: () => new ImageStore(),
};

await launch(host);
