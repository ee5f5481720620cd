import { createMemoryHistory } from '@tanstack/react-router';
import { render } from '@testing-library/react';
import { userEvent } from '@testing-library/user-event';
import { App, makeQueryClient } from '../app/App';
import { makeRouter } from '../app/router';
import { anomaly, detector, explanation, line, modelVersion, pattern, point, replay, series, source, version } from './fixtures';
import { fakeServer, Refused, type Handler } from './fakeServer';
import { FakeStream } from './fakeStream';

/** A page of a list with nothing behind it. */
export const list = (items: unknown[]) => ({ items, next_cursor: '' });

/** Answers of a server on which one detector found one anomaly. */
export function usualAnswers(): Record<string, Handler> {
  const found = anomaly({ started_at: new Date(Date.now() - 300_000).toISOString() });
  const now = Math.floor(Date.now() / 10_000) * 10;
  const band = { expected: 0.13, lower: 0.095, upper: 0.168 };
  return {
    'GET /api/v1/detectors': () => list([detector({ id: 'det_a', name: 'latency' }, { open_anomalies: 1, series_active: 2 }), detector({ id: 'det_b', name: 'errors' }, { state: 'learning', series_learning: 1 })]),
    'GET /api/v1/detectors/det_a/series': () => list([series({ job: 'api' }, { anomaly: 'firing', anomaly_id: 'an_a' }), series({ job: 'web' })]),
    'GET /api/v1/detectors/det_b/series': () => list([series({ job: 'api' }, { learning: true, why: '22 more samples needed' })]),
    'GET /api/v1/detectors/det_a/replay': () => replay([point(now - 20, 0.13, band), point(now - 10, 0.131, band), point(now, 0.412, { ...band, score: 6.2, anomalous: true })], [found]),
    'GET /api/v1/detectors/det_b/replay': () => replay([point(now, 3)]),
    'GET /api/v1/detectors/det_a/versions': () => list([version(1)]),
    'GET /api/v1/detectors/det_a/models': () => list([modelVersion()]),
    'GET /api/v1/detectors/det_a/shadow': () => new Refused(404, 'NOT_FOUND'),
    'GET /api/v1/known-events': () => list([]),
    'GET /api/v1/tasks': () => list([]),
    'GET /api/v1/anomalies': () => list([found]),
    'GET /api/v1/anomalies/an_a': () => found,
    'GET /api/v1/anomalies/an_a/explain': () => explanation(found),
    'GET /api/v1/sources': () => list([source()]),
    'GET /api/v1/logs/patterns': () => list([pattern()]),
    'GET /api/v1/logs/patterns/aaaaaaaaaaaaaaaa': () => pattern(),
    'GET /api/v1/logs/lines': () => list([line('bank 4 answers after 310 ms')]),
    'GET /api/v1/errors': () => list([]),
    'GET /health': () => ({ status: 'healthy', components: { database: { status: 'healthy', message: 'works', latency_ms: 1, critical: true } } }),
    'GET /api/v1/session': () => ({ authentication: false, name: 'anonymous', role: 'admin', via: 'none', operations: ['acknowledge-anomaly', 'resolve-anomaly', 'label-anomaly', 'update-log-pattern', 'train-detector', 'update-detector', 'suggest-detector', 'search-detector', 'apply-suggestion', 'start-shadow', 'promote-shadow', 'discard-shadow', 'revert-detector', 'backtest-detector', 'backtest-definition', 'cancel-task', 'create-known-event', 'replace-known-event', 'delete-known-event', 'promote-model', 'rollback-model'] }),
    'GET /api/deployment': () => ({ version: 'v1.2.3', commit: 'abc' }),
  };
}

/** Shows the page at an address, with a server that answers as usual but for `changes`. */
export function renderPage(changes: Record<string, Handler> = {}, address = '/') {
  const server = fakeServer({ ...usualAnswers(), ...changes });
  const router = makeRouter(createMemoryHistory({ initialEntries: [address] }));
  const client = makeQueryClient();
  // A failure is shown at once; the wait between two tries is tested by itself.
  client.setDefaultOptions({ ...client.getDefaultOptions(), queries: { ...client.getDefaultOptions().queries, retry: false } });
  const stream = new FakeStream();
  stream.clock.now = Date.now();
  const live = stream.client();
  const view = render(<App router={router} client={client} live={live} />);
  return { ...view, server, stream, live, router, client, user: userEvent.setup(), search: () => router.state.matches.at(-1)!.search as Record<string, unknown> };
}
