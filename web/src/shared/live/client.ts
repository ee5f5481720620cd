import { hasSocket, initial, step, wakeAt, type Effect, type Input, type State } from './machine';
import { covers, readMessage, readRetryAfter, subprotocol, type LiveEvent } from './protocol';

/** What a subscriber wants to be told. All of it is called outside of React's rendering. */
export interface Listener {
  /** Events in the order of their numbers, each once. */
  events?: (events: readonly LiveEvent[]) => void;
  /** A live point; a later one may have replaced earlier ones. */
  point?: (topic: string, data: unknown) => void;
  /**
   * The state of these topics has to be loaded: the stream begins here, or
   * events are gone for good. What comes after is told again.
   */
  reset?: (topics: readonly string[], cause: 'start' | 'gap') => void;
}

/** What a person needs to know of the stream. It is a new object only when it changed. */
export interface Connection {
  state: 'idle' | 'connecting' | 'live' | 'catching up' | 'reconnecting' | 'offline' | 'paused' | 'unauthorised';
  /** When it is tried again, in milliseconds; 0 when no try is planned. */
  retryAt: number;
  /** Until when what is shown was certain to be up to date; 0 before that. While the state is live it is now. */
  confirmedAt: number;
  why: string;
}

/** The part of a WebSocket that the client uses. */
export interface Socket {
  send(text: string): void;
  close(code?: number): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
}

/** What a refused handshake would have said, asked over HTTP. */
export interface Probe {
  status: number;
  retryAfterMs: number | undefined;
}

/** What the client needs of its surroundings, so that tests can give it others. */
export interface Transport {
  open: () => Socket;
  probe: () => Promise<Probe>;
  now: () => number;
  random: () => number;
  /** Calls back once after a delay; the result cancels it. */
  after: (delay: number, call: () => void) => () => void;
}

interface Subscriber {
  topics: readonly string[];
  listener: Listener;
}

/**
 * One live stream for the whole page: subscribers share a socket, topics are
 * counted, and the socket is closed when nobody is left. The machine decides;
 * this class only carries out what it says.
 */
export class LiveClient {
  private state: State = initial;
  private socket: Socket | undefined;
  private cancel: (() => void) | undefined;
  private readonly subscribers = new Set<Subscriber>();
  private readonly watchers = new Set<() => void>();
  private shown: Connection = { state: 'idle', retryAt: 0, confirmedAt: 0, why: '' };
  private readonly inputs: Input[] = [];
  private busy = false;

  constructor(private readonly transport: Transport) {}

  /** Subscribes to topics and what lies below them. Returns what ends it. */
  subscribe(topics: readonly string[], listener: Listener): () => void {
    const subscriber = { topics, listener };
    this.subscribers.add(subscriber);
    this.want();
    return () => {
      if (this.subscribers.delete(subscriber)) this.want();
    };
  }

  /** The present state, the same object until it changes. */
  readonly connection = (): Connection => this.shown;

  /** Calls back after each change of the connection. Returns what ends it. */
  readonly watch = (changed: () => void): (() => void) => {
    this.watchers.add(changed);
    return () => this.watchers.delete(changed);
  };

  /** Tells the stream what happened outside: the network, the page's visibility, a person. Does not block. */
  readonly tell = (type: 'online' | 'offline' | 'visible' | 'hidden' | 'leave' | 'retry' | 'stop'): void => this.put({ type });

  /** Somebody signed in: by a cookie, or by a token that is sent as the first message. */
  readonly signedIn = (token?: string): void => this.put({ type: 'signedIn', token });

  private want() {
    this.put({ type: 'want', topics: [...new Set([...this.subscribers].flatMap((s) => s.topics))] });
  }

  /** Takes inputs one after the other, also those that listeners cause meanwhile. */
  private put(input: Input) {
    this.inputs.push(input);
    if (this.busy) return;
    this.busy = true;
    try {
      for (let next = this.inputs.shift(); next; next = this.inputs.shift()) this.run(next);
    } finally {
      this.busy = false;
    }
    this.rearm();
  }

  private run(input: Input) {
    const before = this.state;
    const [state, effects] = step(before, input, { now: this.transport.now(), random: this.transport.random() });
    this.state = state;
    for (const effect of effects) this.carryOut(effect);
    if (!hasSocket(state.phase)) this.drop();
    this.show();
  }

  private carryOut(effect: Effect) {
    switch (effect.do) {
      case 'open':
        return this.open();
      case 'close':
        return this.drop();
      case 'send':
        return this.socket?.send(JSON.stringify(effect.message));
      case 'probe':
        void this.transport.probe().then(
          (p) => this.put({ type: 'probed', ...p }),
          () => undefined, // no answer at all: the wait goes on
        );
        return;
      case 'deliver':
        for (const { topics, listener } of [...this.subscribers]) {
          const events = listener.events && effect.events.filter((e) => topics.some((t) => covers(t, e.topic)));
          if (events && events.length > 0) guarded(() => listener.events?.(events));
        }
        return;
      case 'point':
        for (const { topics, listener } of [...this.subscribers]) {
          if (topics.some((t) => covers(t, effect.topic))) guarded(() => listener.point?.(effect.topic, effect.data));
        }
        return;
      case 'reset':
        for (const { topics, listener } of [...this.subscribers]) {
          const mine = effect.topics.filter((t) => topics.includes(t));
          if (mine.length > 0) guarded(() => listener.reset?.(mine, effect.cause));
        }
        return;
    }
  }

  private open() {
    this.drop();
    let socket: Socket;
    try {
      socket = this.transport.open();
    } catch {
      this.inputs.push({ type: 'closed', code: 1006, reason: '' });
      return;
    }
    this.socket = socket;
    const ours = (input: Input) => {
      if (this.socket === socket) this.put(input);
    };
    socket.onopen = () => ours({ type: 'opened' });
    socket.onmessage = ({ data }) => {
      const message = readMessage(data);
      if (message) ours({ type: 'message', message });
    };
    socket.onclose = ({ code, reason }) => ours({ type: 'closed', code, reason });
  }

  /** Lets go of the socket; nothing that it still says is heard. */
  private drop() {
    const socket = this.socket;
    this.socket = undefined;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  private rearm() {
    this.cancel?.();
    const at = wakeAt(this.state);
    this.cancel = at === undefined ? undefined : this.transport.after(Math.max(0, at - this.transport.now()), () => this.put({ type: 'tick' }));
  }

  private show() {
    const next = connectionOf(this.state, this.shown);
    const { state, retryAt, why } = this.shown;
    if (next.state === state && next.retryAt === retryAt && next.why === why) return;
    this.shown = next;
    for (const changed of [...this.watchers]) changed();
  }
}

/** A listener that throws is a fault of its own, not of the stream. */
function guarded(call: () => void) {
  try {
    call();
  } catch (error) {
    reportError(error);
  }
}

function connectionOf(s: State, before: Connection): Connection {
  const confirmedAt = before.state === 'live' && s.phase.name !== 'live' ? s.heardAt : before.confirmedAt;
  const told = { retryAt: 0, confirmedAt, why: s.why };
  switch (s.phase.name) {
    case 'idle':
    case 'paused':
    case 'live':
    case 'unauthorised':
      return { ...told, state: s.phase.name };
    case 'connecting':
    case 'authenticating':
      return { ...told, state: s.failures > 0 || confirmedAt > 0 ? 'reconnecting' : 'connecting' };
    case 'replaying':
      return { ...told, state: 'catching up' };
    case 'waiting':
      return { ...told, state: 'reconnecting', retryAt: s.phase.until };
    case 'offline':
      return { ...told, state: 'offline', retryAt: s.phase.until };
  }
}

const probeLimit = 5_000;

/** The browser's own transport, to the server that this page comes from. */
export function browserTransport(): Transport {
  const url = new URL('/api/v1/ws', location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return {
    open: () => new WebSocket(url, subprotocol) as Socket,
    async probe() {
      // The same stream over HTTP is refused for the same reasons, and says so.
      const abort = new AbortController();
      const limit = setTimeout(() => abort.abort(), probeLimit);
      try {
        const response = await fetch('/api/v1/events?topics=system', { signal: abort.signal, cache: 'no-store' });
        return { status: response.status, retryAfterMs: readRetryAfter(response.headers.get('Retry-After'), Date.now()) };
      } finally {
        clearTimeout(limit);
        abort.abort();
      }
    },
    now: () => Date.now(),
    random: () => Math.random(),
    after(delay, call) {
      const timer = setTimeout(call, delay);
      return () => clearTimeout(timer);
    },
  };
}

/** Tells the client of the network and of the page's visibility. Returns what ends it. */
export function followBrowser(client: LiveClient): () => void {
  const seen = () => client.tell(document.visibilityState === 'hidden' ? 'hidden' : 'visible');
  const online = () => client.tell('online');
  const offline = () => client.tell('offline');
  // A page that is left may come back as it was; an open socket would keep the browser from that.
  const left = () => client.tell('leave');
  const back = (event: PageTransitionEvent) => event.persisted && seen();
  document.addEventListener('visibilitychange', seen);
  globalThis.addEventListener('online', online);
  globalThis.addEventListener('offline', offline);
  globalThis.addEventListener('pagehide', left);
  globalThis.addEventListener('pageshow', back);
  if (!navigator.onLine) offline();
  if (document.visibilityState === 'hidden') seen();
  return () => {
    document.removeEventListener('visibilitychange', seen);
    globalThis.removeEventListener('online', online);
    globalThis.removeEventListener('offline', offline);
    globalThis.removeEventListener('pagehide', left);
    globalThis.removeEventListener('pageshow', back);
  };
}
