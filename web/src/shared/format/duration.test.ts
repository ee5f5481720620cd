import { describe, expect, test } from 'vitest';
import { formatDuration, formatRarity, parseGoDuration } from './duration';

const nb = (text: string) => text.replaceAll(' ', '\u00a0');

test.each([
  [0, '0 s'],
  [-4, '0 s'],
  [0.0004, '1 ms'],
  [0.85, '850 ms'],
  [1, '1 s'],
  [1.26, '1.3 s'],
  [59.6, '1 min'],
  [59, '59 s'],
  [250, '4 min 10 s'],
  [600, '10 min'],
  [1999, '33 min'],
  [7500, '2 h 5 min'],
  [273_600, '3 d 4 h'],
  [950_400, '11 d'],
  [47_304_000, '1.5 y'],
])('%s s reads %s', (seconds, text) => {
  expect(formatDuration(seconds)).toBe(nb(text));
});

test('an unknown length is a dash', () => {
  expect(formatDuration(undefined)).toBe('–');
  expect(formatDuration(NaN)).toBe('–');
});

test.each([
  ['30s', 30],
  ['5m', 300],
  ['1h30m', 5400],
  ['1.5s', 1.5],
  ['250ms', 0.25],
  ['7d', 604_800],
  ['0', 0],
])('the Go duration %s is %s s', (text, seconds) => {
  expect(parseGoDuration(text)).toBeCloseTo(seconds, 9);
});

test.each(['', '30', 's', '5 m', '1h ago'])('%j is no Go duration', (text) => {
  expect(parseGoDuration(text)).toBeNaN();
});

describe('formatRarity', () => {
  const day = 86_400;
  test.each([
    [1, 'about every second'],
    [40, 'once in 40 seconds'],
    [3600, 'once in 60 minutes'],
    [5 * 3600, 'once in 5 hours'],
    [12 * day, 'once in 12 days'],
    [90 * day, 'once in 3 months'],
    [2 * 365 * day, 'once in 2 years'],
    [40 * 365 * day, 'less than once in 10 years'],
    [Infinity, 'less than once in 10 years'],
  ])('%s s reads %s', (seconds, text) => {
    expect(formatRarity(seconds).replaceAll('\u00a0', ' ')).toBe(text);
  });

  test.each([null, undefined, NaN, 0, -1])('%s is a dash', (seconds) => {
    expect(formatRarity(seconds)).toBe('–');
  });
});
