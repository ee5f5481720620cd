import type { Anomaly, Explanation } from '../../shared/api/types';
import { formatDuration } from '../../shared/format/duration';
import { formatValue } from '../../shared/format/number';
import { plainText, sentence } from '../../shared/format/text';
import { formatAgo, formatStamp, parseTime } from '../../shared/format/time';
import type { Unit } from '../../shared/format/unit';
import type { Tone } from '../../shared/ui/Badge';

/** On which side of the band a value lies. */
export function sideOf(a: Pick<Anomaly, 'value' | 'lower' | 'upper' | 'expected'>): 'above' | 'below' | 'off' {
  if (a.value == null) return 'off';
  if (a.upper != null && a.value > a.upper) return 'above';
  if (a.lower != null && a.value < a.lower) return 'below';
  if (a.expected == null) return 'off';
  return a.value >= a.expected ? 'above' : 'below';
}

/** When an anomaly was: an open one for how long and since when, one that is over how long ago and how long it lasted. */
export function timing(a: Pick<Anomaly, 'started_at' | 'resolved_at' | 'state'>, now: number): { head: string; detail: string } {
  const start = parseTime(a.started_at);
  const over = parseTime(a.resolved_at);
  if (a.state !== 'resolved' || Number.isNaN(over)) {
    return { head: `for ${formatDuration(Math.max(0, Math.floor((now - start) / 1000)))}`, detail: `since ${formatStamp(start, now)}` };
  }
  return { head: formatAgo(over, now), detail: `lasted ${formatDuration((over - start) / 1000)}` };
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

/**
 * What would have been normal: the server's sentence, or one with the unit of
 * the value where the server names the edge on the side of the peak.
 */
export function counterfactual(e: Pick<Explanation, 'anomaly' | 'counterfactual' | 'normal_above' | 'normal_below'>, unit: Unit): string {
  const { value, expected } = e.anomaly;
  const above = value != null && expected != null && value >= expected;
  const edge = above ? e.normal_above : e.normal_below;
  if (unit === 'none' || value == null || expected == null || edge?.normal == null) return sentence(e.counterfactual);
  return `${above ? 'Below' : 'Above'} ${formatValue(edge.normal, unit, 4)} it would have been normal: ${plainText(edge.gate)}.`;
}
