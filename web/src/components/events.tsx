/** What happened, the newest first. */

import type { JSX } from "preact";
import type { FleetEvent } from "../../../src/fleet/contract.ts";
import { formatTime } from "../format.ts";

const SHOWN = 200;

/** Operations tell of themselves at each step; what they did to a VM is an event of its own. */
function worthTelling({ kind, data }: FleetEvent): boolean {
  if (kind !== "operation") return true;
  const state = typeof data === "object" && data !== null && !Array.isArray(data) ? data["state"] : undefined;
  return state === "failed";
}

export function Events({ events, empty }: { events: readonly FleetEvent[]; empty: string }): JSX.Element {
  if (events.length === 0) return <p class="empty">{empty}</p>;
  return (
    <ol class="events" tabIndex={0} aria-label="Events, the newest first">
      {events
        .filter(worthTelling)
        .slice(-SHOWN)
        .toReversed()
        .map(({ sequence, time, message, actor, kind }) => (
          <li key={sequence} data-kind={kind}>
            <time dateTime={time}>{formatTime(time)}</time>
            <span>{message}</span>
            {actor !== null && <span class="actor">by {actor}</span>}
          </li>
        ))}
    </ol>
  );
}
