/**
 * Reader of Debian binary packages: an ar archive of `debian-binary`, `control.tar.*` and `data.tar.*`. [deb(5)]
 */

import { IsolaError } from "../base/errors.ts";
import { readAr } from "./ar.ts";
import { decompressStream } from "./decompress/decompress.ts";
import { type TarEntry, type TarHeader, readTar } from "./tar.ts";

/** Unpacked size of the largest package that isola reads, in bytes; a kernel is near 120 MB. */
const DATA_LIMIT = 2 * 1024 * 1024 * 1024;

/**
 * Installed files of the package for which `wanted` says yes. Paths are relative to the root: `boot/vmlinuz-6.1`.
 * @throws IsolaError `deb-damaged`, and the errors of ar, tar and decompression
 */
export function readDeb(
  bytes: Uint8Array,
  wanted: (header: TarHeader) => boolean = () => true,
): AsyncGenerator<TarEntry> {
  const members = readAr(bytes);
  const [first] = members;
  if (first?.name !== "debian-binary" || !new TextDecoder().decode(first.bytes).startsWith("2.")) {
    throw new IsolaError({
      code: "deb-damaged",
      message: `reading Debian package: its first member is ${first?.name ?? "missing"}, wanted debian-binary 2.x`,
    });
  }
  const data = members.find(({ name }) => name === "data.tar" || name.startsWith("data.tar."));
  if (data === undefined) {
    throw new IsolaError({ code: "deb-damaged", message: "reading Debian package: it holds no data.tar" });
  }
  return readTar(decompressStream(data.bytes, DATA_LIMIT), wanted);
}
