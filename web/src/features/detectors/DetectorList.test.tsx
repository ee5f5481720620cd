import { screen, waitFor, within } from '@testing-library/react';
import { expect, test } from 'vitest';
import { detector } from '../../testing/fixtures';
import { Refused, type Handler } from '../../testing/fakeServer';
import { list, renderPage } from '../../testing/renderPage';

const panel = () => screen.findByRole('region', { name: 'Detectors' });
const links = async () => (await within(await panel()).findAllByRole('link')).map((l) => l.querySelector('bdi')!.textContent);

const three: Handler = () =>
  list([
    detector({ id: 'det_a', name: 'latency' }, { series_active: 2400, series_learning: 180, lag_seconds: 12 }),
    detector({ id: 'det_b', name: 'errors' }, { open_anomalies: 3 }),
    detector({ id: 'det_c', name: 'queue', enabled: false }, { state: 'stopped' }),
  ]);

test('each row tells name, state, series, lag and budget', async () => {
  renderPage({ 'GET /api/v1/detectors': three });
  const row = await within(await panel()).findByRole('link', { name: /latency/ });
  for (const text of ['running', '2,400 series (180 learning)', '12\u00a0s behind', 'budget 1/week']) expect(row).toHaveTextContent(text.replace('\u00a0', ' '));
  expect(within(await panel()).getByRole('link', { name: /errors/ })).toHaveTextContent('3 anomalies');
  expect(within(await panel()).getByRole('link', { name: /queue/ })).toHaveTextContent('stopped');
});

test('the filter narrows the list and stands in the address', async () => {
  const { user, search } = renderPage({ 'GET /api/v1/detectors': three });
  await user.type(await screen.findByRole('textbox', { name: 'Filter detectors' }), 'queue');
  expect(await links()).toEqual(['queue']);
  await waitFor(() => expect(search()).toMatchObject({ filter: 'queue' }));
  await user.type(screen.getByRole('textbox', { name: 'Filter detectors' }), 'x');
  expect(await within(await panel()).findByText('No detector matches this filter.')).toBeVisible();
  await user.click(screen.getByRole('button', { name: 'Clear the filter' }));
  expect(await links()).toEqual(['errors', 'latency', 'queue']);
});

test('a filter from the address is applied, and going back restores the one before', async () => {
  const { user, router } = renderPage({ 'GET /api/v1/detectors': three }, '/?filter=lat');
  expect(await links()).toEqual(['latency']);
  await user.click(within(await panel()).getByRole('link', { name: /latency/ }));
  await user.clear(screen.getByRole('textbox', { name: 'Filter detectors' }));
  expect(await links()).toHaveLength(3);
  await waitFor(() => expect(router.state.location.search).not.toHaveProperty('filter'));
  router.history.back();
  await waitFor(async () => expect(await links()).toEqual(['latency']));
});

test('attention shows only what needs it', async () => {
  const { user, search } = renderPage({ 'GET /api/v1/detectors': three });
  await links();
  await user.click(screen.getByRole('radio', { name: 'Attention 1' }));
  await waitFor(async () => expect(await links()).toEqual(['errors']));
  await waitFor(() => expect(search()).toMatchObject({ attention: true }));
});

test('the arrow keys move between the rows, and Enter chooses', async () => {
  const { user, search } = renderPage({ 'GET /api/v1/detectors': three });
  const rows = await within(await panel()).findAllByRole('link');
  rows[0]!.focus();
  await user.keyboard('{ArrowDown}');
  expect(rows[1]).toHaveFocus();
  await user.keyboard('{End}');
  expect(rows[2]).toHaveFocus();
  await user.keyboard('{ArrowDown}{Home}{ArrowUp}');
  expect(rows[0]).toHaveFocus();
  await user.keyboard('{ArrowDown}{Enter}');
  await waitFor(() => expect(search()).toMatchObject({ detector: 'det_a' }));
});

test('a failure says what it is, what to do, and tries again when that can help', async () => {
  let fail = true;
  const { user } = renderPage({
    'GET /api/v1/detectors': (asked) =>
      fail ? new Refused(500, 'DATABASE_ERROR', { title: 'The database failed', detail: 'It did not answer.', retryable: true, request_id: 'req_7' }) : three(asked),
    'GET /api/v1/errors': () => list([{ code: 'DATABASE_ERROR', status: 500, retryable: true, title: '', meaning: '', action: 'Look at /health/database.' }]),
  });
  const alert = await within(await panel()).findByRole('alert');
  expect(alert).toHaveTextContent('Could not load the detectors: The database failed');
  expect(alert).toHaveTextContent('It did not answer.');
  expect(await within(alert).findByText('Look at /health/database.')).toBeVisible();
  expect(alert).toHaveTextContent('DATABASE_ERROR · request req_7');
  fail = false;
  await user.click(within(alert).getByRole('button', { name: 'Try again' }));
  expect(await links()).toEqual(['errors', 'latency', 'queue']);
});

test('a failure that cannot pass offers no second try', async () => {
  renderPage({ 'GET /api/v1/detectors': () => new Refused(403, 'FORBIDDEN') });
  const alert = await within(await panel()).findByRole('alert');
  expect(within(alert).queryByRole('button')).toBeNull();
});

test('every page of a long list is fetched', async () => {
  renderPage({
    'GET /api/v1/detectors': ({ url }) =>
      url.searchParams.get('cursor') === 'p2' ? list([detector({ id: 'det_b', name: 'second' })]) : { items: [detector({ name: 'first' })], next_cursor: 'p2' },
  });
  expect(await links()).toEqual(['first', 'second']);
});
