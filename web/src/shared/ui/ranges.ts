/** The ranges of time that end now, by the name they have in the URL. */
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
