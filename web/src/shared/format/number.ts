import type { Unit } from './unit';

/** What is shown where a number is unknown. */
export const unknown = '–';

const space = '\u00a0';

interface Scale {
  factor: number;
  suffix: string;
}

const decimalPrefixes: Scale[] = [
  { factor: 1e12, suffix: 'T' },
  { factor: 1e9, suffix: 'G' },
  { factor: 1e6, suffix: 'M' },
  { factor: 1e3, suffix: 'k' },
];

const binaryPrefixes: Scale[] = [
  { factor: 2 ** 50, suffix: 'PiB' },
  { factor: 2 ** 40, suffix: 'TiB' },
  { factor: 2 ** 30, suffix: 'GiB' },
  { factor: 2 ** 20, suffix: 'MiB' },
  { factor: 2 ** 10, suffix: 'KiB' },
];

const secondPrefixes: Scale[] = [
  { factor: 1, suffix: 's' },
  { factor: 1e-3, suffix: 'ms' },
  { factor: 1e-6, suffix: 'µs' },
  { factor: 1e-9, suffix: 'ns' },
];

/**
 * Chooses the factor and the suffix (with its space) in which a value of this
 * magnitude reads best. Plain numbers keep four digits before a prefix starts.
 */
export function scaleFor(magnitude: number, unit: Unit): Scale {
  const size = Math.abs(magnitude);
  switch (unit) {
    case 'ratio':
      return { factor: 0.01, suffix: `${space}%` };
    case 'percent':
      return { factor: 1, suffix: `${space}%` };
    case 'seconds': {
      if (size >= 3600) return { factor: 3600, suffix: `${space}h` };
      if (size >= 120) return { factor: 60, suffix: `${space}min` };
      const scale = secondPrefixes.find((p) => size >= p.factor) ?? secondPrefixes[0]!;
      return { factor: scale.factor, suffix: space + scale.suffix };
    }
    case 'bytes':
    case 'bytes/s': {
      const scale = binaryPrefixes.find((p) => size >= p.factor) ?? { factor: 1, suffix: 'B' };
      return { factor: scale.factor, suffix: space + scale.suffix + (unit === 'bytes/s' ? '/s' : '') };
    }
    case 'none':
    case 'per second':
    default: {
      const scale = size >= 1e4 ? decimalPrefixes.find((p) => size >= p.factor) : undefined;
      const after = unit === 'per second' ? '/s' : unit.startsWith('of ') ? space + unit.slice(3) : '';
      if (!scale) return { factor: 1, suffix: after };
      return { factor: scale.factor, suffix: space + scale.suffix + after };
    }
  }
}

/** Writes x with about `digits` significant digits, without trailing zeros. */
function significant(x: number, digits: number): string {
  if (x === 0) return '0';
  const size = Math.abs(x);
  if (size < 1e-4 || size >= 1e15) return x.toExponential(Math.max(0, digits - 2)).replace('e+', 'e');
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  const text = x.toFixed(Math.min(decimals, 8));
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/**
 * Writes a value with its unit for reading: `412 ms`, `1.2 GiB`, `45.2 %`,
 * `12.3 k`. Unknown values (null, NaN, infinities) are a dash.
 */
export function formatValue(value: number | null | undefined, unit: Unit = 'none', digits = 3): string {
  if (value == null || !Number.isFinite(value)) return unknown;
  const { factor, suffix } = scaleFor(value, unit);
  return significant(value / factor, digits) + suffix;
}

/**
 * Writes the band of normal values. A side that is open reads as "at most" or
 * "at least".
 */
export function formatBand(lower: number | null | undefined, upper: number | null | undefined, unit: Unit): string {
  const hasLower = lower != null && Number.isFinite(lower);
  const hasUpper = upper != null && Number.isFinite(upper);
  if (!hasLower && !hasUpper) return unknown;
  if (!hasLower) return `at most ${formatValue(upper, unit)}`;
  if (!hasUpper) return `at least ${formatValue(lower, unit)}`;
  const low = scaleFor(lower, unit);
  const high = scaleFor(upper, unit);
  if (lower !== 0 && low.suffix !== high.suffix) return `${formatValue(lower, unit)} to ${formatValue(upper, unit)}`;
  return `${significant(lower / high.factor, 3)} to ${significant(upper / high.factor, 3)}${high.suffix}`;
}

/** Writes a whole number with thousands separated: `12,480`. */
export function formatCount(n: number | null | undefined): string {
  if (n == null || !Number.isFinite(n)) return unknown;
  return Math.round(n).toLocaleString('en-US');
}

/** Writes a score: two digits, which is more than its calibration can tell apart. */
export function formatScore(score: number | null | undefined): string {
  if (score == null || !Number.isFinite(score)) return unknown;
  return score >= 100 ? score.toFixed(0) : score.toFixed(1);
}

/**
 * Writes the ticks of an axis: one unit for all of them and as many decimals
 * as the distance between two ticks needs.
 */
export function formatTicks(ticks: readonly number[], unit: Unit): string[] {
  const largest = ticks.reduce((m, t) => Math.max(m, Math.abs(t)), 0);
  const { factor, suffix } = scaleFor(largest, unit);
  const first = ticks[0] ?? 0;
  const distance = Math.abs((ticks[1] ?? first + 1) - first) / factor;
  const decimals = decimalsOf(distance);
  return ticks.map((t) => (t === 0 ? '0' : (t / factor).toFixed(decimals)) + suffix);
}

/** How many decimals a distance needs to be told exactly, but no more than two significant ones. */
function decimalsOf(distance: number): number {
  if (!(distance > 0)) return 0;
  const least = Math.max(0, Math.ceil(-Math.log10(distance) - 1e-9));
  const scaled = distance * 10 ** least;
  return Math.min(8, Math.abs(scaled - Math.round(scaled)) < 1e-6 ? least : least + 1);
}

const powersOfTwo = Array.from({ length: 61 }, (_, i) => 2 ** i);
const roundSeconds = [
  ...Array.from({ length: 10 }, (_, i) => 10 ** (i - 9)).flatMap((p) => [p, 2 * p, 2.5 * p, 5 * p]),
  10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 36_000, 86_400, 172_800, 432_000, 864_000,
];

/**
 * The distances between two ticks that read as round numbers in a unit, in
 * rising order, or undefined where those of decimal numbers do.
 */
export function tickDistances(unit: Unit): number[] | undefined {
  if (unit === 'bytes' || unit === 'bytes/s') return powersOfTwo;
  return unit === 'seconds' ? roundSeconds : undefined;
}
