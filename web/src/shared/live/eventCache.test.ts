import { QueryClient, type InfiniteData } from '@tanstack/react-query';
import { describe, expect, test, vi } from 'vitest';
import { anomaly, detector, knownEvent, point, replay, series, source } from '../../testing/fixtures';
import { FakeStream } from '../../testing/fakeStream';
import type { Anomaly, Detector, Health, Replay, SeriesStatus, Source } from '../api/types';
import { seriesKey } from '../format/series';
import { appendPoint, connectCache, mergeList, withNewerAnomalies, type AnomalyPage, type AnomalyScope } from './eventCache';
import { isLive } from './pulse';

const at = (seconds: number) => new Date(seconds * 1000).toISOString();
const listOf = (items: Anomaly[], next_cursor = ''): InfiniteData<AnomalyPage> => ({ pages: [{ items, next_cursor }], pageParams: [undefined] });
const ids = (data: InfiniteData<AnomalyPage> | undefined) => data?.pages.flatMap((p) => p.items.map((a) => a.id));
const changed = (...all: Anomaly[]) => new Map(all.map((a) => [a.id, a]));
const open: AnomalyScope = { open: true };

describe('a list of anomalies', () => {
  const old = anomaly({ id: 'old', started_at: at(100) });
  const young = anomaly({ id: 'young', started_at: at(200) });

  test('takes a new one at its place', () => {
    const list = listOf([young, old]);
    expect(ids(mergeList(list, changed(anomaly({ id: 'new', started_at: at(300) })), open, 0).data)).toEqual(['new', 'young', 'old']);
    expect(ids(mergeList(list, changed(anomaly({ id: 'between', started_at: at(150) })), open, 0).data)).toEqual(['young', 'between', 'old']);
    expect(ids(mergeList(list, changed(anomaly({ id: 'last', started_at: at(50) })), open, 0).data)).toEqual(['young', 'old', 'last']);
    expect(ids(mergeList(listOf([]), changed(old), open, 0).data)).toEqual(['old']);
  });

  test('leaves out what lies behind what is loaded, or is not asked for', () => {
    expect(ids(mergeList(listOf([young], 'more'), changed(old), open, 0).data)).toEqual(['young']);
    expect(ids(mergeList(listOf([]), changed({ ...old, state: 'resolved' }), open, 0).data)).toEqual([]);
    expect(ids(mergeList(listOf([]), changed({ ...old, state: 'resolved' }), { open: false }, 0).data)).toEqual(['old']);
    expect(ids(mergeList(listOf([]), changed(old), { open: true, detectorId: 'other' }, 0).data)).toEqual([]);
  });

  test('is changed in place, and never back to an older version', () => {
    const list = listOf([{ ...old, version: 5 }]);
    expect(mergeList(list, changed({ ...old, version: 6, value: 7 }), open, 0).data.pages[0]!.items[0]!.value).toBe(7);
    expect(mergeList(list, changed({ ...old, version: 4, value: 7 }), open, 0).data.pages[0]!.items[0]!.value).toBe(old.value);
  });

  test('keeps what is over for a minute', () => {
    const over = { ...old, state: 'resolved' as const, resolved_at: at(1000), version: 9 };
    const { data } = mergeList(listOf([old]), changed(over), open, 1_030_000);
    expect(data.pages[0]!.items[0]!.state).toBe('resolved');
    expect(ids(mergeList(data, changed(young), open, 1_061_000).data)).toEqual(['young']);
  });

  test('that grows too long is cut back and asked for anew', () => {
    const many = Array.from({ length: 2000 }, (_, i) => anomaly({ id: `an_${i}`, started_at: at(1000 + i) }));
    const { data, cut } = mergeList(listOf([young, old], 'more'), changed(...many), open, 0);
    expect(cut).toBe(true);
    expect(ids(data)).toHaveLength(50);
    expect(ids(data)![0]).toBe('an_1999');
  });
});

/** A cache that follows a fake stream, live. */
async function setup() {
  const stream = new FakeStream(() => 0);
  const client = new QueryClient();
  const live = stream.client();
  const { clock } = stream;
  const env = { now: () => clock.now, random: () => 0, after: (delay: number, call: () => void) => clock.after(delay, call) };
  const end = connectCache(client, live, env);
  await clock.go(1000);
  const invalidated: unknown[] = [];
  vi.spyOn(client, 'invalidateQueries').mockImplementation((filters) => {
    invalidated.push(filters?.queryKey);
    return Promise.resolve();
  });
  const tell = async (...told: [type: string, topic: string, data: unknown][]) => {
    for (const [type, topic, data] of told) stream.publish(topic, type, data);
    await clock.go(300);
  };
  /** An anomaly as the server writes it into an event. */
  const wire = (a: Anomaly) => ({ ...a, series: a.series.labels });
  return { stream, client, live, clock, end, invalidated, tell, wire };
}

describe('events', () => {
  test('at the start, and after a gap, the state is asked for', async () => {
    const stream = new FakeStream(() => 0);
    const client = new QueryClient();
    const invalidate = vi.spyOn(client, 'invalidateQueries');
    const { clock } = stream;
    connectCache(client, stream.client(), { now: () => clock.now, random: () => 0, after: (delay, call) => clock.after(delay, call) });
    await clock.go(1000);
    const keys = () => invalidate.mock.calls.map(([f]) => JSON.stringify(f?.queryKey));
    expect(keys()).toContain('["anomalies"]');
    expect(keys()).toContain('["health"]');
    expect(isLive()).toBe(true);
    invalidate.mockClear();
    stream.close();
    for (let i = 0; i < 10; i++) stream.publish('anomalies/x');
    stream.forget(8);
    await clock.go(5000);
    expect(keys()).toContain('["anomalies"]');
  });

  test('an anomaly opens, changes and ends everywhere it is shown', async () => {
    const s = await setup();
    const key = seriesKey({ job: 'api' });
    s.client.setQueryData(['anomalies', open], listOf([]));
    s.client.setQueryData(['detectors'], [detector({ id: 'det_a' }), detector({ id: 'det_b' })]);
    s.client.setQueryData(['series', 'det_a'], { pages: [{ items: [series({ job: 'api' }), series({ job: 'web' })] }], pageParams: [] });
    s.client.setQueryData(['replay', 'live', 'det_a', key, 900], replay([point(0, 1)]));
    const a = anomaly({ id: 'an_1', version: 1, started_at: at(5) });
    const lists = () => s.client.getQueryData<InfiniteData<AnomalyPage>>(['anomalies', open])!.pages[0]!.items;
    const statuses = () => s.client.getQueryData<InfiniteData<{ items: SeriesStatus[] }>>(['series', 'det_a'])!.pages[0]!.items;
    const opens = () => s.client.getQueryData<Detector[]>(['detectors'])!.map((d) => d.status.open_anomalies);

    await s.tell(['anomaly.opened', 'anomalies/an_1', s.wire(a)]);
    expect(lists()).toMatchObject([{ id: 'an_1', series: { key: '{job="api"}', labels: { job: 'api' } } }]);
    expect(opens()).toEqual([1, 0]);
    expect(statuses()).toMatchObject([{ anomaly: 'firing', anomaly_id: 'an_1' }, {}]);
    expect(s.client.getQueryData<Replay>(['replay', 'live', 'det_a', key, 900])!.anomalies).toMatchObject([{ id: 'an_1' }]);

    s.client.setQueryData(['anomaly', 'an_1'], lists()[0]);
    await s.tell(['anomaly.updated', 'anomalies/an_1', s.wire({ ...a, version: 2, value: 99 })], ['anomaly.acknowledged', 'anomalies/an_1', s.wire({ ...a, version: 3, value: 99, acknowledged_by: 'ada' })]);
    expect(lists()).toMatchObject([{ value: 99, acknowledged_by: 'ada', version: 3 }]);
    expect(s.client.getQueryData(['anomaly', 'an_1'])).toMatchObject({ acknowledged_by: 'ada' });

    await s.tell(['anomaly.resolved', 'anomalies/an_1', s.wire({ ...a, version: 4, state: 'resolved', resolved_at: at(9) })]);
    expect(opens()).toEqual([0, 0]);
    expect(statuses()[0]!.anomaly).toBeUndefined();
    expect(s.client.getQueryData<Replay>(['replay', 'live', 'det_a', key, 900])!.anomalies).toMatchObject([{ state: 'resolved' }]);
    expect(s.invalidated, 'nothing had to be asked for').toEqual([]);
    s.end();
  });

  test('sources and health change, and what an event does not tell is asked for once', async () => {
    const s = await setup();
    s.client.setQueryData(['sources'], [source({ name: 'main' })]);
    s.client.setQueryData(['health'], { status: 'healthy', components: { database: { status: 'healthy', message: '' } } });
    await s.tell(
      ['source.down', 'sources/main', { name: 'main', state: 'down', since: at(1), checked_at: at(2), last_error: 'refused', latency_ms: 0 }],
      ['system.health_changed', 'system', { component: 'database', from: 'healthy', to: 'unhealthy', message: 'gone' }],
      ['detector.created', 'detectors/det_z', { id: 'det_z' }],
      ['detector.updated', 'detectors/det_z', { id: 'det_z' }],
    );
    expect(s.client.getQueryData<Source[]>(['sources'])![0]!.health).toMatchObject({ state: 'down', last_error: 'refused' });
    expect(s.client.getQueryData<Health>(['health'])!.components!['database']).toMatchObject({ status: 'unhealthy', message: 'gone' });
    expect(s.invalidated).toEqual([['source-health'], ['health'], ['detectors'], ...['series', 'versions', 'models', 'shadow'].map((of) => [of, 'det_z'])]);
    s.end();
  });

  test('a known event that changes, and a gap in the stream, have the lists of them asked for', async () => {
    const s = await setup();
    await s.tell(['known_event.changed', 'system/known_events/evt_1', { id: 'evt_1', detector_id: 'det_a', deleted: true }]);
    expect(s.invalidated).toEqual([['known-events']]);
    s.invalidated.length = 0;
    s.stream.close();
    for (let i = 0; i < 10; i++) s.stream.publish('anomalies/x');
    s.stream.forget(8);
    await s.clock.go(5000);
    expect(s.invalidated).toContainEqual(['known-events']);
    s.end();
  });

  test('the charts that show a known event, or now may, ask for all of their range', async () => {
    const s = await setup();
    const live = (id: string) => ['replay', 'live', id, '{}', 900];
    const past = ['replay', 'past', 'det_a', '{}', 0, 1];
    const shows = { ...replay([]), known_events: [knownEvent({ id: 'evt_1' })] };
    s.client.setQueryData(live('det_a'), replay([]));
    s.client.setQueryData(live('det_b'), shows);
    s.client.setQueryData(live('det_c'), replay([]));
    s.client.setQueryData(past, replay([]));
    const charts = async (data: object) => {
      s.invalidated.length = 0;
      await s.tell(['known_event.changed', 'system/known_events/evt_1', { id: 'evt_1', detector_id: 'det_a', from: at(0), deleted: false, ...data }]);
      await s.clock.go(2000);
      return s.invalidated.slice(1);
    };
    expect(await charts({})).toEqual([live('det_a'), live('det_b'), past]);
    expect(s.client.getQueryData(live('det_a'))).toHaveProperty('outdated', expect.any(Number));
    expect(s.client.getQueryData(live('det_c'))).not.toHaveProperty('outdated');
    expect(s.client.getQueryData(past)).not.toHaveProperty('outdated');
    expect(await charts({ detector_id: '' }), 'every detector').toHaveLength(4);
    expect(await charts({ deleted: true }), 'it is on this one').toEqual([live('det_b')]);
    expect(await charts({ from: at(10_000_000_000) }), 'it is to come').toEqual([live('det_b')]);
    s.end();
  });

  test('a detector that is deleted is gone at once', async () => {
    const s = await setup();
    s.client.setQueryData(['detectors'], [detector({ id: 'det_a' }), detector({ id: 'det_b' })]);
    await s.tell(['detector.deleted', 'detectors/det_a', { id: 'det_a' }]);
    expect(s.client.getQueryData<Detector[]>(['detectors'])!.map((d) => d.id)).toEqual(['det_b']);
    s.end();
  });

  test('an answer that was on its way does not undo what an event told', async () => {
    const s = await setup();
    const a = anomaly({ id: 'an_1', version: 1 });
    const b = anomaly({ id: 'an_2', version: 1 });
    const askedAt = s.clock.now;
    await s.tell(['anomaly.opened', 'anomalies/an_2', s.wire(b)], ['anomaly.acknowledged', 'anomalies/an_1', s.wire({ ...a, version: 2, acknowledged_by: 'ada' })]);
    const answer = withNewerAnomalies(s.client, { items: [a], next_cursor: '' }, open, true, askedAt);
    expect(answer.items).toMatchObject([{ id: 'an_1', acknowledged_by: 'ada' }, { id: 'an_2' }]);
    expect(withNewerAnomalies(s.client, { items: [a], next_cursor: '' }, open, true, s.clock.now).items.map((x) => x.id), 'what was there before the question is the answer').toEqual(['an_1']);
    s.end();
  });

  test('a burst changes the cache a few times, not a few thousand times', async () => {
    const s = await setup();
    s.client.setQueryData(['anomalies', open], listOf([]));
    const set = vi.spyOn(s.client, 'setQueryData');
    await s.tell(...Array.from({ length: 2000 }, (_, i): [string, string, unknown] => ['anomaly.opened', `anomalies/an_${i}`, s.wire(anomaly({ id: `an_${i}`, started_at: at(i) }))]));
    expect(set.mock.calls.length).toBeLessThan(12);
    expect(ids(s.client.getQueryData(['anomalies', open]))![0]).toBe('an_1999');
    expect(s.invalidated).toContainEqual(['anomalies', open]);
    s.end();
  });

  test('data that is no anomaly harms nothing', async () => {
    const s = await setup();
    await s.tell(['anomaly.opened', 'anomalies/x', null], ['anomaly.opened', 'anomalies/x', { id: 7 }], ['source.up', 'sources/x', null], ['what.ever', 'system', 'x'], ['', 'system', undefined]);
    expect(s.invalidated).toContainEqual(['anomalies']);
    s.end();
    expect(isLive()).toBe(false);
  });
});

describe('points', () => {
  test('stand behind what the chart has, once', () => {
    const client = new QueryClient();
    const key = ['replay', 'live', 'det_a', '{}', 900];
    client.setQueryData(key, replay([point(0, 1), point(10, 2)]));
    const values = () => client.getQueryData<Replay>(key)!.points.map((p) => p.value);
    expect(appendPoint(client, 'det_a', '{}', point(20, 3), 20_000)).toBe(false);
    expect(appendPoint(client, 'det_a', '{}', point(20, 3), 20_000)).toBe(false);
    expect(appendPoint(client, 'det_b', '{}', point(30, 4), 30_000)).toBe(false);
    expect(appendPoint(client, 'det_a', '{}', null, 30_000)).toBe(false);
    expect(values()).toEqual([1, 2, 3]);
    expect(appendPoint(client, 'det_a', '{}', point(905, 5), 905_000), 'steps are missing').toBe(true);
    expect(values(), 'what left the range is dropped').toEqual([2, 3, 5]);
  });
});

test('the key of a series is written as the server does', () => {
  expect(seriesKey({ job: 'api', __name__: 'up', empty: '' })).toBe('{__name__="up", job="api"}');
  expect(seriesKey({ path: 'a"b\\c\n\t\u0007\u0001ü' })).toBe('{path="a\\"b\\\\c\\n\\t\\a\\x01ü"}');
  expect(seriesKey({})).toBe('{}');
});
