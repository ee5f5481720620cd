import { LiveClient, type Socket, type Transport } from '../shared/live/client';
import { covers, type LiveEvent } from '../shared/live/protocol';

/** A clock that stands still until it is told to go on. */
export class FakeClock {
  now = 1_000_000;
  // A set keeps the order in which timers were set, which decides between equal times.
  private readonly timers = new Set<{ at: number; call: () => void }>();

  after(delay: number, call: () => void): () => void {
    const timer = { at: this.now + delay, call };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  }

  /** Goes on for some milliseconds and calls what is due, in order. */
  async go(ms: number) {
    const end = this.now + ms;
    for (;;) {
      let next: { at: number; call: () => void } | undefined;
      for (const timer of this.timers) if (timer.at <= end && timer.at < (next?.at ?? Infinity)) next = timer;
      if (!next) break;
      this.timers.delete(next);
      this.now = Math.max(this.now, next.at);
      next.call();
      await Promise.resolve();
    }
    this.now = end;
    await Promise.resolve();
  }

  /** Lets time pass without anything being called, as when a machine sleeps. */
  sleep(ms: number) {
    this.now += ms;
  }
}

interface Line {
  socket: Socket;
  subs: Map<string, { from: number; after: number }>;
  /** Events wait while it replays. */
  replaying: boolean;
  cursor: number;
  /** When the last frame arrives: frames keep their order. */
  arrives: number;
  dead: boolean;
}

/** A pseudo-random number from 0 to 1, the same for the same seed. */
export function randomOf(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * A server of the live stream in memory, behind a network that can be cut: it
 * keeps a log, replays page by page, and answers as docs/live.md says.
 */
export class FakeStream {
  readonly clock = new FakeClock();
  log: LiveEvent[] = [];
  oldest = 1;
  last = 0;
  up = true;
  /** What an HTTP request is answered with; undefined is no answer. */
  status: number | undefined = 200;
  retryAfterMs: number | undefined;
  latency = () => 5;
  page = 64;
  /** Controls of the tests: an event that is never told, and a pong that promises what is still to be replayed. */
  withheld: number | undefined;
  overclaims = false;
  /** Sockets that the page holds now, and the most it ever held at once. */
  held = 0;
  most = 0;
  opened = 0;
  probes = 0;
  private lines = new Set<Line>();
  /** The messages that the page sent, as they were read. */
  readonly received: Record<string, unknown>[] = [];

  constructor(private readonly random: () => number = () => 0.5) {}

  /** A client whose only network is this server. */
  client(): LiveClient {
    const transport: Transport = {
      open: () => this.open(),
      probe: () => {
        this.probes++;
        return this.status === undefined ? Promise.reject(new Error('no answer')) : Promise.resolve({ status: this.status, retryAfterMs: this.retryAfterMs });
      },
      now: () => this.clock.now,
      random: this.random,
      after: (delay, call) => this.clock.after(delay, call),
    };
    return new LiveClient(transport);
  }

  private open(): Socket {
    this.opened++;
    this.held++;
    this.most = Math.max(this.most, this.held);
    const socket: Socket = { onopen: null, onmessage: null, onclose: null, send: (text) => this.take(line, text), close: () => gone() };
    const line: Line = { socket, subs: new Map(), replaying: false, cursor: 0, arrives: 0, dead: false };
    let counted = true;
    const gone = () => {
      if (counted) this.held--;
      counted = false;
      line.dead = true;
      this.lines.delete(line);
    };
    this.clock.after(this.latency(), () => {
      if (line.dead) return;
      if (!this.up) {
        const { onclose } = socket;
        gone();
        onclose?.({ code: 1006, reason: '' });
        return;
      }
      this.lines.add(line);
      socket.onopen?.();
      this.say(line, { type: 'hello', id: 'c1', heartbeat_ms: 4000, last_event_id: this.last });
    });
    return socket;
  }

  private say(line: Line, message: object) {
    line.arrives = Math.max(line.arrives, this.clock.now + this.latency());
    this.clock.after(line.arrives - this.clock.now, () => {
      if (!line.dead) line.socket.onmessage?.({ data: JSON.stringify(message) });
    });
  }

  private take(line: Line, text: string) {
    if (!this.lines.has(line)) return;
    this.clock.after(this.latency(), () => {
      if (!this.lines.has(line)) return;
      const m = JSON.parse(text) as { type: string; topics: string[]; since?: number };
      this.received.push(m);
      if (m.type === 'ping') this.say(line, { type: 'pong', last_event_id: line.replaying && !this.overclaims ? line.cursor : this.last });
      if (m.type === 'unsubscribe') {
        for (const t of m.topics) line.subs.delete(t);
        this.say(line, { type: 'unsubscribed', topics: m.topics });
      }
      if (m.type === 'subscribe') this.subscribe(line, m.topics, m.since);
    });
  }

  private subscribe(line: Line, topics: string[], since: number | undefined) {
    if (line.replaying) {
      this.clock.after(50, () => this.lines.has(line) && this.subscribe(line, topics, since));
      return;
    }
    const from = since ?? this.last;
    this.say(line, { type: 'subscribed', topics, since: from > this.last ? this.last : from });
    if (from > this.last || from < this.oldest - 1) {
      for (const t of [...line.subs.keys(), ...topics]) line.subs.set(t, { from: this.last, after: this.last });
      this.say(line, { type: 'stream.reset', topics: [...line.subs.keys()], oldest_event_id: this.oldest, last_event_id: this.last });
      return;
    }
    for (const sub of line.subs.values()) sub.after = Math.max(sub.after, this.last);
    for (const t of topics) line.subs.set(t, { from, after: from });
    line.cursor = from;
    line.replaying = from < this.last;
    if (line.replaying) this.replay(line);
  }

  private replay(line: Line) {
    if (!this.lines.has(line)) return;
    if (line.cursor < this.oldest - 1) {
      line.replaying = false;
      for (const sub of line.subs.values()) sub.from = sub.after = this.last;
      this.say(line, { type: 'stream.reset', topics: [...line.subs.keys()], oldest_event_id: this.oldest, last_event_id: this.last });
      return;
    }
    const page = this.log.filter((e) => e.id > line.cursor).slice(0, this.page);
    this.events(line, page);
    line.cursor = page.at(-1)?.id ?? this.last;
    if (line.cursor < this.last) {
      this.clock.after(this.latency(), () => this.replay(line));
      return;
    }
    line.replaying = false;
    for (const sub of line.subs.values()) sub.after = Math.max(sub.after, line.cursor);
  }

  private events(line: Line, events: LiveEvent[]) {
    const wanted = events.filter((e) => {
      if (e.id === this.withheld) return false;
      const subs = [...line.subs].filter(([t]) => covers(t, e.topic)).map(([, s]) => s);
      return subs.some((s) => s.after < e.id) && !subs.some((s) => s.from < e.id && e.id <= s.after);
    });
    if (wanted.length > 0) this.say(line, { type: 'events', events: wanted });
  }

  /** Something happens: it is logged and told. */
  publish(topic: string, type = 'anomaly.opened', data: unknown = {}): LiveEvent {
    const event = { id: ++this.last, type, topic, time: new Date(this.clock.now).toISOString(), data };
    this.log.push(event);
    for (const line of this.lines) {
      if (line.replaying) continue;
      this.events(line, [event]);
      for (const sub of line.subs.values()) sub.after = Math.max(sub.after, event.id);
    }
    return event;
  }

  /** Sends a live point to those who have the topic. */
  point(topic: string, data: unknown) {
    for (const line of this.lines) if ([...line.subs.keys()].some((t) => covers(t, topic))) this.say(line, { type: 'point', topic, data });
  }

  /** Sends any message to everyone. */
  announce(message: object) {
    for (const line of this.lines) this.say(line, message);
  }

  /** Deletes events before a number. */
  forget(before: number) {
    this.oldest = Math.max(this.oldest, Math.min(before, this.last + 1));
    this.log = this.log.filter((e) => e.id >= this.oldest);
  }

  /** Ends every connection with a close frame, or with none. What is under way does not arrive. */
  close(code = 1006, reason: object | string = '') {
    for (const line of [...this.lines]) {
      this.lines.delete(line);
      line.dead = true;
      this.held--;
      const { socket } = line;
      this.clock.after(1, () => socket.onclose?.({ code, reason: typeof reason === 'string' ? reason : JSON.stringify(reason) }));
      socket.close = () => undefined;
    }
  }

  /** Cuts every connection without anyone being told, as when a cable is pulled. */
  cut() {
    for (const line of [...this.lines]) {
      this.lines.delete(line);
      line.dead = true;
    }
  }

  get connected(): number {
    return this.lines.size;
  }
}
