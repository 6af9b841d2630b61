import assert from "node:assert/strict";
import { test } from "node:test";
import { IsolaError } from "../../base/errors.ts";
import { ERRNO, type Sys } from "../../sys/sys.ts";
import { KVM_GET_API_VERSION } from "./abi.ts";
import { Kvm } from "./kvm.ts";

/** A host whose open gives `fd` and whose KVM names `version`; nothing else may be asked. */
function fakeSys(fd: number, version = 12): Sys {
  const never = () => assert.fail("not asked for here");
  return {
    open: () => fd,
    close: () => 0,
    ioctl: (_fd, request) => (request === KVM_GET_API_VERSION ? version : never()),
    mmap: never,
    adviseHugePages: never,
    addressOf: never,
    view: never,
    alarm: never,
    threadId: never,
    interrupt: never,
  };
}

const failure = (sys: Sys): string => {
  try {
    Kvm.open(sys)[Symbol.dispose]();
  } catch (error) {
    assert.ok(error instanceof IsolaError);
    assert.equal(error.code, "kvm-unavailable");
    assert.doesNotMatch(error.message, /\n/);
    return error.message;
  }
  return "";
};

test("a KVM that cannot be had is one line that says why and what to do", () => {
  assert.match(failure(fakeSys(-ERRNO.ENOENT)), /\/dev\/kvm: ENOENT; .*--engine wasm/);
  assert.match(failure(fakeSys(-ERRNO.EACCES)), /\/dev\/kvm: EACCES; the user needs to be in the group \S+$/);
  assert.match(failure(fakeSys(3, 11)), /API version 11, wanted 12/);
  assert.equal(failure(fakeSys(3)), "");
});
