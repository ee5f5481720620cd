import { describe, expect, test } from 'vitest';
import { ApiError, problemFrom } from '../api/problem';
import { isStale, staleAfter } from './freshness';
import { chartInterval, nextPoll, polling } from './polling';

describe('polling', () => {
  test('a chart is asked for twice per step, between 2 and 5 s', () => {
    expect(chartInterval(1)).toBe(2000);
    expect(chartInterval(6)).toBe(3000);
    expect(chartInterval(60)).toBe(5000);
    expect(chartInterval(NaN)).toBe(5000);
  });

  test('an error doubles the interval, and the server can ask for more', () => {
    const shed = new ApiError({ title: '', status: 503, detail: '', code: 'OVERLOADED', retryable: true, retry_after_ms: 12_000 });
    expect(nextPoll(3000, false, null)).toBe(3000);
    expect(nextPoll(3000, true, new Error('x'))).toBe(6000);
    expect(nextPoll(3000, true, shed)).toBe(12_000);
    expect(nextPoll(29_000, true, null)).toBe(30_000);
  });

  test('a query that failed is asked again later', () => {
    const state = { status: 'success', error: null, fetchFailureCount: 0, fetchFailureReason: null };
    expect(polling(4000)({ state })).toBe(4000);
    expect(polling(4000)({ state: { ...state, fetchFailureCount: 1 } })).toBe(8000);
    expect(polling(4000)({ state: { ...state, status: 'error' } })).toBe(8000);
  });
});

describe('freshness', () => {
  test('data is stale after four intervals, and not before 15 s', () => {
    expect(staleAfter(2000)).toBe(15_000);
    expect(staleAfter(10_000)).toBe(40_000);
    const query = { data: [], dataUpdatedAt: 1_000 };
    expect(isStale(query, 2000, 16_000)).toBe(false);
    expect(isStale(query, 2000, 16_001)).toBe(true);
  });

  test('what never came is not stale but missing', () => {
    expect(isStale({ data: undefined, dataUpdatedAt: 0 }, 2000, 1e12)).toBe(false);
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
