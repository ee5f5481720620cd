import type { Detector } from '../api/types';
import { formatValue } from './number';
import { plainText } from './text';

const names: Record<string, string> = {
  false_alarms_per_week: 'False alarms a week',
  direction: 'Direction',
  min_deviation: 'Least deviation',
  for: 'Lasts at least',
  keep_firing_for: 'Normal before it ends',
  refractory: 'Quiet afterwards',
  holidays: 'Holidays',
  time_zone: 'Time zone',
  missing_data: 'Missing data',
  model: 'Model',
  parameters: 'Parameters',
  retrain: 'Retraining',
  joint: 'Joint view',
  log: 'Log rule',
  name: 'Name',
  query: 'Query',
  source: 'Source',
  step: 'Step',
  signal: 'Signal',
  labels: 'Labels',
  enabled: 'Enabled',
  // What an alarm had to pass beside these.
  threshold: 'Threshold',
  hysteresis: 'Calm again',
};

/** The name of a field of a definition for people. */
export function fieldName(field: string): string {
  return names[field] ?? plainText(field);
}

const longest = 300;

/** Writes the value of a field of a definition; it comes from people and files, so it is bounded and made plain. */
export function fieldValue(field: string, value: unknown): string {
  const text = written(field, value);
  return plainText(text.length > longest ? `${text.slice(0, longest)}…` : text);
}

function written(field: string, value: unknown): string {
  if (value == null || value === '') return 'not set';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'number') return formatValue(value);
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map((v) => (typeof v === 'string' ? v : JSON.stringify(v))).join(', ');
  if (field === 'min_deviation') {
    const { absolute = 0, relative = 0 } = value as { absolute?: number; relative?: number };
    return leastDeviation(absolute, relative);
  }
  return JSON.stringify(value);
}

/** Writes the least deviation that is worth an alarm. */
export function leastDeviation(absolute: number, relative: number): string {
  const parts = [absolute > 0 && formatValue(absolute), relative > 0 && `${formatValue(100 * relative)} % of expected`].filter(Boolean);
  return parts.length === 0 ? 'none' : parts.join(' and ');
}

// Their scores are not estimated, so no amount of data makes them surer.
const fixed = new Set(['threshold', 'surprise']);

/** What the threshold rests on while there is less data than the asked rarity needs, else undefined. */
export function thinBasis(d: Pick<Detector, 'model'> & { status: Pick<Detector['status'], 'threshold_basis'> }): 'assumed' | 'extrapolated' | undefined {
  const basis = d.status.threshold_basis;
  return basis === 'counted' || fixed.has(d.model) ? undefined : basis;
}
