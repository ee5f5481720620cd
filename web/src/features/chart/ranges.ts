import type { Anomaly } from '../../shared/api/types';
import { parseTime } from '../../shared/format/time';
import { rangeNames, ranges, type RangeName } from '../../shared/ui/ranges';

/** The range that is shown when the URL names none: the last hour, or less for a detector that is younger than half of that. */
export function defaultRange(createdAt: number, now: number): RangeName {
  return now - createdAt < 1_800_000 ? '15m' : '1h';
}

/** The shortest range that still shows a time so many seconds ago, or the longest. */
export function rangeReaching(secondsAgo: number): RangeName {
  return rangeNames.find((name) => ranges[name].seconds * 0.9 >= secondsAgo) ?? '24h';
}

const mostPoints = 3000;
const minute = 60_000;

/**
 * The range of time to draw around an anomaly, in milliseconds: what came
 * before for comparison, all of it, and a little after. Ends on whole minutes,
 * so that an open anomaly asks for a new range once a minute, not each second.
 */
export function rangeAround(a: Pick<Anomaly, 'started_at' | 'resolved_at' | 'state'>, stepSeconds: number, now: number): [from: number, to: number] {
  const step = stepSeconds * 1000;
  const start = parseTime(a.started_at);
  const over = parseTime(a.resolved_at);
  const end = a.state === 'resolved' && Number.isFinite(over) ? over : now;
  const length = Math.max(end - start, step);
  const to = Math.min(end + Math.max(0.3 * length, 10 * step), now);
  const before = Math.max(1.5 * length, 60 * step, 5 * minute);
  const from = Math.max(start - before, to - mostPoints * step);
  return [Math.floor(from / minute) * minute, Math.ceil(to / minute) * minute];
}
