import { retryAfterOf } from '../api/problem';
import { isLive } from './pulse';

/** How often something is asked for, in milliseconds: while events arrive, and while they do not. */
export interface Pace {
  /** Infinity for what events tell completely. */
  live: number;
  away: number;
}

/** The pace of each kind of data. */
export const pace = {
  anomalies: { live: Infinity, away: 10_000 },
  // No event tells how far behind a detector is or what it still learns.
  detectors: { live: 15_000, away: 10_000 },
  series: { live: 20_000, away: 15_000 },
  health: { live: 60_000, away: 10_000 },
  // Their state comes by event, how fast they answer does not.
  sources: { live: 60_000, away: 10_000 },
  // No event tells of lines.
  logs: { live: 10_000, away: 15_000 },
  // Events tell that they changed, and the page asks.
  lives: { live: 60_000, away: 15_000 },
  // No event tells how a shadow compares or how far a task is.
  shadow: { live: 10_000, away: 15_000 },
  // A list of tasks holds their results, which can be large.
  tasks: { live: 60_000, away: 60_000 },
  task: { live: 1_500, away: 3_000 },
  /** What does not change by itself. */
  never: { live: Infinity, away: Infinity },
} as const satisfies Record<string, Pace>;

const chartFastest = 2_000;
const chartSlowest = 30_000;
/** Points come by themselves; now and then they are compared with what is stored. */
const chartWithPoints = 60_000;
const slowestAfterErrors = 30_000;

/** The pace of a chart with this step: once per step, between 2 and 30 s, or seldom while its points come by themselves. */
export function chartPace(stepSeconds: number, points = false): Pace {
  const step = stepSeconds * 1000;
  const every = Number.isFinite(step) ? Math.min(chartSlowest, Math.max(chartFastest, step)) : chartSlowest;
  return { live: points ? chartWithPoints : every, away: Math.max(every, 5_000) };
}

// Many pages lose their stream at the same moment; this keeps them from asking
// at the same moment. It is the same for the whole life of the page, because a
// new interval starts anew what runs already.
const spread = 0.8 + 0.4 * Math.random();

/**
 * Returns the time to the next request: the interval while all is well, longer
 * after an error and never sooner than the server asked for, so that many open
 * pages do not press on a server in trouble.
 */
export function nextPoll(interval: number, failed: boolean, error: unknown): number {
  if (!failed) return interval;
  return Math.min(slowestAfterErrors, Math.max(interval * 2, retryAfterOf(error) ?? 0));
}

/** What the next request depends on. A query of react-query has it. */
interface Polled {
  state: { status: string; error: unknown; fetchFailureCount: number; fetchFailureReason: unknown };
}

/** The `refetchInterval` option for data of some pace. Polling is the safety net under the events. */
export function polling(of: Pace) {
  return (query: Polled): number => {
    const failed = query.state.status === 'error' || query.state.fetchFailureCount > 0;
    return nextPoll((isLive() ? of.live : of.away) * spread, failed, query.state.error ?? query.state.fetchFailureReason);
  };
}
