import assert from "node:assert/strict";
import { test } from "node:test";
import { linuxSys } from "./linux.ts";
import { check, ERRNO, MAP_ANONYMOUS, MAP_PRIVATE, O_RDWR, PROT_READ, PROT_WRITE, SysError } from "./sys.ts";

const onLinux = process.platform === "linux";

test("calls give what the kernel gives, or the negated errno", { skip: !onLinux }, () => {
  const sys = linuxSys();
  const fd = sys.open("/dev/null", O_RDWR);
  assert.ok(fd >= 0);
  assert.equal(sys.ioctl(fd, 0x5401, 0n), -ERRNO.ENOTTY);
  assert.equal(sys.close(fd), 0);
  assert.equal(sys.close(fd), -ERRNO.EBADF);
  assert.equal(sys.open("/dev/null/nothing", O_RDWR), -20);
});

test("a mapping is memory, at the address that it names", { skip: !onLinux }, () => {
  const sys = linuxSys();
  const flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const mapping = sys.mmap({ length: 8192, protection: PROT_READ | PROT_WRITE, flags, fd: -1 });
  mapping.bytes[8191] = 7;
  assert.equal(mapping.bytes.length, 8192);
  assert.equal(sys.addressOf(mapping.bytes), mapping.address);
  mapping.unmap();
  assert.throws(
    () => sys.mmap({ length: 0, protection: PROT_READ, flags, fd: -1 }),
    (error) => error instanceof SysError && error.errno === ERRNO.EINVAL && error.code === "sys-EINVAL",
  );
});

test("a shared WebAssembly memory has an address on a page boundary", { skip: !onLinux }, () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  assert.equal(linuxSys().addressOf(memory.buffer) % 4096n, 0n);
});

test("check names the action and the errno", () => {
  assert.equal(check(3, "count"), 3);
  assert.throws(() => check(-ERRNO.ENOENT, "open a door"), /open a door: the host answered ENOENT/);
  assert.throws(() => check(-133, "open a door"), /errno 133/);
});
