import { describe, expect, test } from 'vitest';
import { anomaly, point, replay, series } from '../../testing/fixtures';
import { isRangeName } from '../../shared/ui/ranges';
import { formatTimeTicks } from './axis';
import { anomalousRuns, bandRuns, lastRow, toColumns, valueRange, verdictAt } from './columns';
import { matchSeries } from './matchSeries';
import { defaultRange, rangeAround, rangeReaching } from './ranges';
import { anomalyRegions, regionAt } from './regions';

const band = { expected: 5, lower: 3, upper: 8 };

describe('toColumns', () => {
  test('points become columns', () => {
    const c = toColumns(replay([point(10, 1, { ...band, score: 0.4 }), point(20, 2, { anomalous: true })]));
    expect(c).toEqual({ t: [10, 20], value: [1, 2], expected: [5, null], lower: [3, null], upper: [8, null], score: [0.4, 0], anomalous: [false, true] });
  });

  test('one missing step is one row of nulls', () => {
    const c = toColumns(replay([point(10, 1), point(30, 2)]));
    expect(c.t).toEqual([10, 20, 30]);
    expect(c.value).toEqual([1, null, 2]);
  });

  test('a long hole has a row at each end', () => {
    const c = toColumns(replay([point(10, 1), point(100, 2)]));
    expect(c.t).toEqual([10, 20, 90, 100]);
    expect(c.value).toEqual([1, null, null, 2]);
  });

  test('steps that come a little late are no hole', () => {
    expect(toColumns(replay([point(10, 1), point(24, 2)])).t).toEqual([10, 24]);
  });

  test('points out of order, twice or without a time are left out', () => {
    const c = toColumns(replay([point(20, 1), point(10, 2), point(20, 3), { ...point(0, 4), t: '' }, point(30, 5)]));
    expect(c.value).toEqual([1, 5]);
  });

  test('nothing becomes nothing', () => expect(toColumns(replay([])).t).toEqual([]));
});

describe('bandRuns', () => {
  test('a band ends where its edges end', () => {
    const c = toColumns(replay([point(10, 1), point(20, 1, band), point(30, 1, band), point(40, 1), point(50, 1, band)]));
    expect(bandRuns(c)).toEqual([
      [1, 2],
      [4, 4],
    ]);
  });

  test('it does not cross a hole', () => {
    const c = toColumns(replay([point(10, 1, band), point(20, 1, band), point(60, 1, band)]));
    expect(bandRuns(c)).toEqual([
      [0, 1],
      [4, 4],
    ]);
  });

  test('a side that opens starts a new run', () => {
    const c = toColumns(replay([point(10, 1, band), point(20, 1, { upper: 8 }), point(30, 1, { upper: 8 })]));
    expect(bandRuns(c)).toEqual([
      [0, 0],
      [1, 2],
    ]);
  });
});

test('anomalous values run together until a normal one or a hole', () => {
  const bad = { anomalous: true };
  const c = toColumns(replay([point(10, 1, bad), point(20, 1, bad), point(30, 1), point(40, 1, bad), point(80, 1, bad)]));
  expect(anomalousRuns(c)).toEqual([
    [0, 1],
    [3, 3],
    [6, 6],
  ]);
});

describe('valueRange', () => {
  const rangeOf = (...points: ReturnType<typeof point>[]) => valueRange(toColumns(replay(points)));

  test('holds values, expectations and band', () => {
    const [low, high] = rangeOf(point(10, 10, { expected: 9, lower: 8, upper: 12 }), point(20, 11));
    expect(low).toBeLessThan(8);
    expect(high).toBeGreaterThan(12);
  });

  test('a wild band does not flatten the values', () => {
    const [low, high] = rangeOf(point(10, 10, { lower: -1e9, upper: 1e9 }), point(20, 11));
    expect(high - low).toBeLessThan(6);
  });

  test('what is never negative has an axis that is not', () => expect(rangeOf(point(10, 0), point(20, 5))[0]).toBe(0));
  test('a constant has room around it', () => {
    const [low, high] = rangeOf(point(10, 4), point(20, 4));
    expect(low).toBeLessThan(4);
    expect(high).toBeGreaterThan(4);
  });
  test('a constant zero too', () => expect(rangeOf(point(10, 0))[1]).toBeGreaterThan(0));
  test('without values the band is shown', () => {
    const [low, high] = rangeOf(point(10, null, { lower: 3, upper: 8 }));
    expect([low < 3, high > 8]).toEqual([true, true]);
  });
  test('nothing is 0 to 1', () => expect(rangeOf()).toEqual([0, 1]));
});

test('the verdict of a row', () => {
  const c = toColumns(replay([point(10, 1), point(20, 1, band), point(30, 9, { ...band, anomalous: true }), point(50, null)]));
  expect([0, 1, 2, 3, 4].map((i) => verdictAt(c, i))).toEqual(['learning', 'normal', 'anomalous', 'no data', 'no data']);
  expect([1, 2, 3].map((i) => verdictAt(c, i, true))).toEqual(['learning', 'anomalous', 'no data']);
  expect(lastRow(c)).toBe(2);
  expect(lastRow(toColumns(replay([])))).toBe(-1);
});

describe('anomalyRegions', () => {
  const at = (seconds: number) => new Date(seconds * 1000).toISOString();

  test('an open one reaches to the end, a resolved one to its own', () => {
    const regions = anomalyRegions(
      [anomaly({ id: 'open', started_at: at(150) }), anomaly({ id: 'over', state: 'resolved', started_at: at(50), resolved_at: at(120), severity: 'critical' })],
      10,
      100,
      200,
    );
    expect(regions).toEqual([
      { id: 'over', from: 100, to: 120, severity: 'critical', open: false },
      { id: 'open', from: 150, to: 200, severity: 'warning', open: true },
    ]);
  });

  test('pending ones and those outside are left out', () => {
    const outside = anomaly({ state: 'resolved', started_at: at(10), resolved_at: at(20) });
    expect(anomalyRegions([anomaly({ state: 'pending', started_at: at(150) }), outside, anomaly({ started_at: at(300) })], 10, 100, 200)).toEqual([]);
  });

  test('none is narrower than a step', () => {
    expect(anomalyRegions([anomaly({ state: 'resolved', started_at: at(150), resolved_at: at(150) })], 10, 100, 200)[0]).toMatchObject({ from: 150, to: 160 });
  });

  test('the most recent region at a time is found', () => {
    const regions = anomalyRegions([anomaly({ id: 'a', started_at: at(110) }), anomaly({ id: 'b', started_at: at(150) })], 10, 100, 200);
    expect(regionAt(regions, 130)?.id).toBe('a');
    expect(regionAt(regions, 160)?.id).toBe('b');
    expect(regionAt(regions, 105)).toBeUndefined();
  });
});

describe('ranges', () => {
  test('names from the URL are checked', () => {
    expect(isRangeName('6h')).toBe(true);
    expect(isRangeName('toString')).toBe(false);
    expect(isRangeName(6)).toBe(false);
  });
  test('a young detector starts with a short range', () => {
    expect(defaultRange(0, 1_700_000)).toBe('15m');
    expect(defaultRange(0, 1_900_000)).toBe('1h');
    expect(defaultRange(NaN, 0)).toBe('1h');
  });
  test('the shortest that still reaches back is chosen', () => {
    expect(rangeReaching(60)).toBe('15m');
    expect(rangeReaching(3600)).toBe('6h');
    expect(rangeReaching(1e9)).toBe('24h');
  });
  test('around an anomaly lies more time before than after it, and never the future', () => {
    const now = 3_600_000;
    const [from, to] = rangeAround(anomaly({ started_at: new Date(now - 600_000).toISOString() }), 10, now);
    expect([from, to]).toEqual([now - 1_500_000, now]);
    const [, end] = rangeAround(anomaly({ state: 'resolved', started_at: new Date(0).toISOString(), resolved_at: new Date(600_000).toISOString() }), 10, now);
    expect(end).toBe(780_000);
  });
  test('a long anomaly is cut to what can be drawn', () => {
    const now = 1e12;
    const [from, to] = rangeAround(anomaly({ started_at: new Date(0).toISOString() }), 10, now);
    expect((to - from) / 10_000).toBeLessThan(3010);
  });
});

describe('matchSeries', () => {
  const all = [series({ job: 'API', instance: 'a' }), series({ job: 'web', instance: 'b' })];
  test('every word must be in some label', () => {
    expect(matchSeries(all, 'job=api a')).toEqual([all[0]]);
    expect(matchSeries(all, 'job="web"')).toEqual([all[1]]);
    expect(matchSeries(all, 'job=b')).toEqual([]);
  });
  test('no word finds all', () => expect(matchSeries(all, '  ')).toEqual(all));
});

test('time ticks have seconds only when they are close, and days at midnight', () => {
  const at = (h: number, m: number, s = 0) => new Date(2026, 10, 23, h, m, s).getTime() / 1000;
  expect(formatTimeTicks([at(14, 0), at(14, 5)], 300)).toEqual(['14:00', '14:05']);
  expect(formatTimeTicks([at(14, 0, 10)], 10)).toEqual(['14:00:10']);
  expect(formatTimeTicks([at(0, 0), at(1, 0)], 3600)).toEqual(['23 Nov', '01:00']);
});
