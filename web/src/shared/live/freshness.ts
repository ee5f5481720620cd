/** How old the data of a view may grow before the view says so, in milliseconds. */
export function staleAfter(interval: number): number {
  return Math.max(15_000, interval * 4);
}

/** What a view needs to know of its query. A query result of react-query is one. */
export interface Observed {
  dataUpdatedAt: number;
  data: unknown;
}

/**
 * Tells whether what a view shows is too old to be taken for the present:
 * there is data, but no newer answer came for several intervals.
 */
export function isStale(query: Observed, interval: number, now: number): boolean {
  return query.data !== undefined && query.dataUpdatedAt > 0 && now - query.dataUpdatedAt > staleAfter(interval);
}
