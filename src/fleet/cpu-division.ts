/**
 * Divides a pool's processor time among virtual machines, in percent of one processor.
 *
 * Each gets what its shares give it, at least its reservation, at most what it can use or may have; what one leaves is
 * divided among the rest. While there is enough for all, each may have all that it may: a budget is a fence against
 * neighbours, not a price of being alone.
 */

export interface CpuClaim {
  readonly shares: number;
  readonly reservationPercent: number;
  /** The most that it may get: its cap, or the pool's capacity. */
  readonly limitPercent: number;
  /** What it would use now if it could. */
  readonly demandPercent: number;
}

/** Bisections of the level: the result is exact to 2^-60 of the pool. */
const STEPS = 60;
/** Below this part of the capacity the pool counts as having enough for all. */
const PLENTY = 0.9;

/** What each gets when a share of one is worth `level` percent. */
const atLevel = (claims: readonly CpuClaim[], most: (claim: CpuClaim) => number, level: number): number[] =>
  claims.map((claim) => Math.min(most(claim), Math.max(claim.reservationPercent, claim.shares * level)));

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** Fills claims up to `most` until `capacity` is used up. */
function fill(capacity: number, claims: readonly CpuClaim[], most: (claim: CpuClaim) => number): number[] {
  let low = 0;
  let high = capacity + 100;
  if (sum(atLevel(claims, most, high)) <= capacity) return claims.map(most);
  for (let step = 0; step < STEPS; step++) {
    const level = (low + high) / 2;
    if (sum(atLevel(claims, most, level)) > capacity) high = level;
    else low = level;
  }
  return atLevel(claims, most, low);
}

/** Budgets in percent, in the order of `claims`. */
export function divideCpu(capacityPercent: number, claims: readonly CpuClaim[]): number[] {
  const demand = (claim: CpuClaim): number => Math.min(claim.demandPercent, claim.limitPercent);
  if (sum(claims.map(demand)) < capacityPercent * PLENTY) return claims.map(({ limitPercent }) => limitPercent);
  const granted = fill(capacityPercent, claims, demand);
  // Demand is an estimate of the moment: what nobody asked for is room to grow, by shares again.
  const left = capacityPercent - sum(granted);
  if (left <= 0) return granted;
  const room = claims.map((claim, i) => ({
    ...claim,
    reservationPercent: 0,
    limitPercent: claim.limitPercent - (granted[i] ?? 0),
  }));
  const extra = fill(left, room, ({ limitPercent }) => limitPercent);
  return granted.map((value, i) => value + (extra[i] ?? 0));
}
