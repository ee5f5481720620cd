import type { Anomaly, DetectorPatch, FieldChange } from '../../shared/api/types';

/** What a definition makes of the past. */
export interface Counts {
  false: number;
  false_removed: number;
  true: number;
  true_kept: number;
  unlabelled: number;
  unlabelled_changed: number;
  added: number;
  alarms: number;
  alarms_per_week: number | null;
}

/** What a suggestion or a search found. */
export interface Suggestion {
  based_on: number;
  summary: string;
  improved: boolean;
  changes: FieldChange[];
  patch: DetectorPatch;
  from: string;
  to: string;
  before: Counts;
  after: Counts;
  unreproduced: number;
  evaluations: number;
  stopped: string;
}

/** What a definition would have done over a past range. */
export interface Backtest {
  from: string;
  to: string;
  series: number;
  samples: number;
  anomaly_count: number;
  anomalies: Anomaly[];
  alarms_per_week: number | null;
  false_alarms_per_week: number;
}

// The document of the API leaves open what the result of a task is, because it
// depends on the kind. What does not look like it is not shown as one.

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Reads the result of a suggestion or a search, or undefined when it is none. */
export function suggestionOf(result: unknown): Suggestion | undefined {
  if (!isObject(result) || !Array.isArray(result['changes']) || !isObject(result['patch']) || !isObject(result['before']) || !isObject(result['after'])) return undefined;
  return typeof result['based_on'] === 'number' ? (result as unknown as Suggestion) : undefined;
}

/** Reads the result of a backtest, or undefined when it is none. */
export function backtestOf(result: unknown): Backtest | undefined {
  if (!isObject(result) || typeof result['anomaly_count'] !== 'number' || !Array.isArray(result['anomalies'])) return undefined;
  return result as unknown as Backtest;
}
