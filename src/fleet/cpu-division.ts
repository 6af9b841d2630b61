/**
 * Divides a pool's processor time among virtual machines, in percent of one processor.
 *
 * Each is entitled to what its shares give it, at least its reservation, at most what it may have; what one does not use
 * of that is divided among those who want more. An entitlement is not set aside: who uses little may at any time use
 * what is its own, and the next division takes that from the others. While there is enough for all, each may have all
 * that it may: a budget is a fence against neighbours, not a price of being alone.
 */

export interface CpuClaim {
  readonly shares: number;
  readonly reservationPercent: number;
  /** The most that it may get: its cap, or the pool's capacity. */
  readonly limitPercent: number;
  /** What it uses now, or would use if it could. */
  readonly demandPercent: number;
}

/** Bisections of the level: the result is exact to 2^-60 of the pool. */
const STEPS = 60;
/** Below this part of the capacity the pool counts as having enough for all. */
const PLENTY = 0.9;

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** What a claim is entitled to when a share of one is worth `level` percent. */
const entitled = ({ shares, reservationPercent, limitPercent }: CpuClaim, level: number): number =>
  Math.min(limitPercent, Math.max(reservationPercent, shares * level));

/** What all would use at a level. */
const usedAt = (claims: readonly CpuClaim[], level: number): number =>
  sum(claims.map((claim) => Math.min(claim.demandPercent, entitled(claim, level))));

/** Budgets in percent, in the order of `claims`: what would be used of them is the capacity at the most. */
export function divideCpu(capacityPercent: number, claims: readonly CpuClaim[]): number[] {
  if (usedAt(claims, Infinity) < capacityPercent * PLENTY) return claims.map(({ limitPercent }) => limitPercent);
  let low = 0;
  let high = capacityPercent + 100;
  if (usedAt(claims, high) <= capacityPercent) return claims.map((claim) => entitled(claim, high));
  for (let step = 0; step < STEPS; step++) {
    const level = (low + high) / 2;
    if (usedAt(claims, level) > capacityPercent) high = level;
    else low = level;
  }
  return claims.map((claim) => entitled(claim, low));
}
