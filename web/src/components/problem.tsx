/** An error where it belongs: what was asked, what was found, and who holds the rest of a resource that is short. */

import type { JSX } from "preact";
import { shortageSchema } from "../../../src/fleet/contract.ts";
import { formatBytes, formatPercent } from "../format.ts";
import type { Failure } from "../server.ts";

function Shortage({ details }: { details: unknown }): JSX.Element | null {
  const parsed = shortageSchema.safeParse(details);
  if (!parsed.success) return null;
  const { resource, asked, free, holders } = parsed.data;
  let format = formatBytes;
  if (resource === "cpu-reservation") format = formatPercent;
  else if (resource === "vms") format = String;
  return (
    <p class="shortage">
      asked {format(asked)}, free {format(free)}
      {holders.length > 0 && `; held by ${holders.map(({ name, amount }) => `${name} (${format(amount)})`).join(", ")}`}
    </p>
  );
}

export function Problem({ failure }: { failure: Failure | undefined }): JSX.Element | null {
  if (failure === undefined) return null;
  return (
    <div class="problem" role="alert">
      <p>{failure.message}</p>
      <Shortage details={failure.details} />
    </div>
  );
}
