/** The units that values are written in. `none` is a plain number, `of cores` is a number of cores. */
export type Unit = 'none' | 'seconds' | 'bytes' | 'bytes/s' | 'per second' | 'ratio' | 'percent' | `of ${string}`;

/** What a label `unit` can say. */
const named: Record<string, Unit> = {
  none: 'none',
  count: 'none',
  seconds: 'seconds',
  bytes: 'bytes',
  bytes_per_second: 'bytes/s',
  per_second: 'per second',
  ratio: 'ratio',
  percent: 'percent',
};

/**
 * Tells the unit of a detector's values. A label `unit` decides. Without it
 * the unit follows from the names of the metrics in the query, by Prometheus'
 * naming rules, and only where no arithmetic could have changed it: a wrong
 * unit misleads more than a missing one.
 */
export function unitOf(query: string, labels?: Record<string, string>): Unit {
  const said = labels?.['unit'] ?? '';
  if (Object.hasOwn(named, said)) return named[said]!;
  if (said.endsWith('_per_second')) return 'per second';
  if (/^[A-Za-z]{1,12}$/.test(said)) return `of ${said}`;

  const bare = query.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, '""').replace(/\{[^}]*\}|\[[^\]]*\]/g, '');
  if (/[*/%^]/.test(bare)) return 'none';
  const rate = /\b(rate|irate|deriv)\s*\(/.test(bare);
  if (/\bhistogram_quantile\s*\(/.test(bare)) return /_seconds\b|_seconds_bucket\b/.test(bare) ? 'seconds' : /_bytes(_bucket)?\b/.test(bare) ? 'bytes' : 'none';
  if (/\b(count|count_values|absent|changes|resets|increase)\s*(by|without)?\s*\(/.test(bare)) return 'none';
  if (rate) {
    if (/_bytes(_total)?\b/.test(bare)) return 'bytes/s';
    return /_seconds(_total|_sum)?\b/.test(bare) ? 'none' : 'per second';
  }
  if (/_bytes\b/.test(bare)) return 'bytes';
  if (/_seconds\b/.test(bare)) return 'seconds';
  if (/_ratio\b/.test(bare)) return 'ratio';
  if (/_percent\b/.test(bare)) return 'percent';
  return 'none';
}
