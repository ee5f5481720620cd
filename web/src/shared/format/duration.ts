import { unknown } from './number';

const space = '\u00a0';
const minute = 60;
const hour = 60 * minute;
const day = 24 * hour;
const year = 365 * day;

/**
 * Writes a length of time in seconds for reading, two parts at most:
 * `850 ms`, `12 s`, `4 min 10 s`, `2 h 5 min`, `3 d 4 h`. Negative lengths,
 * which differing clocks cause, read as zero.
 */
export function formatDuration(seconds: number | null | undefined): string {
  if (seconds == null || !Number.isFinite(seconds)) return unknown;
  if (seconds <= 0) return `0${space}s`;
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))}${space}ms`;
  if (seconds < 10 && seconds % 1 >= 0.05) return `${seconds.toFixed(1)}${space}s`;
  const s = Math.round(seconds);
  if (s < minute) return `${s}${space}s`;
  if (s < hour) return parts(s, minute, 'min', 1, 's', 10 * minute);
  if (s < day) return parts(s, hour, 'h', minute, 'min', day);
  if (s < year) return parts(s, day, 'd', hour, 'h', 10 * day);
  return `${(s / year).toFixed(1)}${space}y`;
}

/** Writes a large unit and, below `fineBelow`, a small one beside it. */
function parts(s: number, large: number, largeName: string, small: number, smallName: string, fineBelow: number): string {
  const n = Math.floor(s / large);
  const rest = Math.floor((s % large) / small);
  const head = `${n}${space}${largeName}`;
  return rest > 0 && s < fineBelow ? `${head}${space}${rest}${space}${smallName}` : head;
}

const goUnits: Record<string, number> = {
  ns: 1e-9,
  us: 1e-6,
  µs: 1e-6,
  ms: 1e-3,
  s: 1,
  m: minute,
  h: hour,
  d: day,
  w: 7 * day,
};

/** Reads a Go duration such as `1h30m` into seconds, or NaN when it is none. */
export function parseGoDuration(text: string): number {
  if (text === '0') return 0;
  const whole = /^([0-9.]+(ns|us|µs|ms|s|m|h|d|w))+$/;
  if (!whole.test(text)) return NaN;
  let total = 0;
  for (const [, n, unit] of text.matchAll(/([0-9.]+)(ns|us|µs|ms|s|m|h|d|w)/g)) {
    total += Number(n) * goUnits[unit!]!;
  }
  return total;
}

const rarest = 10 * year;

/**
 * Writes how rare a value is, from the mean time between two such values on
 * its series. Beyond ten years no history backs a number, so none is given.
 */
export function formatRarity(onceInSeconds: number | null | undefined): string {
  if (onceInSeconds == null || Number.isNaN(onceInSeconds) || onceInSeconds <= 0) return unknown;
  const s = onceInSeconds;
  if (s > rarest) return 'less than once in 10 years';
  if (s < 1.5) return 'about every second';
  if (s < 90) return `once in ${count(s, 'second')}`;
  if (s < 90 * minute) return `once in ${count(s / minute, 'minute')}`;
  if (s < 36 * hour) return `once in ${count(s / hour, 'hour')}`;
  if (s < 60 * day) return `once in ${count(s / day, 'day')}`;
  if (s < 1.5 * year) return `once in ${count(s / (30.44 * day), 'month')}`;
  return `once in ${count(s / year, 'year')}`;
}

function count(n: number, unit: string): string {
  const whole = Math.round(n);
  return `${whole}${space}${unit}${whole === 1 ? '' : 's'}`;
}
