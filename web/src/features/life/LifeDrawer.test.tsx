import { screen, waitFor, within } from '@testing-library/react';
import { expect, test } from 'vitest';
import { anomaly, detector, modelVersion, shadow, task, version } from '../../testing/fixtures';
import { never, noting, Refused } from '../../testing/fakeServer';
import { list, renderPage } from '../../testing/renderPage';

const address = '/?detector=det_a&life=1';
const drawer = async () => within(await screen.findByRole('dialog', { name: 'Detector' }));
const counts = { false: 4, false_removed: 3, true: 2, true_kept: 2, unlabelled: 5, unlabelled_changed: 1, added: 0, alarms: 9, alarms_per_week: 2 };
const found = {
  based_on: 1,
  summary: 'removes 3 of 4 false',
  improved: true,
  changes: [{ field: 'for', from: '0s', to: '2m' }],
  patch: { for: '2m' },
  from: '2026-11-01T00:00:00Z',
  to: '2026-11-20T00:00:00Z',
  before: counts,
  after: counts,
  unreproduced: 0,
  evaluations: 9,
  stopped: 'done',
};

test('it opens from the chart, and tells the warm-up, the trainings with their reasons and the versions', async () => {
  const { user, search } = renderPage({
    'GET /api/v1/detectors': () => list([detector({ version: 2 }, { threshold_basis: 'assumed' })]),
    'GET /api/v1/detectors/det_a/models': () => list([modelVersion({ reason: 'the scores drifted' }), modelVersion({ version: 3, state: 'retired' })]),
    'GET /api/v1/detectors/det_a/versions': () => list([{ ...version(2), changes: [{ field: 'for', from: '0s', to: '2m' }] }, version(1)]),
  });
  await user.click(await screen.findByRole('link', { name: 'Definition, shadow, versions' }));
  const d = await drawer();
  expect(search()).toMatchObject({ life: true });
  expect(await d.findByText(/There is less data than a budget of 1 a week needs/)).toBeVisible();
  expect(await d.findByText('the scores drifted')).toBeVisible();
  expect(await d.findByText('in force')).toBeVisible();
  expect(d.getByText('2m')).toBeVisible();
  expect(d.queryByRole('region', { name: 'Shadow' })).toBeNull();
});

test('a suggestion shows its progress, its diff and its effect, and is applied to the version it was made for', async () => {
  let state = task();
  const apply = noting(() => detector({ version: 2, for: '2m' }));
  const { user } = renderPage(
    {
      'POST /api/v1/detectors/det_a/suggest': () => state,
      'GET /api/v1/tasks/task_1': () => state,
      'POST /api/v1/detectors/det_a/suggestions/task_1/apply': apply.handler,
    },
    address,
  );
  const d = await drawer();
  await user.click(await d.findByRole('button', { name: 'Suggest' }));
  expect(await d.findByRole('progressbar', { name: 'Progress of the suggestion' })).toHaveAttribute('value', '0.4');
  state = task({ state: 'succeeded', progress: 1, result: found });
  expect(await d.findByText('Removes 3 of 4 false.')).toBeVisible();
  expect(d.getByText('3 of 4')).toBeVisible();
  await user.click(d.getByRole('button', { name: 'Apply as version 2' }));
  await waitFor(() => expect(apply.seen).toHaveLength(1));
  expect(apply.seen[0]!.headers.get('If-Match')).toBe('"1"');
  expect(apply.seen[0]!.headers.get('Idempotency-Key')).toMatch(/^[0-9a-f]{32}$/);
});

test('a suggestion for an older version cannot be used, and a task that runs can be cancelled', async () => {
  const cancel = noting(() => task({ id: 'task_2', kind: 'backtest', state: 'cancelled' }));
  const tasks = noting(() => list([task({ id: 'task_2', kind: 'backtest' }), task({ state: 'succeeded', result: { ...found, based_on: 9 } })]));
  const { user } = renderPage(
    {
      'GET /api/v1/tasks': tasks.handler,
      'GET /api/v1/tasks/task_2': () => task({ id: 'task_2', kind: 'backtest' }),
      'POST /api/v1/tasks/task_2/cancel': cancel.handler,
    },
    address,
  );
  const d = await drawer();
  expect(await d.findByText(/made for version 9; the definition has changed since/)).toBeVisible();
  expect(d.queryByRole('button', { name: /^Apply/ })).toBeNull();
  expect(tasks.seen[0]!.url.searchParams.get('detector_id')).toBe('det_a');
  await user.click(await d.findByRole('button', { name: 'Cancel' }));
  expect(await d.findByText('cancelled')).toBeVisible();
  expect(cancel.seen).toHaveLength(1);
});

test('a change by hand goes into a shadow with only what was changed', async () => {
  let current: ReturnType<typeof shadow> | undefined;
  const start = noting(() => (current = shadow({ state: 'learning', since: undefined, progress: 0.2 })));
  const { user } = renderPage({ 'POST /api/v1/detectors/det_a/shadow': start.handler, 'GET /api/v1/detectors/det_a/shadow': () => current ?? new Refused(404, 'NOT_FOUND') }, address);
  const d = await drawer();
  await user.click(await d.findByRole('button', { name: 'Change by hand…' }));
  const form = within(d.getByRole('form', { name: 'Change the definition' }));
  expect(form.getByRole('button', { name: 'Try as a shadow' })).toBeDisabled();
  await user.type(form.getByRole('textbox', { name: 'Holidays' }), 'Christmas');
  expect(await form.findByText(/Christmas is no day/)).toBeVisible();
  await user.clear(form.getByRole('textbox', { name: 'Holidays' }));
  await user.type(form.getByRole('textbox', { name: 'Holidays' }), '12-25');
  await user.click(form.getByRole('button', { name: 'Try as a shadow' }));
  expect(await d.findByText(/The comparison begins when that is done\. 20 % done/)).toBeVisible();
  expect(start.seen[0]!.body).toEqual({ definition: { holidays: ['12-25'] } });
  expect(d.getByRole('button', { name: 'Promote' })).toBeDisabled();
});

test('a shadow shows what is gained and lost, and is promoted in one press', async () => {
  const promote = noting(() => detector({ version: 2, for: '2m' }));
  const { user } = renderPage(
    {
      'GET /api/v1/detectors/det_a/shadow': () =>
        promote.seen.length > 0 ? new Refused(404, 'NOT_FOUND') : shadow({ gained: [anomaly({ id: 'sh_1' })], lost: [anomaly({ id: 'an_l' })], changes: [{ field: 'for', from: '0s', to: '2m' }] }),
      'POST /api/v1/detectors/det_a/shadow/promote': promote.handler,
    },
    address,
  );
  const d = await drawer();
  const gained = within(await d.findByRole('region', { name: /^Gained/ }));
  expect(gained.getByRole('link').getAttribute('href')).toContain('series=');
  expect(within(d.getByRole('region', { name: /^Lost/ })).getByRole('link').getAttribute('href')).toContain('anomaly=an_l');
  await user.click(d.getByRole('button', { name: 'Promote' }));
  await waitFor(() => expect(d.queryByRole('region', { name: 'Shadow' })).toBeNull());
  expect(promote.seen[0]!.headers.get('If-Match')).toBe('"7"');
});

test('discarding a shadow asks first, and a refusal is shown', async () => {
  const discard = noting(() => new Refused(412, 'PRECONDITION_FAILED', { title: 'It was changed meanwhile' }));
  const { user } = renderPage({ 'GET /api/v1/detectors/det_a/shadow': () => shadow(), 'DELETE /api/v1/detectors/det_a/shadow': discard.handler }, address);
  const d = await drawer();
  await user.click(await d.findByRole('button', { name: 'Discard…' }));
  expect(discard.seen).toHaveLength(0);
  await user.click(within(d.getByRole('group', { name: 'Discard the shadow' })).getByRole('button', { name: 'Discard it' }));
  expect(await d.findByText(/Not saved: It was changed meanwhile/)).toBeVisible();
});

test('an older version comes back in one press', async () => {
  const revert = noting(() => detector({ version: 3 }));
  const { user } = renderPage(
    { 'GET /api/v1/detectors': () => list([detector({ version: 2 })]), 'GET /api/v1/detectors/det_a/versions': () => list([version(2), version(1)]), 'POST /api/v1/detectors/det_a/revert': revert.handler },
    address,
  );
  await user.click(await (await drawer()).findByRole('button', { name: 'Go back to version 1' }));
  await waitFor(() => expect(revert.seen[0]?.body).toEqual({ version: 1 }));
  expect(revert.seen[0]!.headers.get('If-Match')).toBe('"2"');
});

test('a detector of the configuration file can be tried out but not changed here', async () => {
  const { user } = renderPage(
    {
      'GET /api/v1/detectors': () => list([detector({ provisioned: true, version: 2 })]),
      'GET /api/v1/detectors/det_a/versions': () => list([version(2), version(1)]),
      'GET /api/v1/detectors/det_a/shadow': () => shadow(),
    },
    address,
  );
  const d = await drawer();
  expect(await d.findByText(/To promote it, write it into the configuration file/)).toBeVisible();
  expect(d.queryByRole('button', { name: 'Promote' })).toBeNull();
  await user.click(d.getByRole('button', { name: 'Change by hand…' }));
  expect(d.getByRole('button', { name: 'Backtest 7 days' })).toBeVisible();
  expect(d.getByText(/There is a shadow already/)).toBeVisible();
  for (const name of [/^Save as/, 'Try as a shadow']) expect(d.queryByRole('button', { name })).toBeNull();
  expect(d.queryByRole('button', { name: /^Go back/ })).toBeNull();
});

test('who may only look sees no buttons', async () => {
  renderPage({ 'GET /api/v1/session': () => ({ authentication: true, name: 'eve', role: 'viewer', via: 'session', operations: [] }), 'GET /api/v1/detectors/det_a/shadow': () => shadow() }, address);
  const d = await drawer();
  expect(await d.findByText(/Your key may look, not change/)).toBeVisible();
  for (const name of ['Promote', 'Suggest', 'Train now']) expect(d.queryByRole('button', { name })).toBeNull();
});

test('what loads and what fails is said part by part', async () => {
  renderPage({ 'GET /api/v1/detectors/det_a/versions': () => never, 'GET /api/v1/detectors/det_a/models': () => new Refused(500, 'DATABASE_ERROR', { title: 'The database failed' }) }, address);
  const d = await drawer();
  expect(await d.findByText(/Could not load the model versions: The database failed/)).toBeVisible();
  expect(d.getByRole('status', { name: 'Loading the versions' })).toBeVisible();
});
