/**
 * An initramfs with programs of Debian's as they are in their packages: what an unmodified user space asks of the
 * virtual hardware.
 *
 * Its console is a shell without prompt and echo that reads commands line by line; `ToolsGuest` speaks to it.
 */

import { debianInitramfs, shellInit } from "./debian-initramfs.ts";

const PROGRAMS = [
  "busybox-static",
  "coreutils",
  "dash",
  "gzip",
  "mawk",
  "openssl",
  "python3",
  "sqlite3",
  "xz-utils",
] as const;
/** What packages ask for, but their programs do without here: package management, texts, name services. */
const LEFT_OUT =
  /^(perl|dpkg|tar|debianutils|install-info|debconf|gcc-|media-types|mailcap|mime-support|tzdata|libnsl|libtirpc|netbase|readline-common|libmd0|init-system-helpers|openssl-provider)/;
/** Files that no test reads; they would only take guest memory. */
const USELESS_FILE =
  /^usr\/(share|include|lib\/x86_64-linux-gnu\/(gconv|perl|engines)|lib\/python3[^/]*\/(test|idlelib|tkinter|lib2to3|ensurepip|distutils|unittest|pydoc_data|turtledemo|dist-packages|multiprocessing|asyncio))|^(etc|var)\//;
/** The useful ones among coreutils, which is large. */
const COREUTILS = /^usr\/bin\/(base64|cat|cmp|cut|dd|head|mkdir|od|rm|seq|sha256sum|sort|tail|test|tr|uniq|wc)$/;

const INIT = shellInit("tools ready", "dash -s");

/** The initramfs, made at the first call on this machine. */
export function toolsInitramfs(): Promise<Uint8Array> {
  return debianInitramfs({
    name: "tools",
    init: INIT,
    programs: PROGRAMS,
    leftOut: LEFT_OUT,
    useless: USELESS_FILE,
    only: { coreutils: COREUTILS },
  });
}
