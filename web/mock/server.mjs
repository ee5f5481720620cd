// A stand-in for `aiops serve` to build and test the page against: the same
// paths, shapes, problems and headers, with made-up numbers.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { answerLife, Life } from './life.mjs';
import { Logs } from './logs.mjs';
import { Refusal } from './refusal.mjs';
import { Stream } from './stream.mjs';
import { World } from './world.mjs';

const dist = fileURLToPath(new URL('../dist', import.meta.url));

/** The policy of the server's pages, and Trusted Types on top. */
export const pagePolicy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; " +
  "connect-src 'self'; manifest-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
  "require-trusted-types-for 'script'; trusted-types 'none'";

/** What anonymous may do here. */
const operations = [
  ...['acknowledge-anomaly', 'label-anomaly', 'resolve-anomaly', 'update-log-pattern', 'update-detector', 'train-detector', 'suggest-detector', 'search-detector', 'apply-suggestion'],
  ...['start-shadow', 'promote-shadow', 'discard-shadow', 'revert-detector', 'backtest-detector', 'backtest-definition', 'cancel-task'],
  ...['create-known-event', 'replace-known-event', 'delete-known-event', 'promote-model', 'rollback-model'],
];

/** @type {Record<string, string>} */
const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.png': 'image/png', '.md': 'text/markdown' };

/** @template T @param {T | undefined} found @param {string} what @returns {T} */
function must(found, what) {
  if (found === undefined) throw new Refusal(404, 'NOT_FOUND', 'Not found', `There is no ${what} of this id.`);
  return found;
}

/** @template T @param {T[]} items @param {URLSearchParams} query */
function page(items, query) {
  const limit = Number(query.get('limit') ?? 50);
  const start = Number(query.get('cursor') || 0);
  return { items: items.slice(start, start + limit), next_cursor: start + limit < items.length ? String(start + limit) : '' };
}

/**
 * Answers one request for logs, or returns undefined where it is none.
 * @param {Logs} logs @param {string} method @param {string} path @param {URLSearchParams} query
 * @param {any} body @param {string | undefined} ifMatch @param {number} now
 */
function answerLogs(logs, method, path, query, body, ifMatch, now) {
  if (path === '/api/v1/logs/patterns') return page(logs.select(now, query), query);
  if (path === '/api/v1/logs/lines') return page(logs.lines(now, query), query);
  const id = /^\/api\/v1\/logs\/patterns\/([^/]+)$/.exec(path)?.[1];
  if (id === undefined) return undefined;
  const found = must(logs.patterns(now).find((p) => p.id === id), 'pattern');
  if (method === 'GET') return found;
  if (ifMatch && ifMatch !== `"${found.version}"`) throw new Refusal(412, 'PRECONDITION_FAILED', 'It was changed meanwhile', 'Someone else changed this pattern.');
  return logs.change(id, body, now);
}

/**
 * Answers one request of the API, or returns undefined where there is none.
 * @param {World} world @param {Life} life @param {string} method @param {string} path @param {URLSearchParams} query
 * @param {any} body @param {string | undefined} ifMatch @param {number} now
 */
function answer(world, life, method, path, query, body, ifMatch, now) {
  if (method === 'GET') {
    switch (path) {
      case '/api/v1/detectors':
        return page(world.detectors(now).map((d) => life.current(d)), query);
      case '/api/v1/sources':
        return page(world.sources(now), query);
      case '/api/v1/anomalies': {
        const states = query.getAll('state').flatMap((s) => s.split(','));
        const id = query.get('detector_id');
        return page(
          world.anomalies(now).filter((a) => (states.length === 0 || states.includes(a.state)) && (!id || a.detector_id === id)),
          query,
        );
      }
      case '/health': {
        const part = { status: 'healthy', message: 'works', checked_at: new Date(now).toISOString(), since: new Date(world.startedAt).toISOString(), latency_ms: 1, critical: true };
        return { status: 'healthy', components: Object.fromEntries(['system', 'database', 'cache', 'websocket', 'detector', 'prometheus', 'loki'].map((name) => [name, part])) };
      }
      case '/api/v1/errors':
        return {
          items: [{ code: 'PRECONDITION_FAILED', status: 412, retryable: false, title: 'It was changed meanwhile', meaning: 'Someone else changed it.', action: 'Read it again, then repeat the change.' }],
          next_cursor: '',
        };
      case '/api/v1/session':
        return { authentication: false, name: 'anonymous', role: 'admin', via: 'none', operations };
      case '/api/deployment':
        return { version: 'v0.1.0-mock', commit: '0123456789abcdef', started_at: new Date(world.startedAt).toISOString(), uptime_seconds: (now - world.startedAt) / 1000 };
    }
  }
  const detector = /^\/api\/v1\/detectors\/([^/]+)\/(series|replay)$/.exec(path);
  if (detector && method === 'GET') {
    const id = decodeURIComponent(detector[1] ?? '');
    if (detector[2] === 'series') return { ...page(must(world.series(id, now), 'detector'), query), as_of: new Date(now).toISOString() };
    const to = Date.parse(query.get('to') ?? '') || now;
    const from = Date.parse(query.get('from') ?? '') || to - 3_600_000;
    const replay = must(world.replay(id, query.get('series') ?? '', from, to, now), 'series');
    return { ...replay, known_events: life.knownOn(id, replay.series.labels, from, to) };
  }
  const anomaly = /^\/api\/v1\/anomalies\/([^/]+)(?:\/(explain|acknowledge|resolve|label))?$/.exec(path);
  if (anomaly) {
    const id = anomaly[1] ?? '';
    const found = must(world.anomalies(now).find((a) => a.id === id), 'anomaly');
    if (method === 'GET') return anomaly[2] === 'explain' ? world.explain(id, now) : found;
    if (ifMatch && ifMatch !== `"${found.version}"`) throw new Refusal(412, 'PRECONDITION_FAILED', 'It was changed meanwhile', 'Someone else changed this anomaly.');
    if (anomaly[2] === 'acknowledge') return world.change(id, { acknowledged_by: 'anonymous', acknowledged_at: new Date(now).toISOString() }, now);
    if (anomaly[2] === 'resolve') return world.change(id, { state: 'resolved', resolved_by: 'anonymous', resolved_at: new Date(now).toISOString() }, now);
    return world.change(id, { label: body.label }, now);
  }
  return undefined;
}

/** @param {import('node:http').ServerResponse} res @param {string} path */
function serveFile(res, path) {
  const file = join(dist, normalize(path === '/' ? '/index.html' : path));
  if (!file.startsWith(dist) || !existsSync(file) || !statSync(file).isFile()) throw new Refusal(404, 'NOT_FOUND', 'Not found', 'There is nothing at this path.');
  res.writeHead(200, {
    'Content-Type': types[extname(file)] ?? 'application/octet-stream',
    'Content-Security-Policy': pagePolicy,
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': path.startsWith('/assets/') ? 'public, max-age=31536000, immutable' : 'no-cache',
  });
  createReadStream(file).pipe(res);
}

/**
 * Tells of what changed in the world since it was asked last.
 * @param {World} world @param {Stream} stream @param {number} now
 */
function tell(world, stream, now) {
  const { told, sent } = stream;
  const first = told.size === 0;
  const news = [];
  for (const a of world.anomalies(now)) {
    const before = told.get(a.id);
    if (before?.state === a.state && before.version === a.version) continue;
    told.set(a.id, { state: a.state, version: a.version });
    const type = !before ? 'anomaly.opened' : before.state !== a.state ? 'anomaly.resolved' : 'anomaly.updated';
    if (!first) news.push({ type, topic: `anomalies/${a.id}`, data: { ...a, series: a.series.labels } });
  }
  if (news.length > 0) stream.publish(news);
  for (const topic of stream.pointTopics) {
    const [, id = '', ...key] = topic.split('/');
    const point = world.replay(id, key.join('/'), now - 60_000, now, now)?.points.at(-1);
    if (!point || sent.get(topic) === point.t) continue;
    sent.set(topic, point.t);
    stream.point(topic, point);
  }
}

/**
 * Starts the mock on a port of loopback, 0 for any free one.
 * @param {number} port
 * @returns {Promise<{url: string, close: () => Promise<void>}>}
 */
export function startMock(port = 0) {
  const world = new World(Date.now());
  const logs = new Logs(Date.now());
  const life = new Life(Date.now());
  const stream = new Stream();
  const beat = setInterval(() => tell(world, stream, Date.now()), 250);
  const server = createServer(async (req, res) => {
    const url = new URL(req.url ?? '/', 'http://mock');
    try {
      if (req.method === 'POST' && url.pathname === '/mock/break') {
        // For the browser's tests: the server goes away and refuses until it is told to be back.
        away = url.searchParams.get('for') !== '0';
        for (const socket of upgraded) socket.destroy();
        return res.end();
      }
      if (req.method === 'POST' && url.pathname === '/mock/burst') {
        world.burst(Number(url.searchParams.get('n') ?? 2000), Date.now());
        return res.end();
      }
      let text = '';
      for await (const chunk of req) text += chunk;
      const asked = /** @type {const} */ ([req.method ?? 'GET', url.pathname, url.searchParams, text ? JSON.parse(text) : undefined, req.headers['if-match'], Date.now()]);
      const lived = answerLife(life, world, ...asked);
      if (life.news.length > 0) stream.publish(life.news.splice(0));
      const found = lived === undefined ? (answerLogs(logs, ...asked) ?? answer(world, life, ...asked)) : must(lived ?? undefined, 'such thing');
      if (found === undefined) return serveFile(res, url.pathname);
      res.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
      res.end(JSON.stringify(found));
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(500, 'INTERNAL_ERROR', 'An unexpected fault', 'The mock failed.');
      if (!(error instanceof Refusal)) console.error(error);
      res.writeHead(refusal.status, { 'Content-Type': 'application/problem+json' });
      res.end(JSON.stringify({ ...refusal.problem, instance: url.pathname }));
    }
  });
  /** @type {Set<import('node:stream').Duplex>} */
  const upgraded = new Set();
  let away = false;
  server.on('upgrade', (request, socket) => {
    if (away) return socket.end('HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n\r\n');
    upgraded.add(socket);
    socket.on('close', () => upgraded.delete(socket));
    stream.accept(request, socket);
  });
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      if (address === null || typeof address === 'string') return reject(new Error('the mock has no port'));
      resolve({
        url: `http://127.0.0.1:${address.port}`,
        close: () =>
          new Promise((done) => {
            clearInterval(beat);
            for (const socket of upgraded) socket.destroy();
            server.close(() => done());
            server.closeAllConnections();
          }),
      });
    });
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await startMock(Number(process.env.PORT ?? 8081));
  console.log(`The mock answers at ${url}.`);
}
