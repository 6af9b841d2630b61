/** One resource of the server drawn to scale: who holds how much of it, and how much of that is used. */

import type { JSX } from "preact";
import type { Allocation, Slice } from "../allocation.ts";

interface Properties {
  readonly title: string;
  readonly allocation: Allocation;
  readonly format: (amount: number) => string;
  /** What the VMs hold the resource by: "kept for", "reserved". */
  readonly heldAs: string;
}

const describe = ({ kind, label, held, used }: Slice, format: (amount: number) => string): string =>
  kind === "vm" ? `${label}: ${format(held)}, ${format(used)} in use` : `${label}: ${format(held)}`;

export function AllocationBar({ title, allocation, format, heldAs }: Properties): JSX.Element {
  const { slices, total, free } = allocation;
  const whole = Math.max(
    total,
    slices.reduce((sum, { held }) => sum + held, 0),
  );
  return (
    <figure class="allocation">
      <figcaption>
        <span class="allocation-title">{title}</span>
        <span class="allocation-free">
          {format(free)} free of {format(total)}
        </span>
      </figcaption>
      <div class="bar" aria-hidden="true">
        {slices.map((slice) => (
          <span
            key={slice.key}
            class={`slice slice-${slice.kind}`}
            data-hue={slice.hue}
            style={{ width: `${(slice.held / whole) * 100}%` }}
            title={describe(slice, format)}
          >
            <span class="slice-used" style={{ width: `${slice.held === 0 ? 0 : (slice.used / slice.held) * 100}%` }} />
            <span class="slice-label">{slice.label}</span>
          </span>
        ))}
      </div>
      <table class="visually-hidden">
        <caption>{title}</caption>
        <thead>
          <tr>
            <th scope="col">holder</th>
            <th scope="col">{heldAs}</th>
            <th scope="col">in use</th>
          </tr>
        </thead>
        <tbody>
          {slices.map(({ key, label, held, used }) => (
            <tr key={key}>
              <th scope="row">{label}</th>
              <td>{format(held)}</td>
              <td>{format(used)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </figure>
  );
}
