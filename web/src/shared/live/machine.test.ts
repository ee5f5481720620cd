import { describe, expect, test } from 'vitest';
import { initial, limits, step, wakeAt, type Effect, type Input, type Phase, type State } from './machine';

const now = 1_000_000;

/** A state in which the machine has two topics, changed by `more`. */
function stateIn(phase: Phase, more: Partial<State> = {}): State {
  const topics = new Map([
    ['anomalies', { position: 40, confirmed: true }],
    ['system', { position: 42, confirmed: true }],
  ]);
  return { ...initial, phase, topics, heardAt: now - 100, pingAt: now + 4000, deadAt: now + 9000, liveSince: now - 60_000, ...more };
}

const phases: Record<Phase['name'], Phase> = {
  idle: { name: 'idle' },
  connecting: { name: 'connecting', until: now + 5000 },
  authenticating: { name: 'authenticating', until: now + 5000 },
  replaying: { name: 'replaying', target: 50 },
  live: { name: 'live' },
  waiting: { name: 'waiting', until: now + 5000, told: false },
  offline: { name: 'offline', until: now + 5000, told: false },
  paused: { name: 'paused' },
  unauthorised: { name: 'unauthorised' },
};

const hello: Input = { type: 'message', message: { type: 'hello', heartbeat_ms: 4000, last_event_id: 50, auth_required: false } };
const pong = (n: number): Input => ({ type: 'message', message: { type: 'pong', last_event_id: n } });
const closed = (code: number, reason: object | string = ''): Input => ({ type: 'closed', code, reason: typeof reason === 'string' ? reason : JSON.stringify(reason) });
const at = (offset: number) => ({ now: now + offset, random: 0.5 });
const doing = (effects: Effect[]) => effects.map((e) => (e.do === 'send' ? `send ${e.message.type}` : e.do));

const inputs: Record<string, [Input, number?]> = {
  want: [{ type: 'want', topics: ['anomalies', 'system'] }],
  opened: [{ type: 'opened' }],
  hello: [hello],
  'pong behind': [pong(49)],
  'pong at target': [pong(50)],
  'closed 1006': [closed(1006)],
  'closed 1012': [closed(1012, { reason: 'restart', since: 40, reconnect_after_ms: 7000 })],
  'closed 4401': [closed(4401, { reason: 'unauthorized' })],
  'probed 401': [{ type: 'probed', status: 401, retryAfterMs: undefined }],
  'tick before the deadline': [{ type: 'tick' }],
  'tick at the deadline': [{ type: 'tick' }, 10_000],
  offline: [{ type: 'offline' }],
  online: [{ type: 'online' }],
  visible: [{ type: 'visible' }],
  leave: [{ type: 'leave' }],
  retry: [{ type: 'retry' }],
  'signed in': [{ type: 'signedIn' }],
  stop: [{ type: 'stop' }],
};

// What each input leads to; a phase that is not named stays as it is and does nothing.
const table: Record<keyof typeof inputs, Partial<Record<Phase['name'], [to: Phase['name'], ...done: string[]]>>> = {
  want: { idle: ['connecting', 'open'] },
  opened: { connecting: ['authenticating'] },
  hello: {
    authenticating: ['replaying', 'send subscribe', 'send ping'],
    // A second greeting is no reason to fall apart.
    replaying: ['replaying', 'send subscribe', 'send ping'],
    live: ['replaying', 'send subscribe', 'send ping'],
  },
  'pong behind': {},
  'pong at target': { replaying: ['live'] },
  'closed 1006': { connecting: ['waiting', 'probe'], authenticating: ['waiting'], replaying: ['waiting'], live: ['waiting'] },
  'closed 1012': { connecting: ['waiting'], authenticating: ['waiting'], replaying: ['waiting'], live: ['waiting'] },
  'closed 4401': { connecting: ['unauthorised'], authenticating: ['unauthorised'], replaying: ['unauthorised'], live: ['unauthorised'] },
  'probed 401': { waiting: ['unauthorised'], offline: ['unauthorised'] },
  'tick before the deadline': {},
  'tick at the deadline': {
    connecting: ['waiting', 'close'],
    authenticating: ['waiting', 'close'],
    replaying: ['replaying', 'send ping'],
    live: ['live', 'send ping'],
    waiting: ['connecting', 'open'],
    offline: ['connecting', 'open'],
  },
  offline: { replaying: ['replaying', 'send ping'], live: ['live', 'send ping'], waiting: ['offline'] },
  online: { replaying: ['replaying', 'send ping'], live: ['live', 'send ping'], offline: ['waiting'] },
  visible: { replaying: ['replaying', 'send ping'], live: ['live', 'send ping'], paused: ['connecting', 'open'], offline: ['waiting'] },
  leave: {
    connecting: ['paused', 'close'],
    authenticating: ['paused', 'close'],
    replaying: ['paused', 'close'],
    live: ['paused', 'close'],
    waiting: ['paused'],
    offline: ['paused'],
  },
  retry: { waiting: ['connecting', 'open'], offline: ['connecting', 'open'], paused: ['connecting', 'open'] },
  'signed in': {
    idle: ['connecting', 'open'],
    waiting: ['connecting', 'open'],
    offline: ['connecting', 'open'],
    paused: ['connecting', 'open'],
    unauthorised: ['connecting', 'open'],
  },
  stop: {
    connecting: ['idle', 'close'],
    authenticating: ['idle', 'close'],
    replaying: ['idle', 'close'],
    live: ['idle', 'close'],
    waiting: ['idle'],
    offline: ['idle'],
    paused: ['idle'],
    unauthorised: ['idle'],
  },
};

describe('every input in every phase', () => {
  for (const [name, [input, offset = 0]] of Object.entries(inputs)) {
    for (const phase of Object.keys(phases) as Phase['name'][]) {
      test(`${name} in ${phase}`, () => {
        const [next, effects] = step(stateIn(phases[phase]), input, at(offset));
        const [to, ...done] = table[name]![phase] ?? [phase];
        expect([next.phase.name, ...doing(effects)]).toEqual([to, ...done]);
      });
    }
  }
});

const send = (effects: Effect[]) => effects.flatMap((e) => (e.do === 'send' ? [e.message] : []));
const event = (id: number, topic = 'anomalies/an_1') => ({ id, topic, type: 'anomaly.opened', time: '', data: null });
const events = (...list: ReturnType<typeof event>[]): Input => ({ type: 'message', message: { type: 'events', events: list } });
const delivered = (effects: Effect[]) => effects.flatMap((e) => (e.do === 'deliver' ? e.events.map((x) => x.id) : []));

describe('the cursor', () => {
  test('the first subscription has none, and says that the state has to be loaded', () => {
    let [s, effects] = step(initial, { type: 'want', topics: ['anomalies'] }, at(0));
    [s] = step(s, { type: 'opened' }, at(0));
    [s, effects] = step(s, hello, at(0));
    expect(send(effects)).toEqual([{ type: 'subscribe', topics: ['anomalies'] }, { type: 'ping' }]);
    [s, effects] = step(s, { type: 'message', message: { type: 'subscribed', topics: ['anomalies'], since: 50 } }, at(0));
    expect(effects).toEqual([{ do: 'reset', topics: ['anomalies'], cause: 'start' }]);
    expect(s.topics.get('anomalies')).toEqual({ position: 50, confirmed: true });
  });

  test('it resumes from the oldest cursor of all topics, and drops what it has', () => {
    let [s, effects] = step(stateIn(phases.authenticating), hello, at(0));
    expect(send(effects)[0]).toEqual({ type: 'subscribe', topics: ['anomalies', 'system'], since: 40 });
    [s, effects] = step(s, events(event(41), event(42, 'system'), event(43, 'system'), event(41)), at(0));
    expect(delivered(effects)).toEqual([41, 43]);
    expect([...s.topics.values()].map((sub) => sub.position)).toEqual([41, 43]);
  });

  test('what nobody asked for is not delivered', () => {
    const [, effects] = step(stateIn(phases.live), events(event(60, 'anomaliesx/1'), event(61, 'detectors/1')), at(0));
    expect(delivered(effects)).toEqual([]);
  });

  test('an event that two topics bring is delivered once', () => {
    let [s, effects] = step(stateIn(phases.live), { type: 'want', topics: ['anomalies', 'system', 'anomalies/an_1'] }, at(0));
    expect(send(effects)).toEqual([{ type: 'subscribe', topics: ['anomalies/an_1'], since: 40 }, { type: 'ping' }]);
    [s, effects] = step(s, events(event(41)), at(0));
    expect(delivered(effects)).toEqual([41]);
    [, effects] = step(s, events(event(41)), at(0));
    expect(delivered(effects)).toEqual([]);
  });

  test('a pong moves it, but not that of a topic that is still to be confirmed', () => {
    const s = stateIn(phases.live);
    const topics = new Map(s.topics).set('sources', { position: 40, confirmed: false });
    const [next] = step({ ...s, topics }, pong(99), at(0));
    expect([...next.topics.values()].map((sub) => sub.position)).toEqual([99, 99, 40]);
  });

  test('a reset moves it, backwards as well, and says that the state has to be loaded', () => {
    const reset: Input = { type: 'message', message: { type: 'stream.reset', topics: ['anomalies', 'series/a/b', 'unknown'], last_event_id: 7 } };
    let [s, effects] = step(stateIn(phases.replaying), reset, at(0));
    expect(effects).toEqual([{ do: 'reset', topics: ['anomalies'], cause: 'gap' }]);
    expect(s.topics.get('anomalies')?.position).toBe(7);
    [s, effects] = step(s, events(event(8)), at(0));
    expect(delivered(effects)).toEqual([8]);
    expect(step(s, pong(8), at(0))[0].phase.name).toBe('live');
  });

  test('points have none', () => {
    let [s, effects] = step(stateIn(phases.live), { type: 'want', topics: ['anomalies', 'system', 'series/d/s'] }, at(0));
    expect(send(effects)[0]).toEqual({ type: 'subscribe', topics: ['series/d/s'] });
    [s, effects] = step(s, { type: 'message', message: { type: 'subscribed', topics: ['series/d/s'], since: 50 } }, at(0));
    expect(effects).toEqual([]);
    [, effects] = step(s, { type: 'message', message: { type: 'point', topic: 'series/d/s', data: 1 } }, at(0));
    expect(effects).toEqual([{ do: 'point', topic: 'series/d/s', data: 1 }]);
  });

  test('signing out forgets it', () => {
    const [s] = step(stateIn(phases.live, { token: 'x' }), { type: 'stop' }, at(0));
    expect([...s.topics.values()].map((sub) => sub.position)).toEqual([undefined, undefined]);
    expect(s.token).toBeUndefined();
  });
});

describe('reconnecting', () => {
  const delayAfter = (state: State, input: Input, random = 0.5) => {
    const [s] = step(state, input, { now, random });
    return s.phase.name === 'waiting' || s.phase.name === 'offline' ? s.phase.until - now : NaN;
  };

  test('backs off with full jitter, up to a bound', () => {
    for (const [failures, bound] of [[0, 1000], [1, 2000], [4, 16_000], [5, 30_000], [500, 30_000]] as const) {
      const s = stateIn(phases.live, { failures });
      expect(delayAfter(s, closed(1006), 0)).toBe(limits.backoffLeast);
      expect(delayAfter(s, closed(1006), 0.5)).toBe(limits.backoffLeast + bound / 2);
      expect(delayAfter(s, closed(1006), 0.999)).toBeLessThan(limits.backoffLeast + bound);
    }
  });

  test('only a stream that lasted ends the row of failures', () => {
    const live = stateIn(phases.live, { failures: 3, liveSince: now });
    expect(step(live, pong(60), at(limits.lasting - 1))[0].failures).toBe(3);
    expect(step(live, pong(60), at(limits.lasting))[0].failures).toBe(0);
  });

  test('obeys the delay that the server asks for, within reason', () => {
    const s = stateIn(phases.live);
    expect(delayAfter(s, closed(1012, { reason: 'restart', reconnect_after_ms: 17_000 }))).toBe(17_000);
    expect(delayAfter(s, closed(1013, { reason: 'too slow', since: 3, reconnect_after_ms: 2000 }))).toBe(2000);
    expect(delayAfter(s, closed(1012, { reconnect_after_ms: 1e12 }))).toBe(300_000);
    expect(delayAfter(s, closed(1013, { reason: 'too slow', since: 3 }))).toBe(600);
  });

  test('a delay that the server asked for is not cut short by anything but a person', () => {
    const [told] = step(stateIn(phases.live), closed(1012, { reconnect_after_ms: 17_000 }), at(0));
    for (const type of ['online', 'visible'] as const) expect(step(told, { type }, at(0))[0].phase).toEqual(told.phase);
    expect(step(told, { type: 'retry' }, at(0))[0].phase.name).toBe('connecting');
  });

  test('a refused handshake waits as long as Retry-After says', () => {
    const [s] = step(stateIn(phases.connecting), closed(1006), at(0));
    const [later] = step(s, { type: 'probed', status: 503, retryAfterMs: 8000 }, at(0));
    expect(later.phase).toEqual({ name: 'waiting', until: now + 10_000, told: true });
    expect(step(s, { type: 'probed', status: 200, retryAfterMs: undefined }, at(0))[0].phase).toEqual(s.phase);
    expect(step(s, { type: 'probed', status: 403, retryAfterMs: undefined }, at(0))[0].why).toBe('the server refuses this page');
  });

  test('after a fault of this page it does not press on', () => {
    for (const code of [1002, 1003, 1008, 1009, 4429]) expect(delayAfter(stateIn(phases.live), closed(code))).toBeGreaterThanOrEqual(limits.refused);
  });

  test('without a network it waits for one, and pages spread when it is back', () => {
    const [s] = step(stateIn(phases.live, { online: false }), closed(1006), at(0));
    expect(s.phase).toEqual({ name: 'offline', until: now + limits.offline, told: false });
    const [back] = step(s, { type: 'online' }, { now, random: 0.7 });
    expect(back.phase).toEqual({ name: 'waiting', until: now + 700, told: false });
  });
});

describe('the heartbeat', () => {
  test('asks in time and gives up on silence', () => {
    let s = stateIn(phases.live);
    let effects: Effect[];
    [s, effects] = step(s, { type: 'tick' }, at(4000));
    expect(doing(effects)).toEqual(['send ping']);
    expect(wakeAt(s)).toBe(now + 8000);
    [s] = step(s, { type: 'tick' }, at(8000));
    [s, effects] = step(s, { type: 'tick' }, at(9000));
    expect([s.phase.name, ...doing(effects)]).toEqual(['waiting', 'close']);
    expect(s.why).toBe('no sign of life from the server');
  });

  test('anything that is heard is a sign of life', () => {
    const [s] = step(stateIn(phases.live), events(event(60)), at(8000));
    expect(s.deadAt).toBe(now + 8000 + 2 * s.heartbeat + 1000);
  });

  test('a page that slept asks once more before it gives up', () => {
    const [woken, effects] = step(stateIn(phases.live), { type: 'tick' }, at(3_600_000));
    expect([woken.phase.name, ...doing(effects)]).toEqual(['live', 'send ping']);
    expect(step(woken, { type: 'tick' }, at(3_604_000))[0].phase.name).toBe('waiting');
  });

  test('a page that wakes finds out within seconds', () => {
    const [s] = step(stateIn(phases.live), { type: 'visible' }, at(0));
    expect(s.deadAt).toBe(now + 4000);
    expect(step(s, { type: 'tick' }, at(4000))[0].phase.name).toBe('waiting');
  });
});

describe('giving the socket back', () => {
  test('a page that is hidden for long pauses and comes back', () => {
    let [s] = step(stateIn(phases.live), { type: 'hidden' }, at(0));
    let effects: Effect[];
    expect(step(s, { type: 'tick' }, at(limits.hidden - 1))[0].phase.name).toBe('live');
    [s, effects] = step(s, { type: 'tick' }, at(limits.hidden));
    expect([s.phase.name, ...doing(effects)]).toEqual(['paused', 'close']);
    [s, effects] = step(s, { type: 'visible' }, at(limits.hidden + 1000));
    expect([s.phase.name, ...doing(effects)]).toEqual(['connecting', 'open']);
  });

  test('a stream that nobody wants any more ends a little later', () => {
    let [s, effects] = step(stateIn(phases.live), { type: 'want', topics: [] }, at(0));
    expect(doing(effects)).toEqual(['send unsubscribe']);
    const [wanted] = step(s, { type: 'want', topics: ['system'] }, at(100));
    expect([wanted.phase.name, wanted.unwantedSince]).toEqual(['live', 0]);
    [s, effects] = step(s, { type: 'tick' }, at(limits.unwanted));
    expect([s.phase.name, ...doing(effects)]).toEqual(['idle', 'close']);
  });

  test('topics are bounded', () => {
    const [s] = step(stateIn(phases.live), { type: 'want', topics: Array.from({ length: 100 }, (_, i) => `anomalies/${i}`) }, at(0));
    expect(s.topics.size).toBe(limits.topics);
  });
});

test('a server that wants to know who asks gets no further questions', () => {
  const [s, effects] = step(stateIn(phases.authenticating), { type: 'message', message: { type: 'hello', heartbeat_ms: 4000, last_event_id: 50, auth_required: true } }, at(0));
  expect([s.phase.name, ...doing(effects)]).toEqual(['unauthorised', 'close']);
});

test('a token is the first message', () => {
  const [connecting] = step(stateIn(phases.unauthorised), { type: 'signedIn', token: 'secret' }, at(0));
  const [s, effects] = step(connecting, { type: 'opened' }, at(0));
  expect(send(effects)).toEqual([{ type: 'auth', token: 'secret' }]);
  expect(s.phase.name).toBe('authenticating');
});

test('a server that is too busy is asked again', () => {
  const [asked] = step(stateIn(phases.live), { type: 'want', topics: ['anomalies', 'system', 'sources'] }, at(0));
  const [refused] = step(asked, { type: 'message', message: { type: 'error', code: 'busy', detail: 'later' } }, at(0));
  const [s, effects] = step(refused, { type: 'tick' }, at(4000));
  expect(send(effects)).toEqual([{ type: 'subscribe', topics: ['sources'], since: 40 }, { type: 'ping' }]);
  expect(s.again).toBe(false);
});
