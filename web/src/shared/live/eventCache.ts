import type { InfiniteData, QueryClient, QueryKey } from '@tanstack/react-query';
import { mergeReplay, type HeldReplay } from '../api/replay';
import type { Anomaly, Detector, Health, Point, Replay, SeriesStatus, Source } from '../api/types';
import { seriesKey } from '../format/series';
import type { LiveClient } from './client';
import type { LiveEvent } from './protocol';
import { setPulse } from './pulse';

/**
 * The one place that knows what an event means for the cache of answers. It
 * collects events and changes the cache a few times a second at most, whatever
 * comes; what an event does not tell is asked for, a little later and not by
 * all pages at once.
 */

/** The topics that keep the cache up to date. */
export const cachedTopics = ['anomalies', 'detectors', 'sources', 'system'] as const;

/** A page of a list of anomalies, as the cache holds it. */
export interface AnomalyPage {
  items: Anomaly[];
  next_cursor: string;
}

/** What a list of anomalies shows; it is part of the list's key. */
export interface AnomalyScope {
  /** Only those that are not over. */
  open: boolean;
  /** Only those of this detector. */
  detectorId?: string;
}

/** How many new rows a list takes before it is cut back to `keptRows` and asked for anew. */
const mostRows = 150;
const keptRows = 50;
/** How long an episode that is over stays in a list of open ones, so that a list that someone reads can show its end. */
const lingers = 60_000;
const mostRemembered = 2_000;
const mostWaiting = 5_000;

/** Reads an anomaly from the data of its event, or undefined when it is none. */
export function anomalyOf(event: LiveEvent): Anomaly | undefined {
  const d = event.data as (Omit<Anomaly, 'series'> & { series: Record<string, string> }) | null;
  if (typeof d !== 'object' || d === null || typeof d.id !== 'string' || typeof d.version !== 'number' || typeof d.series !== 'object' || d.series === null) return undefined;
  return { ...d, series: { labels: d.series, key: seriesKey(d.series) }, updated_at: event.time };
}

const startOf = (a: Anomaly) => Date.parse(a.started_at);

/** Whether a list of this scope shows an anomaly. */
function belongs(a: Anomaly, scope: AnomalyScope): boolean {
  return (scope.detectorId === undefined || scope.detectorId === a.detector_id) && (a.state === 'firing' || (!scope.open && a.state === 'resolved'));
}

/** The result of a change of a list: whether it has to be asked for anew. */
interface Merged {
  data: InfiniteData<AnomalyPage>;
  cut: boolean;
}

/**
 * Brings changed anomalies into a cached list, newest first: those that are
 * there are replaced by newer versions, new ones find their place. A list that
 * grew too long is cut back to its newest rows.
 */
export function mergeList(data: InfiniteData<AnomalyPage>, changed: ReadonlyMap<string, Anomaly>, scope: AnomalyScope, now: number): Merged {
  const present = new Set<string>();
  const pages = data.pages.map((page) => {
    const items = page.items
      .map((a) => {
        present.add(a.id);
        const newer = changed.get(a.id);
        return newer && newer.version > a.version ? { ...a, ...newer } : a;
      })
      .filter((a) => !(scope.open && a.state === 'resolved' && Date.parse(a.resolved_at ?? '') < now - lingers));
    return { ...page, items };
  });
  const fresh = [...changed.values()].filter((a) => !present.has(a.id) && belongs(a, scope)).sort((a, b) => startOf(b) - startOf(a));
  for (const a of fresh) {
    const last = pages.length - 1;
    let at = pages.findIndex((page) => page.items.some((b) => startOf(b) < startOf(a)));
    if (at < 0) {
      if (last < 0 || pages[last]!.next_cursor) continue; // it lies beyond what is loaded
      at = last;
    }
    const items = [...pages[at]!.items];
    const place = items.findIndex((b) => startOf(b) < startOf(a));
    items.splice(place < 0 ? items.length : place, 0, a);
    pages[at] = { ...pages[at]!, items };
  }
  const first = pages[0];
  if (!first || first.items.length <= mostRows) return { data: { ...data, pages }, cut: false };
  return { data: { pages: [{ items: first.items.slice(0, keptRows), next_cursor: '' }], pageParams: data.pageParams.slice(0, 1) }, cut: true };
}

/** What the newest events said, for answers that were under way when they came. */
interface Remembered {
  anomalies: Map<string, { anomaly: Anomaly; at: number }>;
}

const memories = new WeakMap<QueryClient, Remembered>();

function memoryOf(client: QueryClient): Remembered {
  let memory = memories.get(client);
  if (!memory) memories.set(client, (memory = { anomalies: new Map() }));
  return memory;
}

function remember(client: QueryClient, anomaly: Anomaly, now: number) {
  const { anomalies } = memoryOf(client);
  anomalies.delete(anomaly.id); // the order of the map is that of the times
  anomalies.set(anomaly.id, { anomaly, at: now });
  if (anomalies.size > mostRemembered) anomalies.delete(anomalies.keys().next().value!);
}

/**
 * Brings a page of anomalies that was asked for at some time up to date with
 * the events that came while it was on its way.
 */
export function withNewerAnomalies(client: QueryClient, page: AnomalyPage, scope: AnomalyScope, first: boolean, askedAt: number): AnomalyPage {
  const newer = new Map<string, Anomaly>();
  const known = new Set(page.items.map((a) => a.id));
  for (const [id, { anomaly, at }] of memoryOf(client).anomalies) {
    if (known.has(id) || (first && at >= askedAt)) newer.set(id, anomaly);
  }
  return newer.size === 0 ? page : mergeList({ pages: [page], pageParams: [] }, newer, scope, askedAt).data.pages[0]!;
}

/** The anomaly as the newest event tells it, where that is newer than the given one. */
export function withNewerAnomaly(client: QueryClient, a: Anomaly): Anomaly {
  const newer = memoryOf(client).anomalies.get(a.id)?.anomaly;
  return newer && newer.version > a.version ? { ...a, ...newer } : a;
}

/** Appends a live point to every chart of its series. Returns whether steps are missing before it. */
export function appendPoint(client: QueryClient, detectorId: string, series: string, data: unknown, now: number): boolean {
  const p = data as Point | null;
  if (typeof p !== 'object' || p === null || typeof p.t !== 'string') return false;
  const t = Date.parse(p.t);
  let gap = false;
  for (const [key, known] of client.getQueriesData<Replay>({ queryKey: ['replay', 'live', detectorId, series] })) {
    const last = Date.parse(known?.points.at(-1)?.t ?? '');
    if (!known || !(t > last)) continue;
    gap ||= known.step_seconds > 0 && t - last > 1.5 * 1000 * known.step_seconds;
    client.setQueryData(key, mergeReplay(known, { ...known, points: [p], anomalies: [] }, now - Number(key[4]) * 1000));
  }
  return gap;
}

/** The queries that a topic's events keep up to date. */
const keysOf: Record<string, QueryKey[]> = {
  anomalies: [['anomalies'], ['anomaly'], ['detectors'], ['series'], ['replay', 'live']],
  detectors: [['detectors'], ['series'], ['versions'], ['models'], ['shadow']],
  sources: [['sources'], ['source-health']],
  system: [['health'], ['known-events']],
};

/** What the connection needs of its surroundings, so that tests can give it others. */
export interface Surroundings {
  now: () => number;
  random: () => number;
  after: (delay: number, call: () => void) => () => void;
}

const browser: Surroundings = {
  now: () => Date.now(),
  random: () => Math.random(),
  after(delay, call) {
    const timer = setTimeout(call, delay);
    return () => clearTimeout(timer);
  },
};

/** The least time between two changes of the cache, in milliseconds; the first comes at once. */
const rest = 100;
/** How long asking waits, and over how much more time pages spread. */
const soonest = 200;
const spread = 1_000;

/** Lets the events of a stream change the cache. Returns what ends it. */
export function connectCache(client: QueryClient, live: LiveClient, env: Surroundings = browser): () => void {
  const cache = new EventCache(client, env);
  const beat = () => {
    const { state, confirmedAt } = live.connection();
    setPulse({ live: state === 'live', confirmedAt });
  };
  const unwatch = live.watch(beat);
  const unsubscribe = live.subscribe(cachedTopics, {
    events: (events) => cache.take(events),
    reset: (topics) => topics.forEach((topic) => cache.ask(...(keysOf[topic] ?? []))),
  });
  beat();
  return () => {
    unsubscribe();
    unwatch();
    cache.stop();
    setPulse({ live: false, confirmedAt: 0 });
  };
}

class EventCache {
  private waiting: LiveEvent[] = [];
  private cancelFlush: (() => void) | undefined;
  private flushedAt = -Infinity;
  private readonly asked = new Map<string, QueryKey>();
  private cancelAsk: (() => void) | undefined;

  constructor(
    private readonly client: QueryClient,
    private readonly env: Surroundings,
  ) {}

  take(events: readonly LiveEvent[]) {
    if (this.waiting.length + events.length > mostWaiting) {
      // The page was held up for long: loading the state is cheaper than catching up.
      this.waiting = [];
      for (const topic of cachedTopics) this.ask(...(keysOf[topic] ?? []));
      return;
    }
    for (const e of events) this.waiting.push(e);
    this.cancelFlush ??= this.env.after(Math.max(0, this.flushedAt + rest - this.env.now()), () => this.flush());
  }

  /** Asks for some answers anew, a little later and each once. */
  ask(...keys: QueryKey[]) {
    for (const key of keys) this.asked.set(JSON.stringify(key), key);
    this.cancelAsk ??= this.env.after(soonest + this.env.random() * spread, () => {
      this.cancelAsk = undefined;
      const due = [...this.asked.values()];
      this.asked.clear();
      for (const queryKey of due) void this.client.invalidateQueries({ queryKey });
    });
  }

  stop() {
    this.cancelFlush?.();
    this.cancelAsk?.();
    this.waiting = [];
  }

  private flush() {
    this.cancelFlush = undefined;
    const now = (this.flushedAt = this.env.now());
    const events = this.waiting;
    this.waiting = [];
    const anomalies = new Map<string, Anomaly>();
    const opened = new Map<string, number>();
    const known: LiveEvent[] = [];
    for (const e of events) {
      const family = e.type.slice(0, e.type.indexOf('.'));
      if (family === 'anomaly') this.noteAnomaly(e, anomalies, opened);
      else if (family === 'detector') this.detector(e);
      else if (family === 'source') this.source(e);
      else if (e.type === 'system.health_changed') this.health(e);
      else if (e.type === 'known_event.changed') known.push(e);
    }
    if (known.length > 0) this.known(known, now);
    if (anomalies.size === 0) return;
    for (const a of anomalies.values()) remember(this.client, a, now);
    this.lists(anomalies, now);
    for (const [key, old] of this.client.getQueriesData<Anomaly>({ queryKey: ['anomaly'] })) {
      const a = old && anomalies.get(old.id);
      if (old && a && a.version > old.version) this.client.setQueryData(key, { ...old, ...a });
    }
    this.series(anomalies);
    this.charts(anomalies);
    this.counts(opened);
  }

  private noteAnomaly(e: LiveEvent, anomalies: Map<string, Anomaly>, opened: Map<string, number>) {
    const a = anomalyOf(e);
    if (!a) return this.ask(...keysOf['anomalies']!);
    const before = anomalies.get(a.id);
    if (!before || a.version >= before.version) anomalies.set(a.id, a);
    const change = e.type === 'anomaly.opened' ? 1 : e.type === 'anomaly.resolved' ? -1 : 0;
    if (change !== 0) opened.set(a.detector_id, (opened.get(a.detector_id) ?? 0) + change);
  }

  private lists(anomalies: ReadonlyMap<string, Anomaly>, now: number) {
    for (const [key, data] of this.client.getQueriesData<InfiniteData<AnomalyPage>>({ queryKey: ['anomalies'] })) {
      if (!data) continue;
      const merged = mergeList(data, anomalies, key[1] as AnomalyScope, now);
      this.client.setQueryData(key, merged.data);
      if (merged.cut) this.ask(key);
    }
  }

  private series(anomalies: ReadonlyMap<string, Anomaly>) {
    for (const [key, data] of this.client.getQueriesData<InfiniteData<{ items: SeriesStatus[] }>>({ queryKey: ['series'] })) {
      const byKey = new Map([...anomalies.values()].filter((a) => a.detector_id === key[1]).map((a) => [a.series.key, a]));
      if (!data || byKey.size === 0) continue;
      const update = (s: SeriesStatus): SeriesStatus => {
        const a = byKey.get(s.series.key);
        if (!a) return s;
        if (a.state !== 'resolved') return { ...s, anomaly: a.state, anomaly_id: a.id };
        return s.anomaly_id === a.id ? { ...s, anomaly: undefined, anomaly_id: undefined } : s;
      };
      this.client.setQueryData(key, { ...data, pages: data.pages.map((page) => ({ ...page, items: page.items.map(update) })) });
    }
  }

  private charts(anomalies: ReadonlyMap<string, Anomaly>) {
    for (const [key, replay] of this.client.getQueriesData<Replay>({ queryKey: ['replay', 'live'] })) {
      const changed = [...anomalies.values()].filter((a) => a.detector_id === key[2] && a.series.key === key[3]);
      if (!replay || changed.length === 0) continue;
      const ids = new Set(changed.map((a) => a.id));
      const kept = replay.anomalies.filter((a) => !ids.has(a.id) || a.version >= anomalies.get(a.id)!.version);
      this.client.setQueryData(key, { ...replay, anomalies: [...kept, ...changed.filter((a) => !kept.some((k) => k.id === a.id))] });
    }
  }

  /** Has the lists of known events asked for anew, and the charts that show them: what series an event is about it does not tell. */
  private known(events: readonly LiveEvent[], now: number) {
    // It may have counted for another detector before, which the event does not tell either.
    this.ask(['known-events']);
    const told = events.map((e) => (e.data ?? {}) as { id?: string; detector_id?: string; from?: string; deleted?: boolean });
    const ids = new Set(told.map((d) => d.id));
    for (const [key, replay] of this.client.getQueriesData<HeldReplay>({ queryKey: ['replay'] })) {
      if (!replay) continue;
      const shows = replay.known_events?.some((e) => ids.has(e.id));
      const touched = () => told.some((d) => !d.deleted && (!d.detector_id || d.detector_id === key[2]) && !(Date.parse(d.from ?? '') > now));
      if (!shows && !touched()) continue;
      if (key[1] === 'live') this.client.setQueryData<HeldReplay>(key, { ...replay, outdated: now });
      this.ask(key);
    }
  }

  private counts(opened: ReadonlyMap<string, number>) {
    if (opened.size === 0) return;
    this.client.setQueryData<Detector[]>(['detectors'], (all) =>
      all?.map((d) => {
        const change = opened.get(d.id);
        return change ? { ...d, status: { ...d.status, open_anomalies: Math.max(0, d.status.open_anomalies + change) } } : d;
      }),
    );
  }

  private detector(e: LiveEvent) {
    const { id } = (e.data ?? {}) as { id?: string };
    if (e.type === 'detector.deleted') this.client.setQueryData<Detector[]>(['detectors'], (all) => all?.filter((d) => d.id !== id));
    if (e.type !== 'detector.trained') this.ask(['detectors']);
    this.ask(['series', id ?? ''], ['versions', id ?? ''], ['models', id ?? ''], ['shadow', id ?? '']);
  }

  private source(e: LiveEvent) {
    this.ask(['source-health']);
    const told = e.data as ({ name?: string } & Source['health']) | null;
    let known = false;
    this.client.setQueryData<Source[]>(['sources'], (all) =>
      all?.map((s) => {
        if (!told || s.name !== told.name) return s;
        known = true;
        const { state, since, checked_at, last_error, latency_ms } = told;
        return { ...s, health: { ...s.health, state, since, checked_at, last_error, latency_ms } };
      }),
    );
    // An answer that is under way may be older than the event.
    if (!known || this.client.isFetching({ queryKey: ['sources'] }) > 0) this.ask(['sources']);
  }

  private health(e: LiveEvent) {
    const { component, to, message } = (e.data ?? {}) as { component?: string; to?: Health['status']; message?: string };
    this.client.setQueryData<Health>(['health'], (health) => {
      const part = component === undefined ? undefined : health?.components?.[component];
      if (!health || !part || !to || component === undefined) return health;
      return { ...health, components: { ...health.components, [component]: { ...part, status: to, message: message ?? part.message } } };
    });
    this.ask(['health']); // what the whole is worth, only the server knows
  }
}
