import { describe, expect, test } from 'vitest';
import { anomaly, knownEvent, point, replay } from '../../testing/fixtures';
import { keepNewer, mergeReplay, resumeFrom, splitRange } from './replay';

describe('splitRange', () => {
  test('a short range is one part', () => expect(splitRange(0, 60_000, 5)).toEqual([[0, 60_000]]));
  test('a long one is cut at the limit', () => {
    expect(splitRange(0, 25_000, 1, 10)).toEqual([
      [0, 10_000],
      [10_000, 20_000],
      [20_000, 25_000],
    ]);
  });
  test('24 h at 5 s stay below what the server allows', () => {
    for (const [from, to] of splitRange(0, 86_400_000, 5)) expect((to - from) / 5000).toBeLessThan(11_000);
  });
  test('an empty range has no part', () => expect(splitRange(5, 5, 1)).toEqual([]));
});

describe('mergeReplay', () => {
  const known = replay([point(0, 1), point(10, 2), point(20, 3)], [anomaly({ id: 'a', state: 'firing' })]);

  test('the newer part wins where both know a point or an anomaly', () => {
    const newer = replay([point(20, 30), point(30, 4)], [anomaly({ id: 'a', state: 'resolved' }), anomaly({ id: 'b' })]);
    const merged = mergeReplay(known, newer, 0);
    expect(merged.points.map((p) => p.value)).toEqual([1, 2, 30, 4]);
    expect(merged.anomalies.map((a) => [a.id, a.state])).toEqual([
      ['a', 'resolved'],
      ['b', 'firing'],
    ]);
  });

  test('what left the window is dropped', () => {
    const merged = mergeReplay(known, replay([point(30, 4)], [anomaly({ id: 'old', resolved_at: new Date(5_000).toISOString() })]), 10_000);
    expect(merged.points.map((p) => p.value)).toEqual([2, 3, 4]);
    expect(merged.anomalies.map((a) => a.id)).toEqual(['a']);
  });

  test('known events that end before the newer part are kept, within it only those that it tells of', () => {
    const at = (id: string, from: number, to: number, name = id) => knownEvent({ id, name, from: new Date(from * 1000).toISOString(), to: new Date(to * 1000).toISOString() });
    const names = (r: { known_events?: { name: string }[] }) => r.known_events?.map((e) => e.name);
    const held = { ...known, known_events: [at('gone', 5, 25), at('deploy', 5, 21), at('past', 5, 12), at('left', 0, 3)] };
    const merged = mergeReplay(held, { ...replay([point(20, 3), point(30, 4)]), known_events: [at('deploy', 5, 21, 'renamed'), at('new', 28, 90)] }, 4_000);
    expect(names(merged)).toEqual(['renamed', 'new', 'past']);
    expect(names(mergeReplay(held, replay([]), 0)), 'a part without points is of no time').toHaveLength(4);
    expect(names(mergeReplay(undefined, held, 10_000))).toEqual(['gone', 'deploy', 'past']);
  });

  test('an empty newer part keeps everything', () => expect(mergeReplay(known, replay([]), 0).points).toHaveLength(3));
  test('the first part stands alone', () => expect(mergeReplay(undefined, known, 0)).toEqual(known));

  test('a window that passed the start of learning is not learning any more', () => {
    expect(mergeReplay({ ...known, learning: true }, replay([point(30, 4)]), 0).learning).toBe(false);
  });
});

test('an answer takes over what came to the cache while it was on its way', () => {
  const answer = replay([point(10, 1)]);
  const cached = { ...replay([point(10, 1), point(20, 2)]), outdated: 500 };
  expect(keepNewer(answer, cached, 400)).toMatchObject({ points: [{ value: 1 }, { value: 2 }], outdated: 500 });
  expect(keepNewer(answer, cached, 600), 'it was asked for after that').not.toHaveProperty('outdated');
  expect(keepNewer(answer, undefined, 400)).toBe(answer);
});

test('what is new is asked for from two steps before the last point', () => {
  expect(resumeFrom(replay([point(100, 1)]), 10, 0)).toBe(80_000);
  expect(resumeFrom(replay([point(100, 1)]), 10, 95_000)).toBe(95_000);
  expect(resumeFrom(undefined, 10, 7)).toBe(7);
});
