/** The wire format of the live stream, subprotocol `aiops.v1`. docs/live.md describes it. */

/** The subprotocol that this page speaks. */
export const subprotocol = 'aiops.v1';

/** A fact with a number. Numbers grow; the data's shape depends on the type. */
export interface LiveEvent {
  id: number;
  type: string;
  topic: string;
  time: string;
  data: unknown;
}

/** What the page sends. */
export type ClientMessage =
  | { type: 'auth'; token: string }
  | { type: 'subscribe'; topics: string[]; since?: number }
  | { type: 'unsubscribe'; topics: string[] }
  | { type: 'ping' };

/** What the server sends. */
export type ServerMessage =
  | { type: 'hello'; heartbeat_ms: number; last_event_id: number; auth_required: boolean }
  | { type: 'subscribed'; topics: string[]; since: number }
  | { type: 'events'; events: LiveEvent[] }
  | { type: 'point'; topic: string; data: unknown }
  | { type: 'stream.reset'; topics: string[]; last_event_id: number }
  | { type: 'pong'; last_event_id: number }
  | { type: 'error'; code: string; detail: string };

/** What a close frame's reason holds. */
export interface Farewell {
  reason: string;
  reconnectAfterMs: number | undefined;
}

/** Longest delay that a server may ask for, in milliseconds. */
const longestDelay = 300_000;

function record(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
}

function json(text: unknown): Record<string, unknown> | undefined {
  if (typeof text !== 'string') return undefined;
  try {
    return record(JSON.parse(text));
  } catch {
    return undefined;
  }
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const count = (value: unknown): number => (typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : 0);
const texts = (value: unknown): string[] => (Array.isArray(value) ? value.filter((v): v is string => typeof v === 'string') : []);

function event(value: unknown): LiveEvent | undefined {
  const e = record(value);
  if (!e || typeof e['id'] !== 'number' || !(e['id'] > 0) || typeof e['topic'] !== 'string') return undefined;
  return { id: e['id'], type: text(e['type']), topic: e['topic'], time: text(e['time']), data: e['data'] };
}

/** Reads a message of the server, or returns undefined for one that this page does not know. */
export function readMessage(frame: unknown): ServerMessage | undefined {
  const m = json(frame);
  switch (m?.['type']) {
    case 'hello':
      return { type: 'hello', heartbeat_ms: count(m['heartbeat_ms']), last_event_id: count(m['last_event_id']), auth_required: m['auth'] === 'required' };
    case 'subscribed':
      return { type: 'subscribed', topics: texts(m['topics']), since: count(m['since']) };
    case 'events':
      return { type: 'events', events: (Array.isArray(m['events']) ? m['events'] : []).map(event).filter((e) => e !== undefined) };
    case 'point':
      return { type: 'point', topic: text(m['topic']), data: m['data'] };
    case 'stream.reset':
      return { type: 'stream.reset', topics: texts(m['topics']), last_event_id: count(m['last_event_id']) };
    case 'pong':
      return { type: 'pong', last_event_id: count(m['last_event_id']) };
    case 'error':
      return { type: 'error', code: text(m['code']), detail: text(m['detail']) };
    default:
      return undefined;
  }
}

/** Reads the reason of a close frame. */
export function readFarewell(reason: string): Farewell {
  const f = json(reason);
  const delay = f?.['reconnect_after_ms'];
  return {
    reason: f ? text(f['reason']) : reason,
    reconnectAfterMs: typeof delay === 'number' && delay > 0 ? Math.min(delay, longestDelay) : undefined,
  };
}

/** Reads a `Retry-After` header in seconds or as a date, into milliseconds. */
export function readRetryAfter(header: string | null, now: number): number | undefined {
  if (!header) return undefined;
  const ms = /^\d+$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - now;
  return ms > 0 ? Math.min(ms, longestDelay) : undefined;
}

/** Tells whether a subscription to `topic` brings what is published to `published`: the same, or below it. */
export function covers(topic: string, published: string): boolean {
  return published.startsWith(topic) && (published.length === topic.length || published[topic.length] === '/');
}

const pointsRoot = 'series/';
const longestTopic = 512;
// The server refuses topics with controls.
const control = /[\u0000-\u001f\u007f-\u009f]/;

/** Tells whether a topic carries points: they have no number and are not replayed. */
export function isPoints(topic: string): boolean {
  return topic.startsWith(pointsRoot);
}

/** The topic of the live points of one series, or undefined when its key cannot be a topic. */
export function pointsTopic(detectorId: string, series: string): string | undefined {
  const topic = `${pointsRoot}${detectorId}/${series}`;
  return new TextEncoder().encode(topic).length <= longestTopic && !control.test(topic) && !topic.endsWith('/') ? topic : undefined;
}
