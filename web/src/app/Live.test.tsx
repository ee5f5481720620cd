import { act, fireEvent, screen, waitFor, within } from '@testing-library/react';
import { expect, test } from 'vitest';
import { anomaly, detector, source } from '../testing/fixtures';
import { cut, Refused, type Asked } from '../testing/fakeServer';
import { list, renderPage } from '../testing/renderPage';

const started = (secondsAgo: number) => new Date(Date.now() - secondsAgo * 1000).toISOString();
const region = (name: string) => screen.findByRole('region', { name });
const badge = () => screen.getByRole('button', { name: /^Live stream/ });
const rowNames = () => within(screen.getByRole('region', { name: 'Anomalies' })).queryAllByRole('link', { name: /normal/ }).map((a) => a.getAttribute('href'));

/** The page with its stream live. */
async function renderLive(...args: Parameters<typeof renderPage>) {
  const page = renderPage(...args);
  await region('Overview');
  await within(await region('Anomalies')).findAllByRole('link', { name: /normal/ });
  const go = (ms: number) => act(() => page.stream.clock.go(ms));
  await go(100);
  const publish = async (type: string, a: ReturnType<typeof anomaly>) => {
    page.stream.publish(`anomalies/${a.id}`, type, { ...a, series: a.series.labels });
    await go(50);
  };
  return { ...page, go, publish };
}

test('the header says whether the page is live, and a person can try again', async () => {
  const { stream, go, user } = await renderLive();
  expect(badge()).toHaveTextContent('live');
  stream.close(1012, { reason: 'restart', reconnect_after_ms: 90_000 });
  await go(10);
  expect(badge()).toHaveTextContent(/^reconnecting in \d+ s$/);
  expect(screen.getByText('Live stream: reconnecting')).toHaveAttribute('aria-live', 'polite');
  await user.click(badge());
  expect(await screen.findByText(/^Up to date as of/)).toBeInTheDocument();
  await user.click(await screen.findByText('Try now'));
  await go(100);
  expect(badge()).toHaveTextContent('live');
});

test('an anomaly appears, changes and ends without the page asking', async () => {
  const { publish, server } = await renderLive();
  const detectors = within(await region('Detectors'));
  await waitFor(() => expect(server.asked.filter((o) => o === 'GET /api/v1/anomalies').length).toBeGreaterThan(1));
  const asked = server.asked.filter((o) => o.startsWith('GET /api/v1/anomalies')).length;
  const a = anomaly({ id: 'an_new', started_at: started(5), version: 1 });
  await publish('anomaly.opened', a);
  await waitFor(() => expect(rowNames()).toEqual(['/?anomaly=an_new', '/?anomaly=an_a']));
  expect(detectors.getByText('2 anomalies')).toBeVisible();
  await publish('anomaly.acknowledged', { ...a, version: 2, acknowledged_by: 'ada' });
  expect(await within(await region('Anomalies')).findByText('acknowledged')).toBeVisible();
  await publish('anomaly.resolved', { ...a, version: 3, state: 'resolved', resolved_at: started(0) });
  await waitFor(() => expect(rowNames()).toEqual(['/?anomaly=an_a']));
  expect(server.asked.filter((o) => o.startsWith('GET /api/v1/anomalies')).length).toBe(asked);
});

test('rows stay where they are while somebody points at them', async () => {
  const { publish, user } = await renderLive();
  await new Promise((resolve) => setTimeout(resolve, 1500)); // the list is asked for once when the stream begins
  const rows = within(await region('Anomalies')).getAllByRole('link', { name: /normal/ });
  const around = rows[0]!.closest('ul')!;
  fireEvent.pointerEnter(around, { pointerType: 'mouse' });
  await publish('anomaly.opened', anomaly({ id: 'an_new', started_at: started(5), version: 1 }));
  await publish('anomaly.resolved', anomaly({ state: 'resolved', resolved_at: started(0), version: 9 }));
  const show = await screen.findByRole('button', { name: 'Show 1 new' });
  expect(rowNames()).toEqual(['/?anomaly=an_a']);
  expect(within(around).getByText('resolved')).toBeVisible();
  await user.click(show);
  expect(rowNames()).toEqual(['/?anomaly=an_new']);
  fireEvent.pointerLeave(around);
  expect(rowNames()).toEqual(['/?anomaly=an_new']);
});

test('a source that fails is told by an event', async () => {
  const { stream, go } = await renderLive({ 'GET /api/v1/sources': () => list([source()]) });
  await new Promise((resolve) => setTimeout(resolve, 1500));
  stream.publish('sources/main', 'source.down', { name: 'main', state: 'down', since: started(1), checked_at: started(0), last_error: 'connection refused', latency_ms: 0 });
  await go(50);
  expect(await screen.findByText(/No data is not health/)).toBeVisible();
});

/** A server that takes changes of its one anomaly, after `first` answered the first of them. */
function changing(first: (asked: Asked) => unknown) {
  const seen: Asked[] = [];
  const take = (more: object) => (asked: Asked) => {
    seen.push(asked);
    return seen.length === 1 ? first(asked) : anomaly({ started_at: started(300), version: 9, ...more });
  };
  return {
    seen,
    handlers: {
      'POST /api/v1/anomalies/an_a/acknowledge': take({ acknowledged_by: 'ada', acknowledged_at: started(0) }),
      'POST /api/v1/anomalies/an_a/resolve': take({ state: 'resolved', resolved_by: 'ada', resolved_at: started(0) }),
    },
  };
}

test('a change that got no answer is sent again under the same key', async () => {
  const server = changing(() => cut);
  const { user } = renderPage(server.handlers, '/?anomaly=an_a');
  await user.click(await screen.findByRole('button', { name: 'Acknowledge' }));
  expect(await screen.findByText(/Acknowledged by ada/)).toBeVisible();
  const keys = server.seen.map((s) => s.headers.get('Idempotency-Key'));
  expect(keys).toHaveLength(2);
  expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
  expect(keys[1]).toBe(keys[0]);
});

test('an episode that went on meanwhile is no reason to refuse a change', async () => {
  const server = changing(() => new Refused(412, 'PRECONDITION_FAILED'));
  const { user } = renderPage({ ...server.handlers, 'GET /api/v1/anomalies/an_a': () => anomaly({ started_at: started(300), version: 4 + server.seen.length }) }, '/?anomaly=an_a');
  await user.click(await screen.findByRole('button', { name: 'End it…' }));
  await user.click(screen.getByRole('button', { name: 'End it for good' }));
  expect(await screen.findByText(/Ended by ada/)).toBeVisible();
  expect(server.seen.map((s) => s.headers.get('If-Match'))).toEqual(['"4"', '"5"']);
  expect(server.seen[0]!.headers.get('Idempotency-Key')).not.toBe(server.seen[1]!.headers.get('Idempotency-Key'));
});

test('a change that is refused after its view is gone is said to be taken back', async () => {
  let refuse: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (refuse = resolve));
  const server = changing(async () => {
    await gate;
    return new Refused(403, 'FORBIDDEN', { detail: 'Your role may not do this.' });
  });
  const { user } = renderPage(server.handlers, '/?anomaly=an_a');
  await user.click(await screen.findByRole('button', { name: 'Acknowledge' }));
  await user.keyboard('{Escape}');
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
  const row = () => within(screen.getByRole('region', { name: 'Anomalies' })).getByRole('link', { name: /latency/ });
  expect(row()).toHaveTextContent('acknowledged');
  refuse();
  expect(await screen.findByRole('alert')).toHaveTextContent('Taken back: acknowledging the anomaly of latency was not saved. Your role may not do this.');
  await waitFor(() => expect(row()).not.toHaveTextContent('acknowledged'));
  await user.click(screen.getByRole('button', { name: 'Dismiss this notice' }));
  expect(screen.queryByRole('alert')).toBeNull();
});

test('a viewer is not offered what it may not do', async () => {
  renderPage({ 'GET /api/v1/session': () => ({ authentication: true, name: 'wall', role: 'viewer', via: 'session', operations: ['list-anomalies'] }) }, '/?anomaly=an_a');
  expect(await screen.findByText(/Your key may look, not judge/)).toBeVisible();
  expect(screen.queryByRole('button', { name: 'Acknowledge' })).toBeNull();
});

test('a server that asks who one is gets a key, and forgets it on signing out', async () => {
  let known = false;
  const seen: unknown[] = [];
  const guarded = (answer: unknown) => () => (known ? answer : new Refused(401, 'UNAUTHORIZED'));
  const session = { authentication: true, name: 'ada', role: 'admin', via: 'session', operations: [] };
  const { user, stream, go } = await (async () => {
    const page = renderPage({
      'GET /api/v1/detectors': guarded(list([detector()])),
      'GET /api/v1/session': guarded(session),
      'POST /api/v1/session': ({ body }) => {
        seen.push(body);
        if ((body as { token: string }).token !== 'aiops_right') return new Refused(401, 'UNAUTHORIZED');
        known = true;
        return session;
      },
      'DELETE /api/v1/session': () => {
        known = false;
        return {};
      },
    });
    return { ...page, go: (ms: number) => act(() => page.stream.clock.go(ms)) };
  })();
  const field = await screen.findByLabelText('API key');
  await go(100);
  expect(stream.held, 'no stream while signed out').toBe(0);
  await user.type(field, 'aiops_wrong{Enter}');
  expect(await screen.findByRole('alert')).toHaveTextContent('This key is not valid');
  await user.clear(field);
  await user.type(field, 'aiops_right{Enter}');
  expect(await within(await region('Detectors')).findByRole('link', { name: /latency/ })).toBeVisible();
  await go(100);
  expect(badge()).toHaveTextContent('live');
  expect(seen).toEqual([{ token: 'aiops_wrong' }, { token: 'aiops_right' }]);
  await user.click(await screen.findByRole('button', { name: 'Sign out' }));
  expect(await screen.findByLabelText('API key')).toHaveValue('');
  expect(stream.held).toBe(0);
});
