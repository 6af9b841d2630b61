/** The last minute of one figure, small enough for a card. */

import type { JSX } from "preact";

interface Properties {
  /** Oldest first. */
  readonly values: readonly number[];
  /** What the top edge stands for; the line grows past it only where a value does. */
  readonly scale: number;
  readonly label: string;
}

const WIDTH = 120;
const HEIGHT = 28;
/** Points across the width. */
const CAPACITY = 60;

export function Sparkline({ values, scale, label }: Properties): JSX.Element {
  const shown = values.slice(-CAPACITY);
  const top = Math.max(scale, ...shown, 1);
  const step = WIDTH / (CAPACITY - 1);
  const points = shown.map((value, index) => {
    const x = WIDTH - (shown.length - 1 - index) * step;
    return `${x.toFixed(1)},${(HEIGHT - 1 - (value / top) * (HEIGHT - 2)).toFixed(1)}`;
  });
  const first = points[0]?.split(",")[0];
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={label}>
      {first !== undefined && (
        <>
          <polygon points={`${first},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`} class="sparkline-area" />
          <polyline points={points.join(" ")} class="sparkline-line" vector-effect="non-scaling-stroke" />
        </>
      )}
    </svg>
  );
}
