import type { Anomaly } from '../../shared/api/types';
import { formatDuration } from '../../shared/format/duration';
import { formatAgo, parseTime } from '../../shared/format/time';
import type { Tone } from '../../shared/ui/Badge';

/** On which side of the band a value lies. */
export function sideOf(a: Pick<Anomaly, 'value' | 'lower' | 'upper' | 'expected'>): 'above' | 'below' | 'off' {
  if (a.value == null) return 'off';
  if (a.upper != null && a.value > a.upper) return 'above';
  if (a.lower != null && a.value < a.lower) return 'below';
  if (a.expected == null) return 'off';
  return a.value >= a.expected ? 'above' : 'below';
}

/** How long an anomaly lasts or lasted, and since when, in seconds and words. */
export function timing(a: Pick<Anomaly, 'started_at' | 'resolved_at' | 'state'>, now: number): string {
  const start = parseTime(a.started_at);
  const over = parseTime(a.resolved_at);
  if (a.state !== 'resolved' || Number.isNaN(over)) return `for ${formatDuration(Math.max(0, (now - start) / 1000))}`;
  return `${formatAgo(over, now)}, lasted ${formatDuration((over - start) / 1000)}`;
}

/** The state of an anomaly as people talk of it. */
export function standing(a: Pick<Anomaly, 'state' | 'acknowledged_at' | 'acknowledged_by'>): { word: string; tone: Tone } {
  if (a.state === 'resolved') return { word: 'resolved', tone: 'good' };
  if (a.acknowledged_at || a.acknowledged_by) return { word: 'acknowledged', tone: 'off' };
  return a.state === 'pending' ? { word: 'pending', tone: 'learning' } : { word: 'open', tone: 'bad' };
}

/** What people said of the alarm, or '' when nobody did. */
export function labelWord(label: boolean | null | undefined): string {
  return label == null ? '' : label ? 'true alarm' : 'false alarm';
}

/** Where the value and its band lie on a line from 0 to 1, for a small drawing; undefined when too little is known. */
export function gauge(a: Pick<Anomaly, 'value' | 'lower' | 'upper' | 'expected'>): { low: number; high: number; expected: number | null; value: number } | undefined {
  const { value, expected } = a;
  if (value == null || (a.lower == null && a.upper == null)) return undefined;
  const known = [value, a.lower, a.upper, expected].filter((v): v is number => v != null);
  const min = Math.min(...known);
  const max = Math.max(...known);
  const pad = (max - min || Math.abs(max) || 1) * 0.1;
  const at = (v: number) => (v - min + pad) / (max - min + 2 * pad);
  return { low: a.lower == null ? 0 : at(a.lower), high: a.upper == null ? 1 : at(a.upper), expected: expected == null ? null : at(expected), value: at(value) };
}
