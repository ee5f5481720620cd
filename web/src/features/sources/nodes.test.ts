import { expect, test } from 'vitest';
import { nodesOf } from './nodes';

const health = (nodes: unknown) => ({ state: 'degraded' as const, latency_ms: 1, details: { nodes } as unknown as Record<string, never> });

test('how each node sees a source', () => {
  expect(nodesOf(health([{ node: 'a', here: true, state: 'up', since: 'x' }, { node: 'b', state: 'down', since: 'y', last_error: 'refused' }]))).toEqual([
    { node: 'a', here: true, state: 'up', since: 'x', error: '' },
    { node: 'b', here: false, state: 'down', since: 'y', error: 'refused' },
  ]);
});

test('one node alone, and what is no such list, are none', () => {
  expect(nodesOf(undefined)).toEqual([]);
  for (const odd of [undefined, null, 'a', {}, [null, 3, { node: 1, state: 'up' }, { node: 'a', state: 'fine' }]]) expect(nodesOf(health(odd))).toEqual([]);
});
