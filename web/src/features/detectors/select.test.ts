import { describe, expect, test } from 'vitest';
import { detector } from '../../testing/fixtures';
import { defaultDetector, needsAttention, selectDetectors, totalsOf } from './select';

const calm = detector({ id: 'a', name: 'b calm', labels: { team: 'Shop' } }, { series_active: 10 });
const alarmed = detector({ id: 'b', name: 'c alarmed' }, { open_anomalies: 2, lag_seconds: 3 });
const failed = detector({ id: 'c', name: 'a failed', false_alarms_per_week: 2 }, { state: 'failed', last_evaluated_at: undefined, lag_seconds: 900 });
const stopped = detector({ id: 'd', name: 'd10', enabled: false, false_alarms_per_week: 5 }, { state: 'stopped', lag_seconds: 1e6 });
const ninth = detector({ id: 'e', name: 'd9' }, { state: 'learning', series_learning: 1 });
const all = [stopped, ninth, failed, alarmed, calm];
const ids = (found: { id: string }[]) => found.map((d) => d.id).join('');

describe('selectDetectors', () => {
  test('by name, numbers by their value', () => expect(ids(selectDetectors(all, { filter: '', attention: false }))).toBe('cabed'));
  test('every word of the filter must be somewhere', () => {
    expect(ids(selectDetectors(all, { filter: 'TEAM=shop calm', attention: false }))).toBe('a');
    expect(ids(selectDetectors(all, { filter: 'learning', attention: false }))).toBe('e');
    expect(ids(selectDetectors(all, { filter: 'calm alarmed', attention: false }))).toBe('');
  });
  test('attention: those that found something or cannot work', () => expect(ids(selectDetectors(all, { filter: '', attention: true }))).toBe('cb'));
});

test('a degraded detector needs attention, a learning one does not', () => {
  expect(needsAttention(detector({}, { state: 'degraded' }))).toBe(true);
  expect(needsAttention(ninth)).toBe(false);
});

test('without a choice the first that found something is shown, else the first', () => {
  expect(defaultDetector(all)).toBe(alarmed);
  expect(defaultDetector([stopped, calm])).toBe(calm);
  expect(defaultDetector([])).toBeUndefined();
});

test('the totals leave stopped detectors out of budget and lag', () => {
  expect(totalsOf(all)).toEqual({
    detectors: 5,
    byState: { running: 2, learning: 1, degraded: 0, failed: 1, stopped: 1 },
    series: 14,
    learning: 1,
    openAnomalies: 2,
    attention: 2,
    alarmed: 1,
    budget: 5,
    slowest: alarmed,
  });
});
