// The live stream of the mock: as much of WebSocket and of docs/live.md as the
// page needs. Frames are short texts; nothing is fragmented.
import { createHash } from 'node:crypto';

/** @typedef {{id: number, type: string, topic: string, time: string, data: unknown}} Event */
/** @typedef {{topics: Set<string>, say: (message: object) => void}} Line */

const mostKept = 5000;

/** @param {string} text */
function frameOf(text) {
  const body = Buffer.from(text);
  const head = body.length < 126 ? Buffer.from([0x81, body.length]) : body.length < 65536 ? Buffer.from([0x81, 126, body.length >> 8, body.length & 255]) : Buffer.alloc(10);
  if (body.length >= 65536) {
    head[0] = 0x81;
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(body.length), 2);
  }
  return Buffer.concat([head, body]);
}

/**
 * Takes the first frame off what arrived, or returns undefined when it is not complete.
 * @param {Buffer} data
 */
function readFrame(data) {
  if (data.length < 6) return undefined;
  const short = (data[1] ?? 0) & 127;
  if (short === 127) throw new Error('a frame is too long');
  const start = short === 126 ? 4 : 2;
  if (data.length < start + 4) return undefined;
  const length = short === 126 ? data.readUInt16BE(2) : short;
  if (data.length < start + 4 + length) return undefined;
  const mask = data.subarray(start, start + 4);
  const body = Buffer.from(data.subarray(start + 4, start + 4 + length).map((byte, i) => byte ^ (mask[i % 4] ?? 0)));
  return { kind: (data[0] ?? 0) & 15, body, rest: data.subarray(start + 4 + length) };
}

/** The log of events and those who follow it. */
export class Stream {
  constructor() {
    /** @type {Event[]} */
    this.log = [];
    this.last = 0;
    /** @type {Set<Line>} */
    this.lines = new Set();
    /** What was told of each anomaly last. @type {Map<string, {state: string, version: number}>} */
    this.told = new Map();
    /** The time of the last point of each topic. @type {Map<string, string>} */
    this.sent = new Map();
  }

  /** @param {Omit<Event, 'id' | 'time'>[]} facts */
  publish(facts) {
    const events = facts.map((f) => ({ ...f, id: ++this.last, time: new Date().toISOString() }));
    this.log = [...this.log, ...events].slice(-mostKept);
    for (const line of this.lines) this.bring(line, events);
  }

  /** @param {Line} line @param {Event[]} events */
  bring(line, events) {
    const wanted = events.filter((e) => line.topics.has(e.topic) || line.topics.has(e.topic.split('/')[0] ?? ''));
    for (let i = 0; i < wanted.length; i += 64) line.say({ type: 'events', events: wanted.slice(i, i + 64) });
  }

  /** @param {string} topic @param {unknown} data */
  point(topic, data) {
    for (const line of this.lines) if (line.topics.has(topic)) line.say({ type: 'point', topic, data });
  }

  /** The topics of points that somebody follows. */
  get pointTopics() {
    return new Set([...this.lines].flatMap((line) => [...line.topics].filter((t) => t.startsWith('series/'))));
  }

  /**
   * Makes a stream of an upgrade request.
   * @param {import('node:http').IncomingMessage} request @param {import('node:stream').Duplex} socket
   */
  accept(request, socket) {
    const key = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${key}\r\nSec-WebSocket-Protocol: aiops.v1\r\n\r\n`);
    /** @type {Line} */
    const line = { topics: new Set(), say: (message) => socket.write(frameOf(JSON.stringify(message))) };
    this.lines.add(line);
    line.say({ type: 'hello', id: 'mock', heartbeat_ms: 4000, last_event_id: this.last });
    /** @type {Buffer} */
    let data = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      data = Buffer.concat([data, chunk]);
      for (let frame = readFrame(data); frame; frame = readFrame(data)) {
        data = frame.rest;
        if (frame.kind === 8) return socket.end();
        if (frame.kind === 1) this.take(line, JSON.parse(frame.body.toString()));
      }
    });
    const gone = () => {
      this.lines.delete(line);
      socket.destroy();
    };
    socket.on('close', gone);
    socket.on('error', gone);
  }

  /** @param {Line} line @param {{type: string, topics: string[], since?: number}} message */
  take(line, message) {
    if (message.type === 'ping') line.say({ type: 'pong', last_event_id: this.last });
    if (message.type === 'unsubscribe') for (const topic of message.topics) line.topics.delete(topic);
    if (message.type !== 'subscribe') return;
    const since = message.since ?? this.last;
    line.say({ type: 'subscribed', topics: message.topics, since });
    for (const topic of message.topics) line.topics.add(topic);
    if (since > this.last || since < this.last - this.log.length) return line.say({ type: 'stream.reset', topics: [...line.topics], oldest_event_id: this.log[0]?.id ?? this.last + 1, last_event_id: this.last });
    this.bring(line, this.log.filter((e) => e.id > since));
  }
}
