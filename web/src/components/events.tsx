/** What happened, the newest first. */

import type { JSX } from "preact";
import type { FleetEvent } from "../../../src/fleet/contract.ts";
import { formatTime } from "../format.ts";

const SHOWN = 200;

export function Events({ events, empty }: { events: readonly FleetEvent[]; empty: string }): JSX.Element {
  if (events.length === 0) return <p class="empty">{empty}</p>;
  return (
    <ol class="events" tabIndex={0} aria-label="Events, the newest first">
      {events
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
