import { covers, isPoints, readFarewell, type ClientMessage, type LiveEvent, type ServerMessage } from './protocol';

/**
 * The live stream seen from a browser, as a pure state machine: inputs go in,
 * effects come out, time and chance are arguments. It keeps one cursor per
 * topic, so that what was missed is asked for after a break, what came twice
 * is dropped, and what cannot be had is told as a reset. docs/live.md has a
 * diagram of the phases.
 */

/** Where the stream is. `until` and the like are times in milliseconds. */
export type Phase =
  | { name: 'idle' }
  | { name: 'connecting'; until: number }
  | { name: 'authenticating'; until: number }
  | { name: 'replaying'; target: number }
  | { name: 'live' }
  | { name: 'waiting'; until: number; told: boolean }
  | { name: 'offline'; until: number; told: boolean }
  | { name: 'paused' }
  | { name: 'unauthorised' };

/** One subscription. */
export interface Subscription {
  /** Everything of the topic up to this event is here; undefined before the server said where it begins. */
  position: number | undefined;
  /** The server confirmed it on the present socket. */
  confirmed: boolean;
}

/** Everything the machine knows. Treat it as read-only. */
export interface State {
  phase: Phase;
  topics: ReadonlyMap<string, Subscription>;
  /** Tries in a row that did not lead to a stream that lasted. */
  failures: number;
  /** Why the last connection ended, in the server's or the page's words. */
  why: string;
  online: boolean;
  /** Since when the page is hidden, or 0. */
  hiddenSince: number;
  heartbeat: number;
  /** When the server was last heard. */
  heardAt: number;
  pingAt: number;
  /** When the connection counts as dead unless something is heard. */
  deadAt: number;
  /** The deadline was put off once because the page had slept. */
  graced: boolean;
  liveSince: number;
  /** Since when nobody wants a topic, or 0. */
  unwantedSince: number;
  token: string | undefined;
  /** The server was too busy for a subscription; it is sent again with the next ping. */
  again: boolean;
}

export type Input =
  | { type: 'want'; topics: readonly string[] }
  | { type: 'opened' }
  | { type: 'message'; message: ServerMessage }
  | { type: 'closed'; code: number; reason: string }
  | { type: 'probed'; status: number; retryAfterMs: number | undefined }
  | { type: 'tick' | 'online' | 'offline' | 'visible' | 'hidden' | 'leave' | 'retry' | 'stop' }
  | { type: 'signedIn'; token?: string };

export type Effect =
  | { do: 'open' }
  | { do: 'close' }
  | { do: 'send'; message: ClientMessage }
  | { do: 'deliver'; events: LiveEvent[] }
  | { do: 'point'; topic: string; data: unknown }
  /** State has to be loaded by REST: at the start, or because events are gone. */
  | { do: 'reset'; topics: string[]; cause: 'start' | 'gap' }
  /** Ask over HTTP why the handshake was refused; browsers do not tell. */
  | { do: 'probe' };

export interface Surroundings {
  now: number;
  /** A number from 0 to 1, without 1. */
  random: number;
}

/** The times of the machine in milliseconds, and other bounds. */
export const limits = {
  handshake: 10_000,
  backoffBase: 1_000,
  backoffMost: 30_000,
  backoffLeast: 100,
  /** After a refusal that another try will not change soon. */
  refused: 30_000,
  /** Between tries while the browser says that there is no network; it may be wrong. */
  offline: 30_000,
  /** Over which pages spread when the network is back. */
  spread: 1_000,
  /** A stream that lasted so long ends the row of failures. */
  lasting: 10_000,
  catchUpPing: 500,
  hidden: 600_000,
  unwanted: 5_000,
  topics: 64,
} as const;

export const initial: State = {
  phase: { name: 'idle' },
  topics: new Map(),
  failures: 0,
  why: '',
  online: true,
  hiddenSince: 0,
  heartbeat: 4_000,
  heardAt: 0,
  pingAt: 0,
  deadAt: 0,
  graced: false,
  liveSince: 0,
  unwantedSince: 0,
  token: undefined,
  again: false,
};

/** Tells whether the machine holds a socket in this phase. */
export function hasSocket(phase: Phase): boolean {
  return phase.name === 'connecting' || isOpen(phase);
}

function isOpen(phase: Phase): boolean {
  return phase.name === 'authenticating' || isReady(phase);
}

function isReady(phase: Phase): boolean {
  return phase.name === 'replaying' || phase.name === 'live';
}

/** When the next tick is due, or undefined when none is. */
export function wakeAt(s: State): number | undefined {
  const times: number[] = [];
  const p = s.phase;
  if (p.name === 'connecting' || p.name === 'authenticating' || p.name === 'waiting' || p.name === 'offline') times.push(p.until);
  if (isReady(p)) times.push(s.pingAt, s.deadAt);
  if (s.hiddenSince > 0 && (hasSocket(p) || p.name === 'waiting' || p.name === 'offline')) times.push(s.hiddenSince + limits.hidden);
  if (s.unwantedSince > 0) times.push(s.unwantedSince + limits.unwanted);
  return times.length > 0 ? Math.min(...times) : undefined;
}

/** Takes one input and returns the next state with what is to be done, in order. */
export function step(state: State, input: Input, env: Surroundings): [State, Effect[]] {
  const m = new Machine(state, env);
  m.take(input);
  return [m.s, m.effects];
}

/** One step: a draft of the next state and the effects so far. */
class Machine {
  s: State & { topics: Map<string, Subscription> };
  effects: Effect[] = [];

  constructor(
    state: State,
    private readonly env: Surroundings,
  ) {
    this.s = { ...state, topics: new Map(state.topics) };
  }

  take(input: Input) {
    const { s } = this;
    switch (input.type) {
      case 'want':
        return this.want(input.topics);
      case 'opened':
        if (s.phase.name !== 'connecting') return;
        s.phase = { name: 'authenticating', until: this.env.now + limits.handshake };
        if (s.token !== undefined) this.send({ type: 'auth', token: s.token });
        return;
      case 'message':
        return this.message(input.message);
      case 'closed':
        return this.closed(input.code, input.reason);
      case 'probed':
        return this.probed(input.status, input.retryAfterMs);
      case 'tick':
        return this.tick();
      case 'online':
        s.online = true;
        if (isReady(s.phase)) this.check();
        else if (this.waits()) this.wait(this.env.random * limits.spread);
        return;
      case 'offline':
        s.online = false;
        if (isReady(s.phase)) this.check();
        else if (s.phase.name === 'waiting') s.phase = { ...s.phase, name: 'offline' };
        return;
      case 'visible':
        s.hiddenSince = 0;
        if (s.phase.name === 'paused') this.connect();
        else if (isReady(s.phase)) this.check();
        else if (this.waits()) this.wait(this.env.random * limits.spread);
        return;
      case 'hidden':
        s.hiddenSince = s.hiddenSince || this.env.now;
        return;
      case 'leave':
        return this.pause();
      case 'retry':
        if (s.phase.name === 'waiting' || s.phase.name === 'offline' || s.phase.name === 'paused') this.connect();
        return;
      case 'signedIn':
        s.token = input.token ?? s.token;
        s.failures = 0;
        if (!hasSocket(s.phase) && s.topics.size > 0) this.connect();
        return;
      case 'stop':
        this.hangUp();
        s.phase = { name: 'idle' };
        s.token = undefined;
        for (const [topic, sub] of s.topics) s.topics.set(topic, { ...sub, position: undefined });
        return;
    }
  }

  /** Whether it waits for a time of its own choice, which may be cut short. */
  private waits(): boolean {
    const p = this.s.phase;
    return (p.name === 'waiting' || p.name === 'offline') && !p.told;
  }

  private send(message: ClientMessage) {
    this.effects.push({ do: 'send', message });
  }

  private want(wanted: readonly string[]) {
    const { s } = this;
    const kept = new Set(wanted.slice(0, limits.topics));
    const gone = [...s.topics.keys()].filter((t) => !kept.has(t));
    const added = [...kept].filter((t) => !s.topics.has(t));
    for (const t of gone) s.topics.delete(t);
    if (gone.length > 0 && isReady(s.phase)) this.send({ type: 'unsubscribe', topics: gone });
    // What is added begins where the others are, so that nothing falls between.
    const position = this.oldest();
    for (const t of added) s.topics.set(t, { position: isPoints(t) ? undefined : position, confirmed: false });
    if (added.length > 0 && isReady(s.phase)) this.subscribe(added);
    if (s.topics.size === 0) s.unwantedSince = s.unwantedSince || this.env.now;
    else s.unwantedSince = 0;
    if (s.topics.size > 0 && s.phase.name === 'idle') this.connect();
  }

  /** The oldest cursor of all topics: what came after it is not certain to be here. */
  private oldest(): number | undefined {
    const positions = [...this.s.topics.values()].flatMap((sub) => sub.position ?? []);
    return positions.length > 0 ? Math.min(...positions) : undefined;
  }

  private subscribe(topics: readonly string[]) {
    const resumed = topics.filter((t) => this.s.topics.get(t)?.position !== undefined);
    const fresh = topics.filter((t) => !resumed.includes(t));
    const since = Math.min(...resumed.map((t) => this.s.topics.get(t)!.position!));
    if (resumed.length > 0) this.send({ type: 'subscribe', topics: resumed, since });
    if (fresh.length > 0) this.send({ type: 'subscribe', topics: fresh });
    this.ping();
  }

  private ping() {
    this.send({ type: 'ping' });
    this.s.pingAt = this.env.now + (this.s.phase.name === 'live' ? this.s.heartbeat : Math.min(limits.catchUpPing, this.s.heartbeat));
  }

  /** Makes sure quickly that the server is still there, as after a sleep. */
  private check() {
    const { s, env } = this;
    this.ping();
    s.deadAt = Math.min(s.deadAt, env.now + Math.max(2_000, s.heartbeat));
    s.graced = true;
  }

  private connect() {
    const { s, env } = this;
    for (const [topic, sub] of s.topics) s.topics.set(topic, { ...sub, confirmed: false });
    s.phase = { name: 'connecting', until: env.now + limits.handshake };
    s.again = false;
    this.effects.push({ do: 'open' });
  }

  private hangUp() {
    if (hasSocket(this.s.phase)) this.effects.push({ do: 'close' });
  }

  private pause() {
    if (this.s.phase.name === 'idle' || this.s.phase.name === 'unauthorised') return;
    this.hangUp();
    this.s.phase = { name: 'paused' };
  }

  private wait(delay: number, told = false) {
    const { s, env } = this;
    const until = env.now + delay;
    s.phase = s.online ? { name: 'waiting', until, told } : { name: 'offline', until: Math.max(until, env.now + limits.offline), told };
  }

  /** Ends the present connection from this side and goes on to the next try. */
  private abandon(why: string) {
    this.hangUp();
    this.failed(why);
  }

  /** Full jitter: anything up to a bound that doubles with each failure. */
  private failed(why: string, least: number = limits.backoffLeast) {
    const { s, env } = this;
    const bound = Math.min(limits.backoffMost, limits.backoffBase * 2 ** Math.min(s.failures, 20));
    s.failures++;
    s.why = why;
    this.wait(least + env.random * bound);
  }

  private message(message: ServerMessage) {
    const { s, env } = this;
    if (!isOpen(s.phase)) return;
    s.heardAt = env.now;
    s.deadAt = env.now + 2 * s.heartbeat + 1_000;
    s.graced = false;
    switch (message.type) {
      case 'hello':
        if (message.auth_required && s.token === undefined) {
          this.hangUp();
          s.phase = { name: 'unauthorised' };
          s.why = 'not signed in';
          return;
        }
        s.heartbeat = Math.min(60_000, Math.max(500, message.heartbeat_ms || initial.heartbeat));
        s.deadAt = env.now + 2 * s.heartbeat + 1_000;
        s.phase = { name: 'replaying', target: message.last_event_id };
        this.subscribe([...s.topics.keys()]);
        return;
      case 'subscribed':
        return this.subscribed(message.topics, message.since);
      case 'events':
        return this.events(message.events);
      case 'point':
        if ([...s.topics.keys()].some((t) => covers(t, message.topic))) this.effects.push({ do: 'point', topic: message.topic, data: message.data });
        return;
      case 'stream.reset':
        return this.reset(message.topics, message.last_event_id);
      case 'pong':
        return this.pong(message.last_event_id);
      case 'error':
        s.why = message.detail;
        if (message.code === 'busy') s.again = true;
        return;
    }
  }

  private subscribed(topics: readonly string[], since: number) {
    const started: string[] = [];
    for (const topic of topics) {
      const sub = this.s.topics.get(topic);
      if (!sub) continue;
      const first = sub.position === undefined && !isPoints(topic);
      if (first) started.push(topic);
      this.s.topics.set(topic, { position: first ? since : sub.position, confirmed: true });
    }
    if (started.length > 0) this.effects.push({ do: 'reset', topics: started, cause: 'start' });
  }

  private events(events: readonly LiveEvent[]) {
    const fresh: LiveEvent[] = [];
    for (const e of events) {
      const covering = [...this.s.topics].filter(([topic, sub]) => sub.position !== undefined && covers(topic, e.topic));
      if (covering.length === 0 || covering.some(([, sub]) => sub.position! >= e.id)) continue;
      for (const [topic, sub] of covering) this.s.topics.set(topic, { ...sub, position: e.id });
      fresh.push(e);
    }
    if (fresh.length > 0) this.effects.push({ do: 'deliver', events: fresh });
  }

  private reset(topics: readonly string[], last: number) {
    const lost: string[] = [];
    for (const topic of topics) {
      const sub = this.s.topics.get(topic);
      if (!sub || isPoints(topic)) continue;
      this.s.topics.set(topic, { position: last, confirmed: true });
      lost.push(topic);
    }
    const { phase } = this.s;
    // A log that begins anew never reaches the number that the old one had.
    if (phase.name === 'replaying') this.s.phase = { ...phase, target: Math.min(phase.target, last) };
    if (lost.length > 0) this.effects.push({ do: 'reset', topics: lost, cause: 'gap' });
  }

  private pong(last: number) {
    const { s, env } = this;
    let waiting = false;
    for (const [topic, sub] of s.topics) {
      waiting ||= !sub.confirmed;
      if (sub.confirmed && sub.position !== undefined) s.topics.set(topic, { ...sub, position: Math.max(sub.position, last) });
    }
    if (s.phase.name === 'replaying' && last >= s.phase.target && !waiting) {
      s.phase = { name: 'live' };
      s.liveSince = env.now;
      s.pingAt = env.now + s.heartbeat;
      s.why = '';
    }
    if (s.phase.name === 'live' && env.now - s.liveSince >= limits.lasting) s.failures = 0;
  }

  private closed(code: number, reason: string) {
    const { s } = this;
    if (!hasSocket(s.phase)) return;
    const opened = s.phase.name !== 'connecting';
    const farewell = readFarewell(reason);
    if (code === 4401 || code === 4403) {
      s.phase = { name: 'unauthorised' };
      s.why = farewell.reason;
    } else if (farewell.reconnectAfterMs !== undefined) {
      s.why = farewell.reason;
      this.wait(farewell.reconnectAfterMs, true);
    } else if (code === 1002 || code === 1003 || code === 1008 || code === 1009 || code === 4429) {
      this.failed(farewell.reason || `the server closed with ${code}`, limits.refused);
    } else {
      this.failed(farewell.reason || (opened ? 'the connection broke' : 'the server cannot be reached'));
      if (!opened) this.effects.push({ do: 'probe' });
    }
  }

  private probed(status: number, retryAfterMs: number | undefined) {
    const { s, env } = this;
    if (s.phase.name !== 'waiting' && s.phase.name !== 'offline') return;
    if (status === 401) {
      s.phase = { name: 'unauthorised' };
      s.why = 'not signed in';
      return;
    }
    const asked = status === 403 || status === 404 ? limits.refused : (retryAfterMs ?? 0);
    if (status >= 400 && asked > 0) {
      s.why = status === 403 ? 'the server refuses this page' : status === 404 ? 'the server has no live stream' : 'the server is busy';
      s.phase = { ...s.phase, until: Math.max(s.phase.until, env.now + asked * (1 + env.random / 2)), told: true };
    }
  }

  private tick() {
    const { s, env } = this;
    if (s.unwantedSince > 0 && env.now >= s.unwantedSince + limits.unwanted) {
      this.hangUp();
      s.unwantedSince = 0;
      s.phase = { name: 'idle' };
      return;
    }
    if (s.hiddenSince > 0 && env.now >= s.hiddenSince + limits.hidden) return this.pause();
    switch (s.phase.name) {
      case 'connecting':
      case 'authenticating':
        if (env.now >= s.phase.until) this.abandon('no answer from the server');
        return;
      case 'waiting':
      case 'offline':
        if (env.now >= s.phase.until) this.connect();
        return;
      case 'replaying':
      case 'live':
        return this.watch();
      case 'idle':
      case 'paused':
      case 'unauthorised':
        return;
    }
  }

  /** The heartbeat: asks for a sign of life, and gives up on a server that gives none. */
  private watch() {
    const { s, env } = this;
    if (env.now >= s.deadAt) {
      // A timer that is late says that the page slept, not that the server is
      // gone: what it sent meanwhile is still to be read.
      if (s.graced || env.now - s.deadAt < 1_000) return this.abandon('no sign of life from the server');
      this.ping();
      s.graced = true;
      s.deadAt = env.now + Math.max(2_000, s.heartbeat);
      return;
    }
    if (env.now < s.pingAt) return;
    if (s.again) {
      s.again = false;
      this.subscribe([...s.topics].filter(([, sub]) => !sub.confirmed).map(([topic]) => topic));
    } else this.ping();
  }
}

