/**
 * Finds the sequences of handlers worth having inside the interpreter's loop: merges the most frequent neighbouring
 * pair again and again, as byte-pair encoding does, over the traces of a real run.
 */

import type { ProfiledTrace } from "../src/cpu/wasm/traces.ts";

interface Tile {
  readonly key: string;
  readonly words: readonly string[];
  readonly length: number;
}

const NO_FLAGS = " !f";

export function hotSequences(
  profile: readonly { trace: ProfiledTrace; counts: number[] }[],
  singles: number,
  merges: number,
  longest: number,
): { words: string; name: string; count: number }[] {
  const lines = profile
    .map(({ trace, counts }) => ({
      tiles: trace.names.map((name, i): Tile => {
        const hex = Array.from(trace.bytes[i] ?? [], (b) => b.toString(16).padStart(2, "0")).join("");
        return { key: name, words: hex === "" ? [] : [hex + (name.endsWith(NO_FLAGS) ? "!" : "")], length: 1 };
      }),
      counts: [...counts],
    }))
    .filter(({ counts, tiles }) => (counts[0] ?? 0) > 0 && tiles.every((t) => t.words.length > 0));
  const chosen = new Map<string, Tile>();
  const tally = (): Map<string, { count: number; tile: Tile }> => {
    const found = new Map<string, { count: number; tile: Tile }>();
    for (const { tiles, counts } of lines) {
      for (const [i, tile] of tiles.entries()) {
        const entry = found.get(tile.key) ?? { count: 0, tile };
        entry.count += counts[i] ?? 0;
        found.set(tile.key, entry);
      }
    }
    return found;
  };
  const first = [...tally().values()].sort((a, b) => b.count - a.count).slice(0, singles);
  for (const { tile } of first) chosen.set(tile.key, tile);
  for (let round = 0; round < merges; round++) {
    const pairs = new Map<string, { count: number; tile: Tile }>();
    for (const { tiles, counts } of lines) {
      for (let i = 0; i + 1 < tiles.length; i++) {
        const a = tiles[i];
        const b = tiles[i + 1];
        if (a === undefined || b === undefined || a.length + b.length > longest || a.key.includes("rep=rep")) continue;
        const key = `${a.key} + ${b.key}`;
        const entry = pairs.get(key) ?? {
          count: 0,
          tile: { key, words: [...a.words, ...b.words], length: a.length + b.length },
        };
        // The second runs at most as often as the first.
        entry.count += counts[i + 1] ?? 0;
        pairs.set(key, entry);
      }
    }
    let best: { count: number; tile: Tile } | undefined;
    for (const entry of pairs.values()) if (best === undefined || entry.count > best.count) best = entry;
    if (best === undefined || best.count === 0) break;
    const { tile } = best;
    chosen.set(tile.key, tile);
    for (const line of lines) {
      for (let i = 0; i + 1 < line.tiles.length; i++) {
        if (`${line.tiles[i]?.key} + ${line.tiles[i + 1]?.key}` !== tile.key) continue;
        line.tiles.splice(i, 2, tile);
        line.counts.splice(i + 1, 1);
      }
    }
  }
  const left = tally();
  return [...chosen.values()].map((tile) => ({
    words: tile.words.join(" "),
    name: tile.key,
    count: left.get(tile.key)?.count ?? 0,
  }));
}
