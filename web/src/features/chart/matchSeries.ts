import type { SeriesStatus } from '../../shared/api/types';

/**
 * The series whose labels hold every word of the search, in any order and
 * without regard to case. `name=value` matches inside one label.
 */
export function matchSeries(series: readonly SeriesStatus[], search: string): SeriesStatus[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [...series];
  return series.filter((s) => {
    const labels = Object.entries(s.series.labels).map(([n, v]) => `${n}=${v}`.toLowerCase());
    return words.every((w) => labels.some((l) => l.includes(w.replaceAll('"', ''))));
  });
}
