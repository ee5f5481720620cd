import type { Pace } from './polling';
import type { Pulse } from './pulse';

/** How old data that is asked for every `interval` ms may grow before a view says so, in milliseconds. */
export function staleAfter(interval: number): number {
  return Math.max(15_000, interval * 3);
}

/** What a view needs to know of its query. A query result of react-query is one. */
export interface Observed {
  dataUpdatedAt: number;
  data: unknown;
}

/** When what a view shows was last known to be true, in milliseconds: events confirm what they tell completely. */
export function knownAt(query: Observed, of: Pace, pulse: Pulse, now: number): number {
  if (of.live !== Infinity || !Number.isFinite(of.away)) return query.dataUpdatedAt;
  return pulse.live ? now : Math.max(query.dataUpdatedAt, pulse.confirmedAt);
}

/**
 * Tells whether what a view shows is too old to be taken for the present:
 * there is data, but neither an event nor an answer confirmed it for several
 * intervals.
 */
export function isStale(query: Observed, of: Pace, pulse: Pulse, now: number): boolean {
  if (query.data === undefined || query.dataUpdatedAt <= 0) return false;
  return now - knownAt(query, of, pulse, now) > staleAfter(pulse.live && of.live !== Infinity ? of.live : of.away);
}
