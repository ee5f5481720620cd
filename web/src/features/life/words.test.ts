import { expect, test } from 'vitest';
import { fieldName, fieldValue } from '../../shared/format/definition';
import { detector } from '../../testing/fixtures';
import { backtestOf, suggestionOf } from './results';
import { effects, warmUp } from './words';

test('below the data that the budget needs it says so', () => {
  expect(warmUp(detector({}, { threshold_basis: 'counted' }))).toEqual([]);
  expect(warmUp(detector({}, { threshold_basis: 'assumed' })).join()).toMatch(/less data than a budget of 1 a week needs/);
  expect(warmUp(detector({}, { threshold_basis: 'extrapolated', series_learning: 2 }))).toHaveLength(2);
  expect(warmUp(detector({ model: 'threshold' }, { threshold_basis: 'assumed' })), 'fixed bounds need no data').toEqual([]);
  expect(warmUp(detector({}, { drift: { share: 0.3, expected: 0.1, sum: 9, limit: 8, drifting: true, blocks: 40 } })).join()).toMatch(/30 % .* 10 % were promised/);
});

test('values of a definition are written for people, bounded and plain', () => {
  expect(fieldValue('for', null)).toBe('not set');
  expect(fieldValue('min_deviation', { absolute: 0, relative: 0.25 })).toBe('25 % of expected');
  expect(fieldValue('holidays', ['12-25', '2026-04-03'])).toBe('12-25, 2026-04-03');
  expect(fieldValue('labels', { team: 'shop' })).toBe('{"team":"shop"}');
  expect(fieldValue('query', 'a\u202eb')).toBe('a\\u202eb');
  expect(fieldValue('query', 'x'.repeat(5000)).length).toBeLessThan(400);
  expect(fieldName('false_alarms_per_week')).toBe('False alarms a week');
  expect(fieldName('new_field')).toBe('new_field');
});

const counts = { false: 14, false_removed: 12, true: 5, true_kept: 4, unlabelled: 0, unlabelled_changed: 0, added: 2, alarms: 20, alarms_per_week: 5 };

test('what a suggestion does to past alarms, with its losses marked', () => {
  expect(effects(counts)).toEqual([
    { name: 'False alarms removed', text: '12 of 14', tone: 'good' },
    { name: 'True alarms kept', text: '4 of 5', tone: 'bad' },
    { name: 'Unlabelled changed', text: 'there was none' },
    { name: 'Alarms added', text: '2', tone: 'warning' },
  ]);
});

test('a result of another shape is not taken for one', () => {
  expect(suggestionOf({ based_on: 1, changes: [], patch: {}, before: counts, after: counts })).toBeDefined();
  for (const odd of [null, 3, [], {}, { based_on: 1, changes: {}, patch: {}, before: {}, after: {} }]) expect(suggestionOf(odd)).toBeUndefined();
  expect(backtestOf({ anomaly_count: 0, anomalies: [] })).toBeDefined();
  for (const odd of [null, 'x', {}, { anomaly_count: '0', anomalies: [] }]) expect(backtestOf(odd)).toBeUndefined();
});
