import { describe, expect, test } from 'vitest';
import { anomaly } from '../../testing/fixtures';
import { applied } from './mutations';
import { counterfactual, gauge, labelWord, sideOf, standing, timing } from './describe';

describe('counterfactual', () => {
  const edge = { normal: 0.0549535, anomalous: 0.05495351, gate: 'the deviation is too small' };
  const e = { anomaly: anomaly({ value: 0.412, expected: 0.13 }), counterfactual: 'below 0.05495 it would have been normal', normal_above: edge };
  test('in the unit of the value where the edge is known', () => expect(counterfactual(e, 'seconds')).toBe('Below 54.95\u00a0ms it would have been normal: the deviation is too small.'));
  test('in the words of the server without a unit, or without an edge on that side', () => {
    expect(counterfactual(e, 'none')).toBe('Below 0.05495 it would have been normal.');
    expect(counterfactual({ ...e, anomaly: anomaly({ value: 0.01, expected: 0.13 }) }, 'seconds')).toBe('Below 0.05495 it would have been normal.');
  });
});

const at = (seconds: number) => new Date(seconds * 1000).toISOString();

describe('sideOf', () => {
  test.each([
    [{ value: 9, lower: 3, upper: 8 }, 'above'],
    [{ value: 1, lower: 3, upper: 8 }, 'below'],
    [{ value: 9, lower: null, upper: null, expected: 5 }, 'above'],
    [{ value: 4, lower: 3, upper: 8, expected: 5 }, 'below'],
    [{ value: null }, 'off'],
    [{ value: 5, lower: null, upper: null, expected: null }, 'off'],
  ] as const)('%o is %s', (values, side) => {
    expect(sideOf(anomaly(values))).toBe(side);
  });
});

test('an open anomaly tells for how long, one that is over how long ago', () => {
  const now = 1_000_000;
  expect(timing(anomaly({ started_at: at(880) }), now)).toMatchObject({ head: 'for 2\u00a0min' });
  expect(timing(anomaly({ state: 'resolved', started_at: at(400), resolved_at: at(460) }), now)).toEqual({ head: '9\u00a0min ago', detail: 'lasted 1\u00a0min' });
  expect(timing(anomaly({ started_at: at(2000) }), now).head).toBe('for 0\u00a0s');
});

test('the standing of an anomaly', () => {
  expect(standing(anomaly()).word).toBe('open');
  expect(standing(anomaly({ state: 'pending' })).word).toBe('pending');
  expect(standing(anomaly({ acknowledged_by: 'ada' })).word).toBe('acknowledged');
  expect(standing(anomaly({ acknowledged_by: 'ada', state: 'resolved' })).word).toBe('resolved');
  expect([true, false, null].map(labelWord)).toEqual(['true alarm', 'false alarm', '']);
});

describe('gauge', () => {
  test('value, band and expectation lie in order between 0 and 1', () => {
    const g = gauge(anomaly({ value: 20, lower: 5, upper: 10, expected: 8 }))!;
    expect(0 < g.low && g.low < g.expected! && g.expected! < g.high && g.high < g.value && g.value < 1).toBe(true);
  });
  test('an open side reaches to the end', () => {
    expect(gauge(anomaly({ value: 20, lower: null, upper: 10 }))!.low).toBe(0);
    expect(gauge(anomaly({ value: 1, lower: 5, upper: null }))!.high).toBe(1);
  });
  test('without a value or a band there is none', () => {
    expect(gauge(anomaly({ value: null }))).toBeUndefined();
    expect(gauge(anomaly({ lower: null, upper: null }))).toBeUndefined();
  });
  test('a band without width is no division by zero', () => {
    expect(Object.values(gauge(anomaly({ value: 0, lower: 0, upper: 0, expected: 0 }))!).every((v) => Number.isFinite(v))).toBe(true);
  });
});

test('a change shows as it will be, and keeps who was first', () => {
  expect(applied(anomaly(), { kind: 'acknowledge' }, 0)).toMatchObject({ acknowledged_by: 'you', acknowledged_at: at(0) });
  expect(applied(anomaly({ acknowledged_by: 'ada', acknowledged_at: at(5) }), { kind: 'acknowledge' }, 0)).toMatchObject({ acknowledged_by: 'ada', acknowledged_at: at(5) });
  expect(applied(anomaly({ label: true }), { kind: 'label', label: null }, 0).label).toBeNull();
});
