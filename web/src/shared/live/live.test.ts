import { describe, expect, test } from 'vitest';
import { ApiError, problemFrom } from '../api/problem';
import { isStale, staleAfter } from './freshness';
import { chartPace, nextPoll, pace, polling } from './polling';
import { setPulse } from './pulse';

describe('polling', () => {
  test('a chart is asked for once per step, between 2 and 30 s, and seldom while its points come', () => {
    expect(chartPace(1)).toEqual({ live: 2000, away: 5000 });
    expect(chartPace(6)).toEqual({ live: 6000, away: 6000 });
    expect(chartPace(60)).toEqual({ live: 30_000, away: 30_000 });
    expect(chartPace(NaN).live).toBe(30_000);
    expect(chartPace(1, true)).toEqual({ live: 60_000, away: 5000 });
  });

  test('an error doubles the interval, and the server can ask for more', () => {
    const shed = new ApiError({ title: '', status: 503, detail: '', code: 'OVERLOADED', retryable: true, retry_after_ms: 12_000 });
    expect(nextPoll(3000, false, null)).toBe(3000);
    expect(nextPoll(3000, true, new Error('x'))).toBe(6000);
    expect(nextPoll(3000, true, shed)).toBe(12_000);
    expect(nextPoll(29_000, true, null)).toBe(30_000);
  });

  const state = { status: 'success', error: null, fetchFailureCount: 0, fetchFailureReason: null };

  test('a query that failed is asked again later', () => {
    const usual = polling({ live: 1000, away: 4000 })({ state });
    expect(usual).toBeGreaterThanOrEqual(3200);
    expect(usual).toBeLessThanOrEqual(4800);
    expect(polling({ live: 1000, away: 4000 })({ state: { ...state, fetchFailureCount: 1 } })).toBe(2 * usual);
    expect(polling({ live: 1000, away: 4000 })({ state: { ...state, status: 'error' } })).toBe(2 * usual);
  });

  test('while events arrive, what they tell is not asked for', () => {
    expect(polling(pace.anomalies)({ state })).toBeLessThan(15_000);
    setPulse({ live: true, confirmedAt: 0 });
    expect(polling(pace.anomalies)({ state })).toBe(Infinity);
    expect(polling(pace.detectors)({ state })).toBeLessThan(20_000);
    expect(polling(pace.anomalies)({ state: { ...state, status: 'error' } })).toBe(30_000);
    setPulse({ live: false, confirmedAt: 0 });
  });
});

describe('freshness', () => {
  const away = { live: false, confirmedAt: 0 };
  const polled = { live: 2000, away: 2000 };

  test('data is stale after three intervals, and not before 15 s', () => {
    expect(staleAfter(2000)).toBe(15_000);
    expect(staleAfter(10_000)).toBe(30_000);
    const query = { data: [], dataUpdatedAt: 1_000 };
    expect(isStale(query, polled, away, 16_000)).toBe(false);
    expect(isStale(query, polled, away, 16_001)).toBe(true);
  });

  test('what never came is not stale but missing, and what does not change is never stale', () => {
    expect(isStale({ data: undefined, dataUpdatedAt: 0 }, polled, away, 1e12)).toBe(false);
    expect(isStale({ data: [], dataUpdatedAt: 1 }, pace.never, away, 1e12)).toBe(false);
  });

  test('events keep what they tell fresh, and when they end it grows old', () => {
    const query = { data: [], dataUpdatedAt: 1_000 };
    expect(isStale(query, pace.anomalies, { live: true, confirmedAt: 0 }, 1e9)).toBe(false);
    expect(isStale(query, pace.detectors, { live: true, confirmedAt: 0 }, 1e9)).toBe(true);
    expect(isStale(query, pace.anomalies, { live: false, confirmedAt: 1e9 }, 1e9 + 30_000)).toBe(false);
    expect(isStale(query, pace.anomalies, { live: false, confirmedAt: 1e9 }, 1e9 + 30_001)).toBe(true);
  });
});

describe('problems', () => {
  test('a problem document is kept', () => {
    const p = problemFrom(404, { title: 'Not found', code: 'NOT_FOUND', detail: 'no detector', retryable: false, request_id: 'r1' });
    expect(p).toMatchObject({ status: 404, code: 'NOT_FOUND', detail: 'no detector', retryable: false, request_id: 'r1' });
  });

  test('a body that is none becomes one', () => {
    expect(problemFrom(502, '<html>')).toMatchObject({ code: 'UNEXPECTED_ANSWER', retryable: true });
    expect(problemFrom(418, null)).toMatchObject({ code: 'UNEXPECTED_ANSWER', retryable: false });
  });
});
