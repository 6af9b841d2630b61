import assert from "node:assert/strict";
import { test } from "node:test";
import { Router } from "./router.ts";

test("paths lead to what was added, with their parameters readable", () => {
  const router = new Router<string>();
  router.add("GET", "/vms", "list");
  router.add("POST", "/vms", "create");
  router.add("GET", "/vms/{vm}", "get");
  router.add("GET", "/vms/{vm}/log", "log");
  const found = (path: string): unknown => {
    const { methods, params } = router.find(path) ?? {};
    return methods && { methods: Object.fromEntries(methods), params };
  };
  assert.deepEqual(found("/vms"), { methods: { GET: "list", POST: "create" }, params: {} });
  assert.deepEqual(found("/vms/a%20b"), { methods: { GET: "get" }, params: { vm: "a b" } });
  assert.deepEqual(found("/vms/%zz/log"), { methods: { GET: "log" }, params: { vm: "%zz" } });
  for (const path of ["", "/", "/vms/", "/vms//log", "/vms/a/", "/vms/a/log/b", "/VMS", "vms"]) {
    assert.equal(found(path), undefined, path);
  }
});

test("a parameter beside a fixed segment is refused: which of the two is meant would depend on names", () => {
  const router = new Router<string>();
  router.add("GET", "/vms/{vm}", "get");
  assert.throws(() => router.add("POST", "/vms/check", "check"), /check may be a parameter or not/);
});
