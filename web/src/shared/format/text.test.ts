import { describe, expect, test } from 'vitest';
import { distinguishing, seriesTitle, shortTitle } from './series';
import { plainText, sentence } from './text';
import { formatAgo, formatStamp, parseTime } from './time';
import { unitOf } from './unit';

test('controls and direction marks are written out, everything else stays', () => {
  expect(plainText('evil\u202egnp.exe')).toBe('evil\\u202egnp.exe');
  expect(plainText('\u001b[31mred\u0007')).toBe('\\u001b[31mred\\u0007');
  expect(plainText('zero\u200bwidth\ufeff')).toBe('zero\\u200bwidth\\ufeff');
  expect(plainText('<b>größer</b> 東京')).toBe('<b>größer</b> 東京');
});

test('half a sentence becomes a whole one', () => {
  expect(sentence('up to 3 it would have been normal')).toBe('Up to 3 it would have been normal.');
  expect(sentence('It is so.')).toBe('It is so.');
  expect(sentence('  ')).toBe('');
  expect(sentence('évil\u202e')).toBe('Évil\\u202e.');
});

describe('the names of series', () => {
  const a = { __name__: 'up', job: 'api', instance: 'a:1' };
  const b = { __name__: 'up', job: 'api', instance: 'b:1' };
  const c = { __name__: 'up', job: 'web', instance: 'b:1', zone: 'x' };

  test('a title has the metric name and all labels', () => expect(seriesTitle(a)).toBe('up instance=a:1, job=api'));
  test('a series without labels has a title', () => expect(seriesTitle({})).toBe('the only series'));
  test('one differing label is shown by its value alone', () => {
    const { differing, shared } = distinguishing([a, b]);
    expect(differing).toEqual(['instance']);
    expect(shared).toEqual({ __name__: 'up', job: 'api' });
    expect(shortTitle(b, differing)).toBe('b:1');
  });
  test('several are shown with their names', () => {
    const { differing } = distinguishing([a, b, c]);
    expect(differing).toEqual(['instance', 'job', 'zone']);
    expect(shortTitle(c, differing)).toBe('instance=b:1, job=web, zone=x');
    expect(shortTitle(a, differing)).toBe('instance=a:1, job=api');
  });
  test('a single series shows everything', () => expect(shortTitle(a, distinguishing([a]).differing)).toBe('up instance=a:1, job=api'));
});

describe('units', () => {
  test.each([
    ['node_memory_MemAvailable_bytes', 'bytes'],
    ['rate(node_network_receive_bytes_total{device!="lo"}[5m])', 'bytes/s'],
    ['histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{job="a"}[5m])))', 'seconds'],
    ['sum by (job) (rate(http_requests_total[5m]))', 'per second'],
    ['rate(process_cpu_seconds_total[1m])', 'none'],
    ['node_load1', 'none'],
    ['cache_hit_ratio', 'ratio'],
    ['count(up == 0)', 'none'],
    ['1 - node_filesystem_avail_bytes / node_filesystem_size_bytes', 'none'],
    ['100 * cache_hit_ratio', 'none'],
    ['thing{path="/x_bytes"}', 'none'],
    ['{job="x_seconds"}', 'none'],
  ] as const)('%s is in %s', (query, unit) => {
    expect(unitOf(query)).toBe(unit);
  });

  test('a label decides', () => {
    expect(unitOf('node_load1', { unit: 'percent' })).toBe('percent');
    expect(unitOf('node_load1', { unit: 'bytes_per_second' })).toBe('bytes/s');
    expect(unitOf('node_load1', { unit: 'requests_per_second' })).toBe('per second');
    expect(unitOf('x', { unit: 'cores' })).toBe('of cores');
    expect(unitOf('a_bytes', { unit: '<b>' })).toBe('bytes');
  });
});

describe('times', () => {
  const now = new Date(2026, 10, 23, 14, 0, 0).getTime();
  test('today is shown without its day', () => expect(formatStamp(now - 60_000, now)).toBe('13:59'));
  test('other days are shown with it', () => expect(formatStamp(now - 86_400_000, now)).toBe('22 Nov, 14:00'));
  test('how long ago', () => {
    expect(formatAgo(now - 12_400, now)).toBe('12\u00a0s ago');
    expect(formatAgo(now + 5000, now)).toBe('just now');
    expect(formatAgo(NaN, now)).toBe('–');
  });
  test('missing and zero times are no numbers', () => {
    expect(parseTime(undefined)).toBeNaN();
    expect(parseTime('0001-01-01T00:00:00Z')).toBeNaN();
    expect(parseTime('2026-11-23T00:00:00Z')).toBe(Date.UTC(2026, 10, 23));
  });
});
