import { expect, test } from 'vitest';
import { ApiError } from '../../shared/api/problem';
import { knownEvent } from '../../testing/fixtures';
import { byWhen, fromNow, knownDraftOf, knownFaultsOf, knownInputOf, labelsOf, labelsText, localTime, refusedOf, whenOf } from './knownDraft';

const noon = new Date(2026, 10, 28, 12, 0, 42).getTime();
const draft = { ...knownDraftOf(undefined, noon), name: 'upgrade' };
const iso = (ms: number) => new Date(ms).toISOString();

test('times are those of the reader, and begin with the minute', () => {
  expect(localTime(noon)).toBe('2026-11-28T12:00:42');
  expect(fromNow(noon, 4)).toEqual({ from: '2026-11-28T12:00', to: '2026-11-28T16:00' });
  expect(knownInputOf(draft, 'det_a')).toEqual({ name: 'upgrade', from: iso(noon - 42_000), to: iso(noon + 3_600_000 - 42_000), mute: false, matchers: {}, detector_id: 'det_a' });
});

test('labels are read as people write them', () => {
  expect(labelsOf('')).toEqual({});
  expect(labelsOf(' job = shop , instance="db-1:9090",mode=a=b, gone=')).toEqual({ job: 'shop', instance: 'db-1:9090', mode: 'a=b', gone: '' });
  expect(labelsOf('path="a, \\"b\\"", job=x y,')).toEqual({ path: 'a, "b"', job: 'x y' });
  expect(Object.keys(labelsOf('__proto__=x')!)).toEqual(['__proto__']);
  for (const odd of ['job', '=x', 'job=a, job=b', 'job="a', 'job="a"b', ',', 'job="\\x"']) expect(labelsOf(odd), odd).toBeUndefined();
  const kept = { 'a=b': 'c, "d"\n', job: 'shop', rtl: '\u202egnp', empty: '', back: 'a\\b' };
  expect(labelsText(kept)).not.toContain('\u202e');
  expect(labelsOf(labelsText(kept))).toEqual(kept);
});

test('what cannot be sent is said by field', () => {
  expect(knownFaultsOf(draft)).toEqual({});
  const sixteen = Array.from({ length: 16 }, (_, i) => `l${i}=x`).join();
  expect(knownFaultsOf({ ...draft, to: draft.from, labels: sixteen }), 'a moment, and as many labels as may be').toEqual({});
  expect(knownFaultsOf({ ...draft, to: '2027-02-26T12:00' }), '90 days').toEqual({});
  expect(Object.keys(knownFaultsOf({ ...draft, name: ' ', from: '', to: '', labels: 'job' }))).toEqual(['name', 'from', 'to', 'labels']);
  expect(knownFaultsOf({ ...draft, to: '2026-11-28T11:59' }).to).toBe('It ends before it begins.');
  expect(knownFaultsOf({ ...draft, to: '2027-03-01T00:00' }).to).toMatch(/90 days/);
  expect(knownFaultsOf({ ...draft, labels: Array.from({ length: 17 }, (_, i) => `l${i}=x`).join() }).labels).toMatch(/16/);
  const problem = { title: 'Not valid', status: 422, code: 'VALIDATION_ERROR', detail: '', retryable: false };
  const errors = [['/matchers/a', 'too long'], ['/matchers/b', 'too short'], ['/detector_id', 'unknown'], ['/what', 'else']].map(([pointer, detail]) => ({ pointer: pointer!, code: 'invalid', detail: detail! }));
  expect(refusedOf(new ApiError({ ...problem, errors }))).toEqual({ labels: 'Too long.', scope: 'Unknown.' });
  expect(refusedOf(null)).toEqual({});
});

test('a stored event is read for whom it counts', () => {
  expect(knownDraftOf(knownEvent({ detector_id: 'det_a' }), noon).scope).toBe('this');
  expect(knownDraftOf(knownEvent(), noon).scope).toBe('all');
});

test('what was not touched of a stored event stays as exact as it was', () => {
  const e = knownEvent({ name: ' spaced ', from: '2026-11-28T10:00:00.123Z', to: '2026-11-28T11:00:07.5Z', matchers: { job: 'a, b' }, mute: true });
  const stored = knownDraftOf(e, noon);
  expect(knownInputOf(stored, 'det_a', e)).toEqual({ name: ' spaced ', from: e.from, to: e.to, matchers: e.matchers, mute: true });
  expect(knownInputOf({ ...stored, from: '2026-11-28T12:00', scope: 'this' }, 'det_a', e)).toMatchObject({ from: iso(noon - 42_000), to: e.to, detector_id: 'det_a' });
});

test('begin and end count as inside, and those that run come first', () => {
  const at = (id: string, from: number, to: number) => knownEvent({ id, from: iso(noon + from), to: iso(noon + to) });
  const all = [at('far', 9, 10), at('soon', 1, 2), at('ends', -5, 0), at('runs', -1, 1), at('over', -9, -1), at('begins', 0, 1)];
  expect(all.map((e) => whenOf(e, noon))).toEqual(['upcoming', 'upcoming', 'now', 'now', 'past', 'now']);
  expect(byWhen(all, noon).map((e) => e.id)).toEqual(['begins', 'runs', 'ends', 'far', 'soon', 'over']);
});
