/** Runs one part of the tests in a host that QEMU emulates: `node tests/long/nested.ts NAME` [nested-parts.ts]. */

import { GNUMACH_FILE, gnumach } from "../guests/gnumach.ts";
import { NESTED_TEST, nestedPasses } from "../peers/nested-host.ts";
import { NESTED_PARTS } from "./nested-parts.ts";

const SECONDS = 1800;

const [name] = process.argv.slice(2);
const part = NESTED_PARTS.find((one) => one.name === name);
if (part === undefined) {
  const names = NESTED_PARTS.map((one) => one.name).join(", ");
  throw new Error(`running part "${name ?? ""}": there is none of that name; wanted: ${names}`);
}
if (part.gnumach === true) await gnumach();
await nestedPasses({
  command: [...NESTED_TEST, ...part.tests.map((test) => `tests/${test}.test.js`)],
  images: part.images,
  cachedFiles: part.gnumach === true ? [GNUMACH_FILE] : [],
  ...(part.processors === undefined ? {} : { processors: part.processors }),
  seconds: SECONDS,
});
