import { describe, expect, test } from 'vitest';
import { formatBand, formatCount, formatScore, formatTicks, formatValue, tickDistances } from './number';

const nb = (text: string) => text.replaceAll(' ', '\u00a0');

describe('formatValue', () => {
  test.each([
    [0, 'none', '0'],
    [12.3456, 'none', '12.3'],
    [1234, 'none', '1234'],
    [12345, 'none', '12.3 k'],
    [-2_500_000, 'none', '-2.5 M'],
    [0.000012, 'none', '1.2e-5'],
    [100, 'none', '100'],
    [0.412, 'seconds', '412 ms'],
    [0.0000031, 'seconds', '3.1 µs'],
    [90, 'seconds', '90 s'],
    [600, 'seconds', '10 min'],
    [7200, 'seconds', '2 h'],
    [0, 'seconds', '0 s'],
    [1536, 'bytes', '1.5 KiB'],
    [9_400_000_000, 'bytes', '8.75 GiB'],
    [3, 'bytes', '3 B'],
    [1_400_000, 'bytes/s', '1.34 MiB/s'],
    [4.12, 'per second', '4.12/s'],
    [20_000, 'per second', '20 k/s'],
    [0.453, 'ratio', '45.3 %'],
    [45.3, 'percent', '45.3 %'],
    [1.5, 'of cores', '1.5 cores'],
    [15_000, 'of orders', '15 k orders'],
  ] as const)('%s in %s reads %s', (value, unit, text) => {
    expect(formatValue(value, unit)).toBe(nb(text));
  });

  test.each([null, undefined, NaN, Infinity])('%s is a dash', (value) => {
    expect(formatValue(value, 'seconds')).toBe('–');
  });
});

describe('formatBand', () => {
  test('one unit for both edges', () => expect(formatBand(0.095, 0.168, 'seconds')).toBe(`95 to ${nb('168 ms')}`));
  test('zero takes the unit of the other edge', () => expect(formatBand(0, 0.168, 'seconds')).toBe(`0 to ${nb('168 ms')}`));
  test('each its own unit when they differ', () => expect(formatBand(0.9, 600, 'seconds')).toBe(`${nb('900 ms')} to ${nb('10 min')}`));
  test('open below', () => expect(formatBand(null, 3, 'none')).toBe('at most 3'));
  test('open above', () => expect(formatBand(3, NaN, 'none')).toBe('at least 3'));
  test('unknown', () => expect(formatBand(null, null, 'none')).toBe('–'));
});

describe('formatTicks', () => {
  test('all ticks share unit and decimals', () => expect(formatTicks([0, 0.05, 0.1], 'seconds')).toEqual(['0', '50', '100'].map((t) => nb(`${t} ms`))));
  test('as many decimals as the distance needs', () => expect(formatTicks([1, 1.25, 1.5], 'none')).toEqual(['1.00', '1.25', '1.50']));
  test('large numbers get a prefix', () => expect(formatTicks([10_000, 12_500, 15_000], 'none')).toEqual(['10.0', '12.5', '15.0'].map((t) => nb(`${t} k`))));
  test('a single tick', () => expect(formatTicks([3], 'none')).toEqual(['3']));
  test('none', () => expect(formatTicks([], 'none')).toEqual([]));
});

describe('tickDistances', () => {
  test('bytes and seconds have their own round numbers, in rising order', () => {
    for (const unit of ['bytes', 'seconds'] as const) {
      const distances = tickDistances(unit)!;
      expect(distances).toEqual([...distances].sort((a, b) => a - b));
    }
    expect(tickDistances('bytes')).toContain(2 ** 30);
    expect(tickDistances('seconds')).toEqual(expect.arrayContaining([60, 3600]));
    expect(tickDistances('none')).toBeUndefined();
  });
});

test('counts have thousands separated', () => {
  expect(formatCount(12480)).toBe('12,480');
  expect(formatCount(null)).toBe('–');
});

test('scores have one digit behind the point until they are large', () => {
  expect(formatScore(4.66)).toBe('4.7');
  expect(formatScore(312.2)).toBe('312');
  expect(formatScore(null)).toBe('–');
});
