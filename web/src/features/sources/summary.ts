import type { Source } from '../../shared/api/types';

/** The sources by how far their data can be relied on. */
export interface SourceSummary {
  total: number;
  up: number;
  /** Those whose data cannot be relied on now: down or stale. */
  lost: Source[];
  /** Those that answer, but slowly or partly. */
  degraded: Source[];
  /** Those that were not checked yet. */
  unknown: Source[];
}

/** Sorts the sources by what their health means. */
export function summarise(sources: readonly Source[]): SourceSummary {
  const inState = (...states: Source['health']['state'][]) => sources.filter((s) => states.includes(s.health.state));
  return { total: sources.length, up: inState('up').length, lost: inState('down', 'stale'), degraded: inState('degraded'), unknown: inState('unknown') };
}
