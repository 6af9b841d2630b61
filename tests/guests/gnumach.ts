/** GNU Mach as its Debian package has it: a 32-bit kernel that boots by Multiboot. */

import { IsolaError } from "../../src/base/errors.ts";
import { Apt } from "../../src/images/apt.ts";
import { readDeb } from "../../src/images/deb.ts";
import { cached } from "./cached.ts";

/** Where the tests' cache has it. */
export const GNUMACH_FILE = "gnumach-i386.gz";

/** The kernel, gzipped. */
export function gnumach(): Promise<Uint8Array> {
  return cached(GNUMACH_FILE, async (directory) => {
    const apt = await Apt.create({ directory, architecture: "i386" });
    const record = await apt.resolve("gnumach-image-1-486", /^gnumach-image-1\..*-486$/);
    const isKernel = ({ path }: { path: string }) => /^boot\/gnumach-.*\.gz$/.test(path);
    for await (const { bytes } of readDeb(await apt.download(record), isKernel)) return bytes;
    throw new IsolaError({ code: "package-invalid", message: `reading package ${record.name}: it holds no kernel` });
  });
}
