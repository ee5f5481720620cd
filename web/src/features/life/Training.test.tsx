import { screen, waitFor, within } from '@testing-library/react';
import { expect, test, vi } from 'vitest';
import { noting, Refused, type Handler } from '../../testing/fakeServer';
import { modelVersion } from '../../testing/fixtures';
import { list, renderPage } from '../../testing/renderPage';

const models = [modelVersion(), modelVersion({ version: 3, state: 'shadow' }), modelVersion({ version: 2, state: 'retired' }), modelVersion({ version: 1, state: 'retired' })];

// The first drawing takes long on a busy machine.
const patient = { timeout: 60_000 };
vi.setConfig({ testTimeout: 120_000 });

/** The page of a detector with these model versions. */
async function show(answers: Record<string, Handler>) {
  const page = renderPage({ 'GET /api/v1/detectors/det_a/models': () => list(models), ...answers }, '/?detector=det_a&life=1');
  const drawer = within(await screen.findByRole('dialog', { name: 'Detector' }, patient));
  await drawer.findByText('Model 4', undefined, patient);
  return { ...page, drawer };
}

test('the way back names the model that it leads to, and asks first', async () => {
  const back = noting(() => modelVersion({ version: 2, reason: 'rolled back' }));
  const { user, drawer } = await show({ 'POST /api/v1/detectors/det_a/models/rollback': back.handler });
  await user.click(drawer.getByRole('button', { name: 'Go back to the model before…' }));
  const question = within(drawer.getByRole('group', { name: 'Go back to model 2' }));
  expect(question.getByText(/Model 2 takes over with what it had learned.*Model 4 is kept/)).toBeVisible();
  await user.click(question.getByRole('button', { name: 'Not now' }));
  expect(back.seen).toHaveLength(0);
  expect(drawer.queryByRole('group', { name: 'Go back to model 2' })).toBeNull();
  expect(drawer.getByRole('list', { name: /^Model versions/ }).parentElement, 'the button that had the focus is gone').toHaveFocus();
  await user.click(drawer.getByRole('button', { name: 'Go back to the model before…' }));
  await user.click(drawer.getByRole('button', { name: 'Go back to model 2' }));
  await waitFor(() => expect(back.seen).toHaveLength(1));
  expect(back.seen[0]!.headers.get('Idempotency-Key')).toMatch(/^[0-9a-f]{32}$/);
});

test('each retired model can become the active one, and the list follows', async () => {
  const promote = noting(() => modelVersion({ version: 1, reason: 'promoted' }));
  const after = [modelVersion({ state: 'retired' }), modelVersion({ version: 1, reason: 'promoted' })];
  const { user, drawer } = await show({
    'POST /api/v1/detectors/det_a/models/1/promote': promote.handler,
    'GET /api/v1/detectors/det_a/models': () => list(promote.seen.length > 0 ? after : models),
  });
  expect(drawer.getAllByRole('button', { name: /^Make it/ }).map((b) => b.getAttribute('aria-label'))).toEqual(['Make it the active one: model 2', 'Make it the active one: model 1']);
  await user.click(drawer.getByRole('button', { name: 'Make it the active one: model 1' }));
  await user.click(drawer.getByRole('button', { name: 'Make model 1 active' }));
  expect(await drawer.findByText('promoted')).toBeVisible();
  expect(drawer.getByRole('button', { name: 'Make it the active one: model 4' })).toBeVisible();
  expect(drawer.queryByRole('button', { name: /^Go back to the model/ }), 'there is none before').toBeNull();
});

test('the newest five are listed, with reasons that cannot reorder the text', async () => {
  const many = Array.from({ length: 7 }, (_, i) => modelVersion({ version: 7 - i, state: i === 3 ? 'active' : 'retired', reason: '\u202edetsurt' }));
  const { drawer } = await show({ 'GET /api/v1/detectors/det_a/models': () => list(many) });
  const items = within(drawer.getByRole('list', { name: /^Model versions/ })).getAllByRole('listitem');
  expect(items).toHaveLength(5);
  expect(items[0]).toHaveTextContent(/^Model 7\\u202edetsurt/);
});

test('why it was refused is shown', async () => {
  const { user, drawer } = await show({ 'POST /api/v1/detectors/det_a/models/2/promote': () => new Refused(409, 'CONFLICT', { title: 'It does not fit', detail: 'model version 2 belongs to the shadow' }) });
  await user.click(drawer.getByRole('button', { name: 'Make it the active one: model 2' }));
  await user.click(drawer.getByRole('button', { name: 'Make model 2 active' }));
  expect(await drawer.findByText('model version 2 belongs to the shadow')).toBeVisible();
});

test('who may only look sees no way back', async () => {
  const { drawer } = await show({ 'GET /api/v1/session': () => ({ authentication: true, name: 'eve', role: 'viewer', via: 'session', operations: [] }) });
  await waitFor(() => expect(drawer.queryByRole('button', { name: /^(Make it|Go back to the model)/ })).toBeNull());
});
