import { expect, test } from 'vitest';
import { parseSearch, readSearch, stringifySearch, type PageSearch } from './search';

test('a state survives the way through an address', () => {
  const state: PageSearch = { detector: 'det_1', series: '{job="a b", path="/x?y=1&z"}', life: true, range: '6h', filter: 'über', attention: true, show: 'all', only: true, anomaly: '123',
    view: 'logs', patterns: 'refused', level: 'error', order: 'new', pattern: 'aaaaaaaaaaaaaaaa', source: 'loki', stream: '{service="a b"}', text: 'x y', at: '2026-03-01T12:00:00.000Z' };
  expect(readSearch(parseSearch(stringifySearch(state)))).toEqual(state);
});

test('what is absent leaves no trace', () => {
  expect(stringifySearch({ detector: 'a', series: undefined, attention: undefined })).toBe('?detector=a');
  expect(stringifySearch({})).toBe('');
});

test('what does not fit is left out', () => {
  expect(readSearch({ detector: 7, series: '', range: ['1h'], attention: '0', show: 'everything', view: 'map', level: 'loud', order: 'count', anomaly: 'x'.repeat(2001), other: 'y' })).toEqual({});
});
