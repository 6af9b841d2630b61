/** Sizes as a person writes them: `256M`, `1G`, `1.5GiB`, plain bytes. Units are powers of 1024. */

const UNITS = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 } as const;
const SIZE = /^(\d+(?:\.\d+)?)(?:([KMGT])(?:iB|B)?|B)?$/i;

/** Bytes, a whole number, Infinity beyond what a number holds exactly; undefined where `text` is no size. */
export function parseSize(text: string): number | undefined {
  const match = SIZE.exec(text.trim());
  if (match === null) return undefined;
  const unit = (match[2] ?? "").toUpperCase() as keyof typeof UNITS;
  const bytes = Number(match[1]) * UNITS[unit];
  if (bytes > Number.MAX_SAFE_INTEGER) return Infinity;
  return Number.isInteger(bytes) ? bytes : undefined;
}

/** Exact in the largest unit that takes four digits at the most, else with one decimal: "256M", "3966M", "97.7K". */
export function formatSize(bytes: number): string {
  const fitting = (["T", "G", "M", "K"] as const).filter((unit) => bytes >= UNITS[unit]);
  const exact = fitting.find((unit) => bytes % UNITS[unit] === 0 && bytes / UNITS[unit] < 10000);
  if (exact !== undefined) return `${bytes / UNITS[exact]}${exact}`;
  const [largest] = fitting;
  return largest === undefined ? `${bytes}` : `${(bytes / UNITS[largest]).toFixed(1)}${largest}`;
}
