// The life of the mock's detectors: versions, a shadow, model versions, known
// events, and tasks that take a few seconds.
import { Refusal } from './refusal.mjs';

/** @typedef {import('../src/shared/api/schema').components['schemas']} Schemas */
/** @typedef {import('../src/shared/api/types').Detector} Detector */
/** @typedef {import('../src/shared/api/types').FieldChange} FieldChange */
/** @typedef {import('../src/shared/api/types').KnownEvent} KnownEvent */
/** @typedef {import('../src/shared/api/types').Task} Task */

const hour = 3_600_000;
const taskTakes = 4_000;

/** What the server says beside the definition. */
const servers = new Set(['id', 'version', 'provisioned', 'created_at', 'updated_at', 'status']);

/** @param {object} d @returns {Record<string, unknown>} */
const definitionOf = (d) => Object.fromEntries(Object.entries(d).filter(([field, value]) => !servers.has(field) && value !== '' && value != null));

/** @param {object} from @param {object} to @returns {FieldChange[]} */
function changesOf(from, to) {
  const [a, b] = [definitionOf(from), definitionOf(to)];
  const fields = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
  return fields.filter((f) => JSON.stringify(a[f]) !== JSON.stringify(b[f])).map((field) => ({ field, from: a[field] ?? null, to: b[field] ?? null }));
}

/** @param {Partial<{false_removed: number, unlabelled_changed: number}>} more */
const counts = (more) => ({ false: 14, false_removed: 0, true: 5, true_kept: 5, unlabelled: 20, unlabelled_changed: 0, added: 0, alarms: 39, alarms_per_week: 9.1, ...more });

export class Life {
  /** @param {number} startedAt */
  constructor(startedAt) {
    this.startedAt = startedAt;
    /** The versions of a definition that came by changes made here, newest first. @type {Map<string, {version: number, at: number, patch: object, changes: FieldChange[]}[]>} */
    this.made = new Map();
    /** @type {Map<string, {patch: object, reason: string, at: number}>} */
    this.shadows = new Map();
    /** @type {{id: string, kind: string, detector: string | undefined, at: number, cancelled: boolean, result: (now: number) => unknown}[]} */
    this.tasks = [];
    /** The model version that was made active here, and how. @type {Map<string, {version: number, reason: string}>} */
    this.actives = new Map();
    /** What the stream has yet to tell. @type {{type: string, topic: string, data: unknown}[]} */
    this.news = [];
    const at = (/** @type {number} */ hours) => new Date(startedAt + hours * hour).toISOString();
    const shared = { created_by: 'deploy-bot', created_at: at(-300), updated_at: at(-300), version: 1 };
    /** @type {KnownEvent[]} */
    this.events = [
      { ...shared, id: 'evt_1', name: 'move to the new data centre', from: at(40), to: at(52), matchers: {}, mute: true },
      { ...shared, id: 'evt_2', name: 'database upgrade', from: at(-0.5), to: at(1.5), matchers: { namespace: 'shop', pod: 'cart-0' }, mute: true, detector_id: 'det_pods' },
      { ...shared, id: 'evt_3', name: 'load test <img src=x onerror="hacked=1"> \u202egnp.exe', from: at(-200), to: at(-198), matchers: { job: 'api\u202e', path: 'a, "b"', empty: '' }, mute: false },
    ];
    this.entered = this.events.length;
  }

  /** The known events that count for a detector, the latest begin first. @param {URLSearchParams} query */
  knownEvents(query) {
    const [detector, from, to] = [query.get('detector'), Date.parse(query.get('from') ?? ''), Date.parse(query.get('to') ?? '')];
    const items = this.events.filter((e) => (!detector || !e.detector_id || e.detector_id === detector) && !(Date.parse(e.to) < from) && !(Date.parse(e.from) > to));
    return { items: items.sort((a, b) => Date.parse(b.from) - Date.parse(a.from)), next_cursor: '' };
  }

  /** The known events that a chart of a series shows. @param {string} detector @param {Record<string, string>} labels @param {number} from @param {number} to */
  knownOn(detector, labels, from, to) {
    const asked = new URLSearchParams({ detector, from: new Date(from).toISOString(), to: new Date(to).toISOString() });
    return this.knownEvents(asked).items.filter((e) => Object.entries(e.matchers).every(([name, value]) => (labels[name] ?? '') === value));
  }

  /**
   * Enters, replaces or deletes a known event.
   * @param {string} method @param {string | undefined} id @param {Schemas['KnownEventInput']} body @param {string | undefined} ifMatch @param {number} now
   */
  changeKnownEvent(method, id, body, ifMatch, now) {
    const old = this.events.find((e) => e.id === id);
    if (id && !old) return null;
    if (old && ifMatch && ifMatch !== `"${old.version}"`) throw new Refusal(412, 'PRECONDITION_FAILED', 'It was changed meanwhile', 'Someone else changed this event.');
    if (method !== 'DELETE' && Date.parse(body.to) < Date.parse(body.from)) {
      const detail = 'the event ends before it begins';
      throw new Refusal(422, 'VALIDATION_ERROR', 'The request is not valid', detail, [{ pointer: '/to', code: 'out_of_range', detail }]);
    }
    const at = new Date(now).toISOString();
    const event = { created_by: 'anonymous', created_at: at, ...old, ...body, id: old?.id ?? `evt_${++this.entered}`, detector_id: body?.detector_id, matchers: body?.matchers ?? {}, mute: body?.mute ?? false, updated_at: at, version: (old?.version ?? 0) + 1 };
    const deleted = method === 'DELETE';
    this.events = [...this.events.filter((e) => e !== old), ...(deleted ? [] : [event])];
    const { name, from, to, detector_id, version } = deleted && old ? old : event;
    this.news.push({ type: 'known_event.changed', topic: `system/known_events/${event.id}`, data: { id: event.id, name, detector_id: detector_id ?? '', from, to, deleted, version } });
    return deleted ? {} : event;
  }

  /** The detector with what was changed of it here. @param {Detector} d @returns {Detector} */
  current(d) {
    const made = this.made.get(d.id) ?? [];
    return { ...d, ...Object.assign({}, ...made.map((v) => v.patch).reverse()), version: d.version + made.length };
  }

  /** @param {Detector} d @param {object} patch @param {number} now @returns {Detector} */
  change(d, patch, now) {
    const before = this.current(d);
    const changes = changesOf(before, { ...before, ...patch });
    this.made.set(d.id, [{ version: before.version + 1, at: now, patch, changes }, ...(this.made.get(d.id) ?? [])]);
    return this.current(d);
  }

  /** @param {Detector} d */
  versions(d) {
    const first = { version: d.version, created_at: d.created_at, definition: definitionOf(d), changes: [] };
    return { items: [...(this.made.get(d.id) ?? []).map((v) => ({ version: v.version, created_at: new Date(v.at).toISOString(), definition: definitionOf(this.current(d)), changes: v.changes })), first], next_cursor: '' };
  }

  /** @param {Detector} d */
  models(d) {
    const at = (/** @type {number} */ hours) => new Date(this.startedAt - hours * hour).toISOString();
    const shared = { detector_id: d.id, detector_version: 1, series: 4, size_bytes: 9000 };
    const made = this.actives.get(d.id);
    const all = [
      { ...shared, version: 4, created_at: at(70), trained_from: at(238), trained_to: at(70), reason: 'the scores drifted' },
      { ...shared, version: 3, created_at: at(240), trained_from: at(408), trained_to: at(240), reason: 'trained' },
    ];
    return { items: all.map((m) => ({ ...m, ...(m.version === made?.version && { reason: made.reason }), state: m.version === (made?.version ?? 4) ? 'active' : 'retired' })), next_cursor: '' };
  }

  /** Makes a model version the active one; 0 is the one before. @param {Detector} d @param {number} version */
  activate(d, version) {
    const active = this.actives.get(d.id)?.version ?? 4;
    const to = version || (active === 4 ? 3 : 0);
    if (to === 0) throw new Refusal(409, 'CONFLICT', 'It does not fit the state of things', 'there is no earlier model version to go back to');
    this.actives.set(d.id, { version: to, reason: version ? 'promoted' : 'rolled back' });
    this.news.push({ type: 'detector.updated', topic: `detectors/${d.id}`, data: { id: d.id } });
    return this.models(d).items.find((m) => m.version === to) ?? null;
  }

  /** @param {Detector} d @param {import('../src/shared/api/types').Anomaly[]} alarms @param {number} now */
  shadow(d, alarms, now) {
    const s = this.shadows.get(d.id);
    if (!s) return undefined;
    const [a, b] = alarms;
    const learning = now - s.at < 2_000;
    return {
      detector_id: d.id,
      state: learning ? 'learning' : 'running',
      definition: definitionOf({ ...d, ...s.patch }),
      changes: changesOf(d, { ...d, ...s.patch }),
      based_on: d.version,
      model_version: 5,
      reason: s.reason,
      progress: Math.min(1, (now - s.at) / 2_000),
      since: learning ? undefined : new Date(s.at + 2_000).toISOString(),
      series: d.status.series_active,
      series_learning: 0,
      memory_bytes: 9000,
      threshold: 4.9,
      agreement: learning ? { samples: 0, both: 0, only_live: 0, only_shadow: 0, share: null } : { samples: 12_480, both: 31, only_live: 9, only_shadow: 1, share: 31 / 41 },
      gained: learning || !b ? [] : [{ ...b, id: 'sh_1' }],
      lost: learning || !a ? [] : [a],
      shared: [],
      truncated: false,
      created_at: new Date(s.at).toISOString(),
      version: 1,
    };
  }

  /** @param {string} kind @param {string | undefined} detector @param {number} now @param {(now: number) => unknown} result */
  start(kind, detector, now, result) {
    const task = { id: `task_${this.tasks.length + 1}`, kind, detector, at: now, cancelled: false, result };
    this.tasks.unshift(task);
    return this.task(task.id, now);
  }

  /** @param {string} id @param {number} now @returns {Task | undefined} */
  task(id, now) {
    const t = this.tasks.find((x) => x.id === id);
    if (!t) return undefined;
    const progress = Math.min(1, (now - t.at) / taskTakes);
    const state = t.cancelled ? 'cancelled' : progress < 1 ? 'running' : 'succeeded';
    const at = new Date(t.at).toISOString();
    return { id, kind: t.kind, state, progress, detector_id: t.detector, result: state === 'succeeded' ? t.result(now) : null, created_at: at, updated_at: at };
  }

  /** What a suggestion finds. @param {Detector} d @param {number} now */
  suggestion(d, now) {
    const patch = { min_deviation: { absolute: 0, relative: 0.25 }, for: '2m' };
    return {
      detector_id: d.id,
      based_on: d.version,
      summary: 'removes 12 of 14 false, keeps 5 of 5 true, changes 3 of 20 unlabelled, adds 0',
      improved: true,
      changes: changesOf(d, { ...d, ...patch }),
      patch,
      from: new Date(now - 30 * 24 * hour).toISOString(),
      to: new Date(now).toISOString(),
      before: counts({}),
      after: counts({ false_removed: 12, unlabelled_changed: 3 }),
      unreproduced: 1,
      evaluations: 18,
      stopped: 'done',
      trials: [],
    };
  }

  /** What a backtest finds. @param {Detector} d @param {import('../src/shared/api/types').Anomaly[]} alarms @param {number} now */
  backtest(d, alarms, now) {
    const anomalies = alarms.slice(0, 7);
    return { detector_id: d.id, from: new Date(now - 168 * hour).toISOString(), to: new Date(now).toISOString(), series: d.status.series_active, samples: 161_280, anomaly_count: anomalies.length, anomalies, alarms_per_week: anomalies.length, false_alarms_per_week: d.false_alarms_per_week, elapsed_seconds: 3 };
  }
}

/**
 * Answers one request about the life of a detector, known events or tasks, null where
 * something is not there, or undefined where the request is another one.
 * @param {Life} life @param {import('./world.mjs').World} world
 * @param {string} method @param {string} path @param {URLSearchParams} query @param {any} body @param {string | undefined} ifMatch @param {number} now
 */
export function answerLife(life, world, method, path, query, body, ifMatch, now) {
  const known = /^\/api\/v1\/known-events(?:\/([^/]+))?$/.exec(path);
  if (known && method !== 'GET') return life.changeKnownEvent(method, known[1], body, ifMatch, now);
  if (known) return known[1] ? (life.events.find((e) => e.id === known[1]) ?? null) : life.knownEvents(query);
  const task = /^\/api\/v1\/tasks(?:\/([^/]+)(\/cancel)?)?$/.exec(path);
  if (task) {
    const [, id, cancel] = task;
    if (!id) {
      const of = query.get('detector_id');
      return { items: life.tasks.filter((t) => !of || t.detector === of).map((t) => life.task(t.id, now)), next_cursor: '' };
    }
    const found = life.tasks.find((t) => t.id === id);
    if (found && cancel) found.cancelled = true;
    return life.task(id, now) ?? null;
  }
  if (method === 'POST' && path === '/api/v1/detectors/backtest') {
    const like = world.detectors(now).find((d) => d.name === body.detector.name);
    return like ? life.start('backtest', undefined, now, (at) => life.backtest({ ...like, ...body.detector }, world.anomalies(at).filter((a) => a.detector_id === like.id), at)) : null;
  }
  const one = /^\/api\/v1\/detectors\/([^/]+)(?:\/(versions|models|shadow|shadow\/promote|models\/rollback|models\/[0-9]+\/promote|revert|train|suggest|search|backtest|suggestions\/[^/]+\/apply))?$/.exec(path);
  if (!one) return undefined;
  const base = world.detectors(now).find((d) => d.id === one[1]);
  if (!base) return null;
  const d = life.current(base);
  const alarms = world.anomalies(now).filter((a) => a.detector_id === d.id);
  switch (`${method} ${one[2] ?? ''}`) {
    case 'PATCH ':
      return life.change(base, body, now);
    case 'GET versions':
      return life.versions(base);
    case 'GET models':
      return life.models(d);
    case 'GET shadow':
      return life.shadow(d, alarms, now) ?? null;
    case 'POST shadow':
      life.shadows.set(d.id, { patch: body.definition, reason: body.reason ?? '', at: now });
      return life.shadow(d, alarms, now);
    case 'POST shadow/promote': {
      const patch = life.shadows.get(d.id)?.patch ?? {};
      life.shadows.delete(d.id);
      return life.change(base, patch, now);
    }
    case 'DELETE shadow':
      life.shadows.delete(d.id);
      return {};
    case 'POST revert':
      return life.change(base, body.version === base.version ? Object.fromEntries(Object.entries(base).filter(([field]) => field in definitionOf(d))) : {}, now);
    case 'POST train':
      return life.start('train', d.id, now, () => ({ version: 5 }));
    case 'POST suggest':
    case 'POST search':
      return life.start(one[2] ?? '', d.id, now, (at) => life.suggestion(d, at));
    case 'POST backtest':
      return life.start('backtest', d.id, now, (at) => life.backtest(d, alarms, at));
  }
  const model = /^models\/(?:rollback|([0-9]+)\/promote)$/.exec(one[2] ?? '');
  if (model && method === 'POST') return life.activate(d, Number(model[1] ?? 0));
  if (method === 'POST') return life.change(base, life.suggestion(d, now).patch, now); // apply
  return undefined;
}
