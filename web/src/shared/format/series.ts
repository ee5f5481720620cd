import { plainText } from './text';

/** The labels of a series. */
export type Labels = Record<string, string>;

/** The label that carries a series' metric name. */
export const metricName = '__name__';

/** The labels as pairs, the metric name left out, in the order of their names. */
export function labelPairs(labels: Labels): [name: string, value: string][] {
  return Object.keys(labels)
    .filter((n) => n !== metricName && labels[n] !== '')
    .sort()
    .map((n) => [n, labels[n]!]);
}

/** Writes a series on one line, without quotes: `node_load1 instance=a, job=b`. */
export function seriesTitle(labels: Labels): string {
  const pairs = labelPairs(labels).map(([n, v]) => `${n}=${v}`).join(', ');
  const title = [labels[metricName] ?? '', pairs].filter(Boolean).join(' ');
  return plainText(title || 'the only series');
}

/**
 * Splits labels into those that tell these series apart and those that all of
 * them share, so that a list shows only what differs.
 */
export function distinguishing(all: readonly Labels[]): { differing: string[]; shared: Labels } {
  const names = new Set(all.flatMap((l) => Object.keys(l)));
  const differing: string[] = [];
  const shared: Labels = {};
  for (const name of [...names].sort()) {
    const first = all[0]?.[name];
    if (all.length > 1 && all.some((l) => l[name] !== first)) differing.push(name);
    else if (first) shared[name] = first;
  }
  return { differing, shared };
}

/** Writes a series by the labels that tell it apart from the others. */
export function shortTitle(labels: Labels, differing: readonly string[]): string {
  const values = differing.filter((n) => labels[n]).map((n) => (differing.length === 1 ? labels[n]! : `${n}=${labels[n]}`));
  return values.length > 0 ? plainText(values.join(', ')) : seriesTitle(labels);
}

/** Writes a text as the server quotes it inside the key of a series. */
function quoted(text: string): string {
  // JSON escapes the same, but for the controls without a letter of their own.
  return JSON.stringify(text).replace(/\\u00([0-9a-f]{2})|\u007f/g, (whole, hex?: string) => (hex === undefined ? '\\x7f' : hex === '07' ? '\\a' : hex === '0b' ? '\\v' : whole.startsWith('\\u00') ? `\\x${hex}` : whole));
}

/** The key of a series, as the server writes it: `{job="api", route="/"}`. */
export function seriesKey(labels: Labels): string {
  const pairs = Object.keys(labels)
    .filter((n) => labels[n] !== '')
    .sort((a, b) => (a < b ? -1 : 1))
    .map((n) => `${n}=${quoted(labels[n]!)}`);
  return `{${pairs.join(', ')}}`;
}
