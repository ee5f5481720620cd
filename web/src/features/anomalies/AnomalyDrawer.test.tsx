import { screen, waitFor, within } from '@testing-library/react';
import { expect, test } from 'vitest';
import { anomaly, explanation } from '../../testing/fixtures';
import { Refused, type Asked } from '../../testing/fakeServer';
import { list, renderPage } from '../../testing/renderPage';

const started = new Date(Date.now() - 300_000).toISOString();

/** A server with one anomaly that remembers what is done to it. */
function remembering(refuse?: Refused) {
  const seen: Asked[] = [];
  let now = anomaly({ started_at: started });
  let release: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const change = (more: object) => async (asked: Asked) => {
    seen.push(asked);
    await gate;
    if (refuse) return refuse;
    now = { ...now, ...more, ...(asked.body as object), version: now.version + 1 };
    return now;
  };
  return {
    seen,
    release,
    handlers: {
      'GET /api/v1/anomalies': () => list([now]),
      'GET /api/v1/anomalies/an_a': () => now,
      'POST /api/v1/anomalies/an_a/acknowledge': change({ acknowledged_by: 'ada', acknowledged_at: started }),
      'POST /api/v1/anomalies/an_a/label': change({}),
    },
  };
}

const drawer = () => screen.findByRole('dialog', { name: 'Anomaly' });
const row = () => within(screen.getByRole('region', { name: 'Anomalies', hidden: true })).getByRole('link', { hidden: true, name: /latency/ });

test('the details say what happened and why', async () => {
  renderPage(
    {
      'GET /api/v1/anomalies/an_a/explain': () =>
        explanation(anomaly(), {
          also_moved: [{ anomaly_id: 'an_b', detector_id: 'det_b', detector_name: 'errors', series: { labels: { route: '/pay' }, key: '' }, at: started, score: 5.2, shared_labels: 1 }],
          similar: [anomaly({ id: 'an_c', state: 'resolved', started_at: started, resolved_at: started, label: false })],
        }),
    },
    '/?anomaly=an_a',
  );
  const d = within(await drawer());
  expect(await d.findByText('Above everything that is usual at this time.')).toBeVisible();
  expect(await d.findByText('Below 168 ms it would have been normal.')).toBeVisible();
  expect(d.getByText('seasonal')).toBeVisible();
  expect(d.getByText('75 %')).toBeVisible();
  expect(d.getByRole('link', { name: 'errors' })).toHaveAttribute('href', '/?anomaly=an_b');
  expect(d.getByText(/lasted .*false alarm/)).toBeVisible();
  expect(d.getByText(/the same result, bit for bit/)).toBeVisible();
  expect(d.getByRole('link', { name: 'Show this series on the live chart' }).getAttribute('href')).toContain('detector=det_a');
});

test('how sure, what it had to pass, what else moved with values, and what similar ones were judged', async () => {
  const moved = Array.from({ length: 8 }, (_, i) => ({ detector_id: 'det_b', detector_name: `errors ${i}`, series: { labels: { route: '/pay' }, key: '{}' }, at: started, score: 5, value: 7, expected: 2, shared_labels: 1 }));
  const { user } = renderPage(
    {
      'GET /api/v1/anomalies/an_a/explain': () =>
        explanation(anomaly(), {
          probability: 'about once in 12 days, an estimate',
          gates: [{ name: 'min_deviation', detail: 'at least 0.05' }],
          also_moved: moved,
          similar: [{ ...anomaly({ id: 'an_c', state: 'resolved', started_at: started, resolved_at: started, label: true }), why: 'the same series' }],
          trained_from: '2026-03-01T00:00:00Z',
          trained_to: '2026-03-08T00:00:00Z',
        }),
    },
    '/?anomaly=an_a',
  );
  const d = within(await drawer());
  expect(await d.findByText('About once in 12 days, an estimate.')).toBeVisible();
  expect(d.getByText('Least deviation')).toBeVisible();
  expect(d.getByText(/the same series, a true alarm/)).toBeVisible();
  expect(d.getByText('Trained on')).toBeVisible();
  const list = within(d.getByRole('list', { name: /What else moved/ }));
  expect(list.getAllByText(/^7\ss instead of 2\ss$/)).toHaveLength(6);
  await user.click(d.getByRole('button', { name: 'Show all 8' }));
  expect(list.getAllByText(/no alarm, 1 label in common/)).toHaveLength(8);
});

test('evidence that gives another result is not hidden', async () => {
  renderPage({ 'GET /api/v1/anomalies/an_a/explain': () => explanation(anomaly(), { reproduced: false, difference: 'score 6.1 instead of 6.2' }) }, '/?anomaly=an_a');
  expect(await within(await drawer()).findByText(/gave another result. score 6.1 instead of 6.2/)).toBeVisible();
});

test('it opens from the list and closes with Escape', async () => {
  const { user, search } = renderPage();
  await user.click(await screen.findByRole('link', { name: /above normal/ }));
  await waitFor(async () => expect(await drawer()).toBeVisible());
  await waitFor(() => expect(search()).toMatchObject({ anomaly: 'an_a' }));
  await user.keyboard('{Escape}');
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
  expect(search()).not.toHaveProperty('anomaly');
});

test('acknowledging shows at once, before the server answered, and sends the version it saw', async () => {
  const server = remembering();
  const { user } = renderPage(server.handlers, '/?anomaly=an_a');
  const d = within(await drawer());
  await user.click(await d.findByRole('button', { name: 'Acknowledge' }));
  expect(await d.findByText(/Acknowledged by you/)).toBeVisible();
  expect(row()).toHaveTextContent('acknowledged');
  expect(server.seen[0]!.headers.get('If-Match')).toBe('"3"');
  server.release();
  expect(await d.findByText(/Acknowledged by ada/)).toBeVisible();
  expect(d.queryByRole('button', { name: 'Acknowledge' })).toBeNull();
});

test('a refused change is taken back and said to be refused', async () => {
  const server = remembering(new Refused(412, 'PRECONDITION_FAILED', { title: 'It was changed meanwhile', detail: 'Someone else changed it.' }));
  const { user } = renderPage(server.handlers, '/?anomaly=an_a');
  const d = within(await drawer());
  await user.click(await d.findByRole('button', { name: 'False alarm' }));
  expect(d.getByRole('button', { name: 'False alarm' })).toHaveAttribute('aria-pressed', 'true');
  expect(row()).toHaveTextContent('false alarm');
  server.release();
  expect(await d.findByText(/Not saved: It was changed meanwhile/)).toBeVisible();
  expect(d.getByRole('button', { name: 'False alarm' })).toHaveAttribute('aria-pressed', 'false');
  expect(row()).not.toHaveTextContent('false alarm');
});

test('a label can be given, changed and taken back', async () => {
  const server = remembering();
  server.release();
  const { user } = renderPage(server.handlers, '/?anomaly=an_a');
  const d = within(await drawer());
  const press = async (name: string, pressed: boolean) => {
    await waitFor(() => expect(d.getByRole('button', { name })).toBeEnabled());
    await user.click(d.getByRole('button', { name }));
    await waitFor(() => expect(d.getByRole('button', { name })).toHaveAttribute('aria-pressed', String(pressed)));
  };
  await d.findByRole('button', { name: 'True alarm' });
  await press('True alarm', true);
  await press('False alarm', true);
  expect(d.getByRole('button', { name: 'True alarm' })).toHaveAttribute('aria-pressed', 'false');
  await press('False alarm', false);
  expect(server.seen.map((s) => s.body)).toEqual([{ label: true }, { label: false }, { label: null }]);
});

test('an explanation that fails leaves the rest in place', async () => {
  renderPage({ 'GET /api/v1/anomalies/an_a/explain': () => new Refused(409, 'CONFLICT', { title: 'The state forbids this', detail: 'Its evidence is gone.' }) }, '/?anomaly=an_a');
  const d = within(await drawer());
  expect(await d.findByText(/Could not load the explanation: The state forbids this/)).toBeVisible();
  expect(d.getByRole('button', { name: 'Acknowledge' })).toBeEnabled();
});

test('an anomaly that does not exist is said not to', async () => {
  renderPage({ 'GET /api/v1/anomalies/an_x': () => new Refused(404, 'NOT_FOUND', { title: 'Not found', detail: 'no anomaly with id "an_x"' }) }, '/?anomaly=an_x');
  expect(await within(await drawer()).findByText('no anomaly with id "an_x"')).toBeVisible();
});
