import { retryAfterOf } from '../api/problem';

/** How often each kind of data is asked for, in milliseconds. */
export const pollEvery = {
  anomalies: 3_000,
  detectors: 4_000,
  series: 5_000,
  health: 5_000,
  sources: 5_000,
  smallCharts: 10_000,
} as const;

const chartFastest = 2_000;
const chartSlowest = 5_000;
const slowestAfterErrors = 30_000;

/** How often a chart with this step is asked for: twice per step, between 2 and 5 s. */
export function chartInterval(stepSeconds: number): number {
  const half = (stepSeconds * 1000) / 2;
  return Number.isFinite(half) ? Math.min(chartSlowest, Math.max(chartFastest, half)) : chartSlowest;
}

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

/** The `refetchInterval` option for data that is asked for every `interval` ms. */
export function polling(interval: number) {
  return (query: Polled): number =>
    nextPoll(interval, query.state.status === 'error' || query.state.fetchFailureCount > 0, query.state.error ?? query.state.fetchFailureReason);
}
