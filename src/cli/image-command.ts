/** `isola image`: what the store of guest images holds, for a person or as JSON for a program. */

import { IsolaError } from "../base/errors.ts";
import { formatSize } from "../base/size.ts";
import type { ImageInfo } from "../images/store.ts";
import { EXIT_STATUS } from "./exit-status.ts";
import type { CliHost } from "./host.ts";
import { ProgressBar } from "./progress-bar.ts";
import { table } from "./table.ts";

interface OutputOptions {
  readonly json: boolean;
}

function row(info: ImageInfo): string[] {
  return [info.name, info.cachedBytes === undefined ? "not fetched" : formatSize(info.cachedBytes), info.description];
}

export async function listImages({ openStore, streams }: CliHost, { json }: OutputOptions): Promise<number> {
  const images = await openStore().list();
  streams.stdout.write(
    json
      ? `${JSON.stringify(images, null, 2)}\n`
      : `${table([["IMAGE", "CACHED", "DESCRIPTION"], ...images.map(row)])}\n`,
  );
  return EXIT_STATUS.ok.status;
}

export async function pullImage(
  { openStore, streams }: CliHost,
  name: string,
  { json, refresh }: OutputOptions & { readonly refresh: boolean },
): Promise<number> {
  const bar = new ProgressBar(streams.stderr);
  let info: ImageInfo;
  try {
    info = await openStore().pull(name, { refresh, progress: bar.update });
  } finally {
    bar.end();
  }
  streams.stdout.write(json ? `${JSON.stringify(info, null, 2)}\n` : `${info.name}: ${row(info)[1]} in the cache\n`);
  return EXIT_STATUS.ok.status;
}

export async function removeImages(
  { openStore, streams }: CliHost,
  names: readonly string[],
  { json }: OutputOptions,
): Promise<number> {
  const store = openStore();
  const known = new Set((await store.list()).map(({ name }) => name));
  const unknown = names.filter((name) => !known.has(name));
  if (unknown.length > 0) {
    throw new IsolaError({
      code: "image-unknown",
      message: `cannot remove the image ${unknown.join(", ")}: there is none; wanted: ${[...known].join(", ")}`,
    });
  }
  const removed: string[] = [];
  for (const name of names) {
    if (await store.remove(name)) removed.push(name);
    else if (!json) streams.stderr.write(`isola: ${name} is not in the cache\n`);
  }
  if (json) streams.stdout.write(`${JSON.stringify({ removed }, null, 2)}\n`);
  else for (const name of removed) streams.stdout.write(`${name}: removed\n`);
  return EXIT_STATUS.ok.status;
}
