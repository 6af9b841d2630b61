/** A plot over time by uPlot, in the colours of the page. */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

export interface PlotLine {
  readonly label: string;
  /** A custom property of the style sheet. */
  readonly color: `--${string}`;
  readonly values: readonly number[];
  readonly dashed?: boolean;
}

interface Properties {
  readonly title: string;
  /** Seconds since the epoch, ascending; one for each value of the lines. */
  readonly times: readonly number[];
  readonly lines: readonly PlotLine[];
  readonly format: (value: number) => string;
}

const HEIGHT_PIXELS = 150;

function create(host: HTMLElement, { lines, format }: Properties): uPlot {
  const style = getComputedStyle(host);
  const text = style.getPropertyValue("--text-soft");
  const grid = { stroke: style.getPropertyValue("--line"), width: 1 };
  return new uPlot(
    {
      width: Math.max(200, host.clientWidth),
      height: HEIGHT_PIXELS,
      legend: { show: false },
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_plot, _low, high) => [0, Math.max(high * 1.1, 1)] } },
      axes: [
        { stroke: text, grid, ticks: grid, size: 28 },
        { stroke: text, grid, ticks: grid, size: 72, values: (_plot, splits) => splits.map(format) },
      ],
      series: [
        {},
        ...lines.map(({ label, color, dashed }) => {
          const stroke = style.getPropertyValue(color);
          return dashed === true
            ? { label, stroke, width: 1.5, dash: [6, 4] }
            : { label, stroke, width: 1.75, fill: `color-mix(in srgb, ${stroke} 14%, transparent)` };
        }),
      ],
    },
    [[], ...lines.map(() => [])] as unknown as uPlot.AlignedData,
    host,
  );
}

export function Plot(properties: Properties): JSX.Element {
  const { title, times, lines, format } = properties;
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);

  useEffect(() => {
    const element = host.current;
    if (element === null) return undefined;
    const made = create(element, properties);
    plot.current = made;
    const observer = new ResizeObserver(() =>
      made.setSize({ width: Math.max(200, element.clientWidth), height: HEIGHT_PIXELS }),
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
    };
    // The lines' number and colours stay the same while the plot is shown.
  }, []);

  useEffect(() => {
    plot.current?.setData([[...times], ...lines.map(({ values }) => [...values])]);
  }, [times, lines]);

  return (
    <figure class="plot">
      <figcaption>
        {title}
        {lines.map(({ label, color, values, dashed }) => (
          <span key={label} class="plot-key">
            <i class={dashed === true ? "swatch swatch-dashed" : "swatch"} style={{ "--swatch": `var(${color})` }} />
            {label} <b>{format(values.at(-1) ?? 0)}</b>
          </span>
        ))}
      </figcaption>
      <div ref={host} aria-hidden="true" />
    </figure>
  );
}
