import { formatDuration } from './duration';
import { unknown } from './number';

const clockFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const minuteFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const dayFormat = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

/** Reads an RFC 3339 time into milliseconds, or NaN for a missing or zero time. */
export function parseTime(text: string | null | undefined): number {
  if (!text || text.startsWith('0001-')) return NaN;
  return Date.parse(text);
}

/** Writes a time of day in the reader's zone: `14:03:27`. */
export function formatClock(ms: number): string {
  return Number.isFinite(ms) ? clockFormat.format(ms) : unknown;
}

/** Writes a time in the reader's zone: `14:03`, and with its day unless that is today's. */
export function formatStamp(ms: number, now: number): string {
  return withDay(minuteFormat, ms, now);
}

/** Writes a time in the reader's zone with its seconds: `14:03:27`, and with its day unless that is today's. */
export function formatDayClock(ms: number, now: number): string {
  return withDay(clockFormat, ms, now);
}

function withDay(format: Intl.DateTimeFormat, ms: number, now: number): string {
  if (!Number.isFinite(ms)) return unknown;
  const clock = format.format(ms);
  return new Date(ms).toDateString() === new Date(now).toDateString() ? clock : `${dayFormat.format(ms)}, ${clock}`;
}

/** Writes how long ago a time was: `12 s ago`. A future time, from a clock that differs, is `just now`. */
export function formatAgo(ms: number, now: number): string {
  if (!Number.isFinite(ms)) return unknown;
  const seconds = (now - ms) / 1000;
  return seconds < 1 ? 'just now' : `${formatDuration(Math.floor(seconds))} ago`;
}
