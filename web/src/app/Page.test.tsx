import { screen, waitFor, within } from '@testing-library/react';
import { expect, test } from 'vitest';
import { never } from '../testing/fakeServer';
import { detector, source } from '../testing/fixtures';
import { list, renderPage } from '../testing/renderPage';

const region = (name: string | RegExp) => screen.findByRole('region', { name });

test('the page shows what is watched, what it does and what was found', async () => {
  const { server } = renderPage();
  const overview = await region('Overview');
  expect(await within(overview).findByText('in 1 detector')).toBeVisible();
  expect(within(overview).getByText('1 of 1')).toBeVisible();
  expect(await screen.findByText('v1.2.3')).toBeVisible();
  expect(await screen.findByRole('button', { name: /State of the program: healthy/ })).toBeVisible();
  const chart = await screen.findByRole('group', { name: /^latency, the last hour\. Latest value 412.ms, anomalous/ });
  expect(chart).toHaveAttribute('aria-roledescription', 'chart');
  expect(within(await region('Anomalies')).getByRole('link', { name: /warning\s*latency.*412.ms above normal.*once in 12.days/s })).toBeVisible();
  await waitFor(() => expect(document.title).toBe('(1) AIOps'));
  expect(server.missed).toEqual([]);
});

test('while nothing was answered yet the page says that it loads', async () => {
  renderPage({ 'GET /api/v1/detectors': () => never, 'GET /api/v1/anomalies': () => never, 'GET /api/v1/sources': () => never });
  expect(await screen.findByRole('status', { name: 'Loading the detectors' })).toBeInTheDocument();
  expect(screen.getByRole('status', { name: 'Loading the anomalies' })).toBeInTheDocument();
  expect(screen.getByRole('status', { name: 'Loading the chart' })).toBeInTheDocument();
});

test('without detectors the page says how to get one', async () => {
  renderPage({ 'GET /api/v1/detectors': () => list([]), 'GET /api/v1/anomalies': () => list([]) });
  expect(await screen.findByText('No detectors yet.')).toBeVisible();
  expect(screen.getByText('The chart appears once there is a detector.')).toBeVisible();
  expect(await screen.findByText('No open anomalies.')).toBeVisible();
});

test('choosing a detector changes the address and the chart', async () => {
  const { user, search } = renderPage();
  await user.click(await screen.findByRole('link', { name: /errors/ }));
  await waitFor(() => expect(search()).toMatchObject({ detector: 'det_b' }));
  expect(await region(/^errors/)).toBeVisible();
  expect(screen.getByRole('link', { name: /errors/ })).toHaveAttribute('aria-current', 'true');
});

test('the address alone brings back detector, series and range', async () => {
  const { server } = renderPage({}, '/?detector=det_a&series=%7Bjob%3D%22web%22%7D&range=15m');
  expect(await screen.findByRole('button', { name: 'Series: web' })).toBeVisible();
  expect(await screen.findByRole('group', { name: /the last 15 minutes/ })).toBeVisible();
  expect(screen.getByRole('radio', { name: '15 min' })).toBeChecked();
  expect(server.asked).not.toContain('GET /api/v1/detectors/det_b/replay');
});

test('a detector that is gone is said to be gone', async () => {
  renderPage({}, '/?detector=det_gone');
  expect(await screen.findByText(/This detector does not exist any more/)).toBeVisible();
});

test('a source without data is announced: no data is not health', async () => {
  renderPage({
    'GET /api/v1/sources': () => list([source(), source({ id: 'src_b', name: 'logs', type: 'loki' }, { state: 'down', last_error: 'connection refused', since: new Date(Date.now() - 65_000).toISOString() })]),
  });
  const banner = await screen.findByRole('alert');
  expect(banner).toHaveTextContent('No data is not health');
  expect(banner).toHaveTextContent(/Source logs does not answer since .*1.min \d.s ago.*Connection refused\./);
  expect(within(await region('Overview')).getByText('1 without data')).toBeVisible();
});

test('an address without a page leads back', async () => {
  renderPage({}, '/nowhere');
  expect(await screen.findByRole('heading', { name: 'There is no page at this address' })).toBeVisible();
  expect(screen.getByRole('link', { name: 'Go to the overview' })).toHaveAttribute('href', '/');
});

test('markup in names and labels stays text', async () => {
  const evil = '<img src=x onerror="globalThis.hacked=1">\u202e';
  const { container } = renderPage({ 'GET /api/v1/detectors': () => list([detector({ name: evil, query: evil }, { last_error: evil })]) });
  expect(await screen.findAllByText('<img src=x onerror="globalThis.hacked=1">\\u202e')).not.toHaveLength(0);
  expect(container.querySelectorAll('img[src="x"]')).toHaveLength(0);
  expect('hacked' in globalThis).toBe(false);
});
