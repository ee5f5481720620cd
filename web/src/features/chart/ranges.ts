import type { Anomaly } from '../../shared/api/types';
import { parseTime } from '../../shared/format/time';

/** The ranges that a live chart can show, by the name they have in the URL. */
export const ranges = {
  '15m': { seconds: 900, label: '15 min', name: 'the last 15 minutes' },
  '1h': { seconds: 3600, label: '1 h', name: 'the last hour' },
  '6h': { seconds: 21_600, label: '6 h', name: 'the last 6 hours' },
  '24h': { seconds: 86_400, label: '24 h', name: 'the last 24 hours' },
} as const;

export type RangeName = keyof typeof ranges;

/** The names in order, for a selector. */
export const rangeNames = Object.keys(ranges) as RangeName[];

/** Reads a name from the URL. */
export function isRangeName(text: unknown): text is RangeName {
  return typeof text === 'string' && Object.hasOwn(ranges, text);
}

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
