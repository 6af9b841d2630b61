/**
 * The image `memtest86+`: Debian's Memtest86+, a program without an operating system.
 *
 * Its package holds a 32-bit and a 64-bit build, each as a bzImage without payload (.bin) and the same with a header for
 * UEFI (.efi). Both builds have a 32-bit entry; the 64-bit one could be entered in long mode too. The 32-bit build is
 * taken: it runs under PAE paging, as no other image does.
 */

import { IsolaError } from "../base/errors.ts";
import { Apt } from "./apt.ts";
import { CpioWriter } from "./cpio.ts";
import { readDeb } from "./deb.ts";
import type { ImageRecipe } from "./recipe.ts";

/** Picks the 32-bit program out of its package. @throws IsolaError `package-invalid` */
export async function readMemtestPackage(deb: Uint8Array): Promise<Uint8Array> {
  for await (const { bytes } of readDeb(deb, ({ path }) => path === "boot/memtest86+ia32.bin")) return bytes;
  throw new IsolaError({
    code: "package-invalid",
    message: "reading memtest86+ package: it holds no boot/memtest86+ia32.bin, wanted version 6 or later",
  });
}

export const memtest: ImageRecipe = {
  name: "memtest86+",
  description: "Memtest86+, a memory tester without an operating system",
  commandLine: "console=ttyS0,115200",
  minimumMemoryBytes: 8 * 2 ** 20,
  revision: 1,
  async build({ directory, progress }) {
    const apt = await Apt.create({ directory, progress });
    const record = await apt.show("memtest86+");
    const program = await readMemtestPackage(await apt.download(record));
    return {
      versions: { [record.name]: record.version },
      files: { kernel: program, vmlinux: program, initramfs: new CpioWriter().finish() },
    };
  },
};
