import type { Anomaly, Severity } from '../../shared/api/types';
import { parseTime } from '../../shared/format/time';

/** The time that an anomaly takes on a chart, in seconds. */
export interface Region {
  id: string;
  from: number;
  to: number;
  severity: Severity;
  open: boolean;
}

/**
 * The regions of the anomalies that touch the time from `from` to `to`, cut to
 * it, the oldest first. An open anomaly reaches to the end, and none is
 * narrower than a step. Pending ones are no anomalies yet and are left out.
 */
export function anomalyRegions(anomalies: readonly Anomaly[], stepSeconds: number, from: number, to: number): Region[] {
  const regions: Region[] = [];
  for (const a of anomalies) {
    if (a.state === 'pending') continue;
    const start = parseTime(a.started_at) / 1000;
    const over = parseTime(a.resolved_at) / 1000;
    const open = a.state !== 'resolved' || Number.isNaN(over);
    const end = open ? to : Math.max(over, start + stepSeconds);
    if (!(start < to) || end < from) continue;
    regions.push({ id: a.id, from: Math.max(start, from), to: Math.min(end, to), severity: a.severity, open });
  }
  return regions.sort((a, b) => a.from - b.from);
}

/** The region that covers a time, the most recent where several do. */
export function regionAt(regions: readonly Region[], t: number): Region | undefined {
  return regions.findLast((r) => t >= r.from && t <= r.to);
}
