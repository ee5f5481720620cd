import type { Detector } from '../../shared/api/types';

/** Tells whether a person should look at a detector: it found something, or it cannot do its work. */
export function needsAttention(d: Detector): boolean {
  return d.status.open_anomalies > 0 || d.status.state === 'failed' || d.status.state === 'degraded';
}

/** What the list shows. */
export interface Selection {
  filter: string;
  attention: boolean;
}

/**
 * The detectors whose name, source, query or labels hold every word of the
 * filter, by name. The order does not depend on what changes from second to
 * second, so that rows stay where they are.
 */
export function selectDetectors(all: readonly Detector[], { filter, attention }: Selection): Detector[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return all
    .filter((d) => {
      if (attention && !needsAttention(d)) return false;
      if (words.length === 0) return true;
      const labels = Object.entries(d.labels ?? {}).map(([n, v]) => `${n}=${v}`);
      const text = [d.name, d.source, d.query, d.model, d.status.state, ...labels].join('\n').toLowerCase();
      return words.every((w) => text.includes(w));
    })
    .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
}

/** The detector that the page shows when the URL names none: the first by name that found something, else the first. */
export function defaultDetector(all: readonly Detector[]): Detector | undefined {
  const sorted = selectDetectors(all, { filter: '', attention: false });
  return sorted.find((d) => d.status.open_anomalies > 0) ?? sorted[0];
}

/** The numbers over all detectors. */
export interface Totals {
  detectors: number;
  byState: Record<Detector['status']['state'], number>;
  series: number;
  learning: number;
  openAnomalies: number;
  attention: number;
  /** How many detectors have open anomalies. */
  alarmed: number;
  /** Tolerable false alarms of all enabled detectors in a week. */
  budget: number;
  /** The detector that is furthest behind, where one runs at all. */
  slowest: Detector | undefined;
}

/** Adds the detectors up. */
export function totalsOf(all: readonly Detector[]): Totals {
  const totals: Totals = {
    detectors: all.length,
    byState: { running: 0, learning: 0, degraded: 0, failed: 0, stopped: 0 },
    series: 0,
    learning: 0,
    openAnomalies: 0,
    attention: 0,
    alarmed: 0,
    budget: 0,
    slowest: undefined,
  };
  for (const d of all) {
    totals.byState[d.status.state]++;
    totals.series += seriesOf(d);
    totals.learning += d.status.series_learning;
    totals.openAnomalies += d.status.open_anomalies;
    if (needsAttention(d)) totals.attention++;
    if (d.status.open_anomalies > 0) totals.alarmed++;
    if (!d.enabled || d.status.state === 'stopped') continue;
    totals.budget += d.false_alarms_per_week;
    if (d.status.last_evaluated_at && d.status.lag_seconds > (totals.slowest?.status.lag_seconds ?? -1)) totals.slowest = d;
  }
  return totals;
}

/** How many series a detector watches, those still learning included. */
export function seriesOf(d: Detector): number {
  return d.status.series_active;
}
