import { describe, expect, test } from 'vitest';
import { detector } from '../../testing/fixtures';
import { definitionWith, draftOf, faultsOf, learnsAnew, patchOf, searchDraftOf, searchOf } from './draft';

const d = detector({ min_deviation: { absolute: 0.05, relative: 0.07 }, holidays: ['12-25'], time_zone: 'Europe/Berlin', parameters: { window: 150 } });

describe('a draft', () => {
  test('that nobody touched changes nothing and has no fault', () => {
    expect(patchOf(d, draftOf(d))).toEqual({});
    expect(faultsOf(draftOf(d))).toEqual({});
  });

  test('becomes a patch of what was changed only', () => {
    const draft = { ...draftOf(d), budget: '0.5', relative: '29', for: ' 2m ', holidays: '12-25, 12-24=saturday\n2026-04-03' };
    expect(patchOf(d, draft)).toEqual({ false_alarms_per_week: 0.5, min_deviation: { absolute: 0.05, relative: 0.29 }, for: '2m', holidays: ['12-25', '12-24=saturday', '2026-04-03'] });
  });

  test('takes away what was emptied', () => {
    expect(patchOf(d, { ...draftOf(d), holidays: ' ', timeZone: '' })).toEqual({ holidays: null, time_zone: null });
  });

  test('for another model leaves the parameters of the old one behind, and learns anew', () => {
    const patch = patchOf(d, { ...draftOf(d), model: 'ewma' });
    expect(patch).toEqual({ model: 'ewma', parameters: null });
    expect(learnsAnew(patch)).toBe(true);
    expect(learnsAnew({ for: '2m' })).toBe(false);
  });

  test.each([
    ['budget', '0'],
    ['budget', ''],
    ['absolute', '-1'],
    ['relative', 'a lot'],
    ['for', '2 minutes'],
    ['keep', ''],
    ['model', ' '],
    ['holidays', '12-25, Christmas'],
    ['holidays', '12-24=holiday'],
  ] as const)('with a fault in %s: %j', (field, value) => {
    expect(Object.keys(faultsOf({ ...draftOf(d), [field]: value }))).toEqual([field]);
  });
});

test('a definition to backtest has the changes and nothing that only the server says', () => {
  const definition = definitionWith(d, { for: '2m', holidays: null });
  expect(definition).toMatchObject({ name: 'latency', for: '2m', time_zone: 'Europe/Berlin' });
  for (const field of ['id', 'status', 'version', 'provisioned', 'holidays', 'created_at']) expect(definition).not.toHaveProperty(field);
});

describe('a search', () => {
  test('begins around what is in force', () => {
    expect(searchOf(searchDraftOf(d))).toEqual({
      space: { models: ['auto'], false_alarms_per_week: [0.1, 0.33, 1], min_deviation_relative: [0, 0.07, 0.1, 0.25], for: ['0s', '1m', '5m'] },
      days: 30,
      time: '600s',
    });
  });

  test.each([{ budgets: '0' }, { relatives: 'x' }, { fors: 'soon' }, { days: '91' }, { days: '1.5' }, { minutes: '0' }])('is not sent with %j', (wrong) => {
    expect(searchOf({ ...searchDraftOf(d), ...wrong })).toBeUndefined();
  });
});
