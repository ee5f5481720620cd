import { screen, waitFor, within } from '@testing-library/react';
import { expect, test } from 'vitest';
import { Refused } from '../testing/fakeServer';
import { anomaly, explanation, line, pattern, source } from '../testing/fixtures';
import { list, renderPage } from '../testing/renderPage';

const region = (name: string) => screen.findByRole('region', { name });
const logs = '/?view=logs';
const opened = `${logs}&pattern=aaaaaaaaaaaaaaaa`;

test('the logs are one click from the overview, and back', async () => {
  const { user, search, server } = renderPage();
  await user.click(await screen.findByRole('link', { name: 'Logs' }));
  expect(await within(await region('Log patterns')).findByRole('link', { name: /warn\s*bank <\*> answers after <\*> ms\s*in payment.*1,234/ })).toBeVisible();
  expect(await within(await region('Lines')).findByText('bank 4 answers after 310 ms')).toBeVisible();
  expect(search()).toMatchObject({ view: 'logs' });
  await user.click(screen.getByRole('link', { name: 'Overview' }));
  expect(await region('Detectors')).toBeVisible();
  expect(server.missed).toEqual([]);
});

test('patterns are filtered and ordered by the server, and the address says how', async () => {
  const asked: string[] = [];
  const { user, search } = renderPage(
    {
      'GET /api/v1/logs/patterns': ({ url }) => {
        asked.push(['q', 'level', 'sort'].map((name) => url.searchParams.get(name)).join(' '));
        return list([pattern()]);
      },
    },
    logs,
  );
  await user.click(await screen.findByRole('radio', { name: 'Error' }));
  await user.click(screen.getByRole('radio', { name: 'New' }));
  await user.type(screen.getByRole('textbox', { name: 'Filter patterns' }), 'bank');
  await waitFor(() => expect(asked.at(-1)).toBe('bank error -first_seen'));
  expect(search()).toMatchObject({ patterns: 'bank', level: 'error', order: 'new' });
});

test('a pattern without a word, of a stream without labels, is still one to open', async () => {
  renderPage({ 'GET /api/v1/logs/patterns': () => list([pattern({ template: '', level: '', streams: [{}] })]) }, logs);
  expect(await within(await region('Log patterns')).findByRole('link', { name: /no level\s*an empty line(?!\s*in\s).*1,234/ })).toBeVisible();
});

test('lines are searched by labels, text and time', async () => {
  const asked: URLSearchParams[] = [];
  const answers = {
    'GET /api/v1/sources': () => list([source(), source({ id: 'src_l', name: 'main loki', type: 'loki' })]),
    'GET /api/v1/logs/lines': ({ url }: { url: URL }) => {
      asked.push(url.searchParams);
      return list([]);
    },
  };
  const { user } = renderPage(answers, `${logs}&at=2026-03-01T12%3A00%3A00Z`);
  await user.type(await screen.findByRole('textbox', { name: 'Text in the line' }), 'refused');
  await waitFor(() => expect(Object.fromEntries(asked.at(-1)!)).toMatchObject({ source: 'builtin', contains: 'refused', order: 'oldest', from: '2026-03-01T12:00:00.000Z', to: '2026-03-01T13:00:00.000Z' }));
  expect(screen.getByText('No line of this kind in the hour after that time.')).toBeVisible();
  await user.click(screen.getByRole('link', { name: 'show the newest' }));
  await user.click(await screen.findByRole('radio', { name: 'main loki' }));
  await waitFor(() => expect(Object.fromEntries(asked.at(-1)!)).toMatchObject({ source: 'main loki', order: 'newest' }));
});

test('a selector that cannot be read is explained, and what was typed stays', async () => {
  renderPage({ 'GET /api/v1/logs/lines': () => new Refused(400, 'QUERY_ERROR', { title: 'The query is wrong', detail: 'expected a label name at 2' }) }, `${logs}&stream=%7B%3D`);
  expect(await screen.findByText(/expected a label name at 2/)).toBeVisible();
  expect(screen.getByRole('textbox', { name: 'Labels of the streams' })).toHaveValue('{=');
});

test('more lines come from where the first page ended, in the same range', async () => {
  const asked: URLSearchParams[] = [];
  const { user } = renderPage(
    {
      'GET /api/v1/logs/lines': ({ url }) => {
        asked.push(url.searchParams);
        return url.searchParams.has('cursor') ? list([line('an older one')]) : { items: [line('the newest')], next_cursor: 'c1' };
      },
    },
    logs,
  );
  await user.click(await screen.findByRole('button', { name: 'Show older' }));
  expect(await screen.findByText('an older one')).toBeVisible();
  expect(asked[1]!.get('cursor')).toBe('c1');
  expect(asked[1]!.get('from')).toBe(asked[0]!.get('from'));
  expect(asked[1]!.get('to')).toBe(asked[0]!.get('to'));
});

test('a decision about a pattern is sent with its version and a key', async () => {
  const sent: { body: unknown; version: string | null; key: string | null }[] = [];
  let now = pattern();
  const { user } = renderPage(
    {
      'GET /api/v1/logs/patterns/aaaaaaaaaaaaaaaa': () => now,
      'PATCH /api/v1/logs/patterns/aaaaaaaaaaaaaaaa': ({ body, headers }) => {
        sent.push({ body, version: headers.get('If-Match'), key: headers.get('Idempotency-Key') });
        return (now = pattern({ ...(body as object), version: now.version + 1 }));
      },
    },
    opened,
  );
  const drawer = within(await screen.findByRole('dialog'));
  await user.click(await drawer.findByRole('button', { name: 'Expected' }));
  await waitFor(() => expect(drawer.getByRole('button', { name: 'Expected' })).toHaveAttribute('aria-pressed', 'true'));
  await user.type(drawer.getByRole('textbox', { name: 'Name of the pattern' }), 'slow bank');
  await user.click(drawer.getByRole('button', { name: 'Save the name' }));
  await waitFor(() => expect(sent).toHaveLength(2));
  expect(sent[0]).toMatchObject({ body: { expected: true }, version: '"5"' });
  expect(sent[1]).toMatchObject({ body: { name: 'slow bank' }, version: '"6"' });
  expect(sent[0]!.key).toMatch(/^[0-9a-f]{32}$/);
  expect(sent[1]!.key).not.toBe(sent[0]!.key);
});

test('a pattern is split at a variable that is told by its neighbours, or merged with one that is found', async () => {
  const sent: unknown[] = [];
  const other = pattern({ id: 'bbbbbbbbbbbbbbbb', template: 'bank is slow' });
  const { user, search } = renderPage(
    {
      'GET /api/v1/logs/patterns': () => list([pattern(), other]),
      'GET /api/v1/logs/patterns/bbbbbbbbbbbbbbbb': () => other,
      'PATCH /api/v1/logs/patterns/aaaaaaaaaaaaaaaa': ({ body }) => {
        sent.push(body);
        return 'merge_with' in (body as object) ? other : pattern();
      },
    },
    opened,
  );
  const drawer = within(await screen.findByRole('dialog'));
  await user.click(await drawer.findByRole('button', { name: 'Split…' }));
  await user.click(drawer.getByRole('button', { name: 'answers after <*> ms' }));
  await waitFor(() => expect(sent).toEqual([{ split_at: 1 }]));
  await user.click(await drawer.findByRole('button', { name: 'Merge…' }));
  await user.click(await drawer.findByRole('button', { name: /bank is slow/ }));
  await waitFor(() => expect(sent[1]).toEqual({ merge_with: 'bbbbbbbbbbbbbbbb' }));
  await waitFor(() => expect(search()).toMatchObject({ pattern: 'bbbbbbbbbbbbbbbb' }));
});

test('a decision that is refused says why', async () => {
  const { user } = renderPage({ 'PATCH /api/v1/logs/patterns/aaaaaaaaaaaaaaaa': () => new Refused(412, 'PRECONDITION_FAILED', { detail: 'Someone else changed it.' }) }, opened);
  await user.click(await screen.findByRole('button', { name: 'Pinned' }));
  expect(await screen.findByText('Someone else changed it.')).toBeVisible();
  expect(screen.getByRole('button', { name: 'Pinned' })).toHaveAttribute('aria-pressed', 'false');
});

test('whoever may only look decides nothing', async () => {
  renderPage({ 'GET /api/v1/session': () => ({ authentication: true, name: 'reader', role: 'viewer', via: 'session', operations: [] }) }, opened);
  expect(await screen.findByText(/Your key may look, not decide/)).toBeVisible();
  expect(screen.queryByRole('button', { name: 'Pinned' })).toBeNull();
});

test('an anomaly of a detector on logs shows its patterns and lines, and leads to a search of them', async () => {
  const found = anomaly({ state: 'resolved', started_at: '2026-03-01T12:00:10Z', resolved_at: '2026-03-01T12:01:00Z' });
  const evidence = {
    patterns: [pattern()],
    before: [line('all is well', { level: 'info' })],
    during: [line('bank 4 answers after 310 ms')],
    after: [],
    related: [{ pattern: 'bbbbbbbbbbbbbbbb', template: 'payment waits', series: { labels: {}, key: '{}' }, correlation: 0.912 }],
    truncated: false,
  };
  const { user, search } = renderPage({ 'GET /api/v1/anomalies/an_a': () => found, 'GET /api/v1/anomalies/an_a/explain': () => explanation(found, { logs: evidence }) }, '/?anomaly=an_a');
  const drawer = within(await screen.findByRole('dialog'));
  expect(await drawer.findByRole('link', { name: 'bank <*> answers after <*> ms' })).toHaveAttribute('href', expect.stringContaining('pattern=aaaaaaaaaaaaaaaa'));
  expect(within(drawer.getByRole('list', { name: 'During, oldest first' })).getByText('bank 4 answers after 310 ms')).toBeVisible();
  expect(drawer.getByText('correlation 0.91')).toBeVisible();
  await user.click(drawer.getByRole('link', { name: 'Search the lines from then on' }));
  await waitFor(() => expect(search()).toMatchObject({ view: 'logs', stream: '{service="payment"}', at: '2026-03-01T12:00:00.000Z' }));
});

test('an anomaly of metrics leads to the lines of its time, whatever was searched before', async () => {
  const found = anomaly({ state: 'resolved', started_at: '2026-03-01T12:00:10Z', resolved_at: '2026-03-01T12:01:00Z' });
  const { user, search } = renderPage({ 'GET /api/v1/anomalies/an_a': () => found, 'GET /api/v1/anomalies/an_a/explain': () => explanation(found) }, '/?anomaly=an_a&text=old&stream=%7Ba%3D%22b%22%7D');
  await user.click(await screen.findByRole('link', { name: 'Show the log lines of that time' }));
  await waitFor(() => expect(search()).toEqual({ view: 'logs', at: '2026-03-01T12:00:00.000Z' }));
});

test('markup and control characters in lines stay text, tabs and line breaks take effect', async () => {
  const evil = '<img src=x onerror="globalThis.hacked=1">\u202e\u001b[31m\n\tat here';
  const { container } = renderPage(
    { 'GET /api/v1/logs/lines': () => list([line(evil, { stream: { service: evil }, logger: evil })]), 'GET /api/v1/logs/patterns': () => list([pattern({ template: evil, name: evil, streams: [{ service: evil }] })]) },
    logs,
  );
  const shown = '<img src=x onerror="globalThis.hacked=1">\\u202e\\u001b[31m';
  await waitFor(() => expect(container.textContent).toContain(`${shown}\n\tat here`));
  expect(container.textContent).toContain(`${shown}\\u000a\\u0009at here`);
  expect(container.querySelectorAll('img[src="x"]')).toHaveLength(0);
  expect('hacked' in globalThis).toBe(false);
});
