import { fireEvent, screen, waitFor, within } from '@testing-library/react';
import { expect, test, vi } from 'vitest';
import type { KnownEvent, KnownEventInput } from '../../shared/api/types';
import { noting, Refused, type Handler } from '../../testing/fakeServer';
import { knownEvent } from '../../testing/fixtures';
import { list, renderPage } from '../../testing/renderPage';

const address = '/?detector=det_a&life=1';
// The first drawing takes long on a busy machine.
const patient = { timeout: 60_000 };
vi.setConfig({ testTimeout: 120_000 });
const part = async () => within(await screen.findByRole('region', { name: 'Known events' }, patient));
const hours = (n: number) => new Date(Date.now() + n * 3_600_000).toISOString();
const ran = (more: Partial<KnownEvent> = {}) => knownEvent({ from: hours(-1), to: hours(1), version: 4, ...more });

/** A server that keeps known events. */
function keeping(events: KnownEvent[], changes: Record<string, Handler> = {}) {
  const state = { events };
  const listed = noting(() => list(state.events));
  return { state, listed, ...renderPage({ 'GET /api/v1/known-events': listed.handler, ...changes }, address) };
}

test('those that run stand first, each with when, which series and what it does', async () => {
  const running = ran({ mute: true, matchers: { job: 'shop', gone: '' }, detector_id: 'det_a', created_by: 'ada' });
  const { listed, user } = keeping([
    knownEvent({ id: 'evt_2', name: 'next week', from: hours(100), to: hours(101.5) }),
    running,
    ...['a', 'b', 'c', 'd'].map((name, i) => knownEvent({ id: name, name, from: hours(-50 - i), to: hours(-48.5 - i) })),
  ]);
  const known = await part();
  const items = (await known.findAllByRole('listitem')).map((li) => li.textContent);
  expect(items).toHaveLength(5);
  const times = [...known.getAllByRole('listitem')[0]!.querySelectorAll('time')].map((time) => time.textContent!.slice(-5));
  expect(times).toEqual([running.from, running.to].map((t) => new Date(t).toTimeString().slice(0, 5)));
  expect(items[0]).toMatch(/^nowdatabase upgrade.*ends in .*no alarms meanwhile.*gone="".*job=shop.*this detector only, entered by ada/);
  expect(items[1]).toMatch(/^upcomingnext week.*begins in 4\sd.*alarms go on.*all series.*every detector/);
  expect(items[2]).toMatch(/^pasta.*ended 2\sd.* ago/);
  const asked = listed.seen[0]!.url.searchParams;
  expect(asked.get('detector')).toBe('det_a');
  expect((Date.now() - Date.parse(asked.get('from')!)) / 86_400_000).toBeCloseTo(30, 1);
  await user.click(known.getByRole('button', { name: 'Show 1 more' }));
  expect(known.getAllByRole('listitem')).toHaveLength(6);
});

test('names and labels are text that cannot reorder or run', async () => {
  const { container } = keeping([ran({ name: '<img src="x"> \u202egnp', matchers: { 'job\u202e': '</bdi><img src="x">' }, created_by: '\u202eada' })]);
  const known = await part();
  expect(await known.findByText('<img src="x"> \\u202egnp')).toBeVisible();
  expect(known.getByText('job\\u202e=</bdi><img src="x">').tagName).toBe('BDI');
  expect(known.getByText('\\u202eada').tagName).toBe('BDI');
  expect(container.ownerDocument.querySelectorAll('img[src="x"]')).toHaveLength(0);
  expect(known.getByRole('button', { name: 'Delete <img src="x"> \\u202egnp…' })).toBeVisible();
});

test('one is entered from now for four hours, for every detector, and stands there', async () => {
  const { state, user } = keeping([], {
    'POST /api/v1/known-events': (asked) => {
      posted.handler(asked);
      const event = knownEvent({ ...(asked.body as KnownEventInput), matchers: (asked.body as KnownEventInput).matchers ?? {} });
      state.events = [event];
      return event;
    },
  });
  const posted = noting(() => undefined);
  const known = await part();
  expect(await known.findByText(/There is none now/)).toBeVisible();
  await user.click(known.getByRole('button', { name: 'Enter an event…' }));
  const form = within(known.getByRole('form', { name: 'Enter an event' }));
  await user.click(form.getByRole('button', { name: 'Enter the event' }));
  expect(form.getByRole('textbox', { name: 'Name' }), 'what lacks is where the focus is').toHaveFocus();
  expect(form.getByText(/^A name, such as/)).toBeVisible();
  expect(posted.seen).toHaveLength(0);
  fireEvent.change(form.getByRole('textbox', { name: 'Name' }), { target: { value: 'deploy 7' } });
  await user.click(form.getByRole('button', { name: 'From now for 4 h' }));
  await user.click(form.getByRole('checkbox', { name: 'No alarms meanwhile' }));
  await user.click(form.getByRole('radio', { name: 'Every detector' }));
  fireEvent.change(form.getByRole('textbox', { name: /^Only series/ }), { target: { value: 'job="shop", zone=eu' } });
  await user.click(form.getByRole('button', { name: 'Enter the event' }));
  expect(await known.findByText('deploy 7')).toBeVisible();
  const { body, headers } = posted.seen[0]!;
  const { from, to, ...rest } = body as KnownEventInput;
  expect(rest).toEqual({ name: 'deploy 7', mute: true, matchers: { job: 'shop', zone: 'eu' } });
  expect(Date.parse(to) - Date.parse(from)).toBe(4 * 3_600_000);
  expect(headers.get('Idempotency-Key')).toMatch(/^[0-9a-f]{32}$/);
  expect(headers.get('If-Match')).toBeNull();
  expect(known.queryByRole('form')).toBeNull();
  expect(known.getByText('The event was entered.')).toHaveRole('status');
});

test('a change goes to the version that was seen, and what is refused stands at its field', async () => {
  const detail = 'names have 1 to 256 bytes and values at most 256';
  const put = noting(() => (put.seen.length === 1 ? new Refused(422, 'VALIDATION_ERROR', { errors: [{ pointer: '/matchers', code: 'invalid', detail }] }) : ran({ version: 5 })));
  const event = ran({ mute: true, detector_id: 'det_a', matchers: { job: 'shop' } });
  const { user } = keeping([event], { 'PUT /api/v1/known-events/evt_1': put.handler });
  const known = await part();
  await user.click(await known.findByRole('button', { name: 'Change database upgrade…' }));
  const form = within(known.getByRole('form', { name: 'Change the event' }));
  const labels = form.getByRole('textbox', { name: /^Only series/ });
  fireEvent.change(labels, { target: { value: 'job=shop, x=y' } });
  await user.click(form.getByRole('button', { name: 'Save the event' }));
  await waitFor(() => expect(labels).toBeInvalid());
  expect(labels).toHaveAccessibleDescription(expect.stringContaining('Names have 1 to 256 bytes'));
  fireEvent.change(labels, { target: { value: 'job=shop, x=yz' } });
  expect(labels, 'what was refused is no longer there').toBeValid();
  fireEvent.change(form.getByLabelText(/^End/), { target: { value: '2020-01-01T00:00' } });
  expect(form.getByText('It ends before it begins.')).toBeVisible();
  await user.click(form.getByRole('button', { name: 'End it now' }));
  await user.click(form.getByRole('button', { name: 'Save the event' }));
  await waitFor(() => expect(known.queryByRole('form')).toBeNull());
  expect(known.getByText('The event was changed.')).toHaveRole('status');
  expect(put.seen).toHaveLength(2);
  expect(put.seen[1]!.headers.get('If-Match')).toBe('"4"');
  expect(put.seen[1]!.headers.get('Idempotency-Key')).not.toBe(put.seen[0]!.headers.get('Idempotency-Key'));
  const { to, ...rest } = put.seen[1]!.body as KnownEventInput;
  expect(rest).toEqual({ name: event.name, from: event.from, mute: true, detector_id: 'det_a', matchers: { job: 'shop', x: 'yz' } });
  expect(Math.abs(Date.parse(to) - Date.now())).toBeLessThan(60_000);
});

test('deleting asks first, and a refusal is shown', async () => {
  let refuse = true;
  const gone = noting(() => (refuse ? new Refused(412, 'PRECONDITION_FAILED', { title: 'It was changed meanwhile' }) : {}));
  const { state, user } = keeping([ran()], { 'DELETE /api/v1/known-events/evt_1': gone.handler });
  const known = await part();
  const press = async () => {
    await user.click(await known.findByRole('button', { name: 'Delete database upgrade…' }));
    await user.click(within(known.getByRole('group', { name: 'Delete database upgrade' })).getByRole('button', { name: 'Delete it' }));
  };
  await user.click(await known.findByRole('button', { name: 'Delete database upgrade…' }));
  expect(known.getByText(/count again from the next step on, for every detector/)).toBeVisible();
  await user.click(known.getByRole('button', { name: 'Not now' }));
  expect(gone.seen).toHaveLength(0);
  await press();
  expect(await known.findByText(/Not saved: It was changed meanwhile/)).toBeVisible();
  refuse = false;
  state.events = [];
  await press();
  expect(await known.findByText(/There is none now/)).toBeVisible();
  expect(gone.seen[1]!.headers.get('If-Match')).toBe('"4"');
  expect(screen.getByText('The event was deleted.')).toHaveRole('status');
  expect(known.getByText('Known events', { selector: 'h3' }).closest('[tabindex="-1"]'), 'the button that had the focus is gone').toHaveFocus();
});

test('one that someone else enters appears by its event, and a form that is open keeps what was typed', async () => {
  const put = noting(() => new Refused(412, 'PRECONDITION_FAILED'));
  const { state, stream, user } = keeping([ran()], { 'PUT /api/v1/known-events/evt_1': put.handler });
  const known = await part();
  await user.click(await known.findByRole('button', { name: 'Change database upgrade…' }));
  const name = within(known.getByRole('form')).getByRole('textbox', { name: 'Name' });
  await user.type(name, ' 2');
  await stream.clock.go(2_000);
  state.events = [ran({ version: 5, name: 'renamed' }), knownEvent({ id: 'evt_9', name: 'deploy by another' })];
  stream.publish('system/known_events/evt_9', 'known_event.changed', { id: 'evt_9', detector_id: '', deleted: false });
  await stream.clock.go(2_000);
  expect(await known.findByText('deploy by another')).toBeVisible();
  expect(name).toHaveValue('database upgrade 2');
  await user.click(known.getByRole('button', { name: 'Save the event' }));
  await waitFor(() => expect(put.seen).toHaveLength(1));
  expect(put.seen[0]!.headers.get('If-Match'), 'a change that was not seen is not overwritten').toBe('"4"');
});

test('a form that is cancelled is gone, and so is what was typed', async () => {
  const { user } = keeping([ran()]);
  const known = await part();
  for (const opener of ['Enter an event…', 'Change database upgrade…']) {
    await user.click(await known.findByRole('button', { name: opener }));
    await user.type(known.getByRole('textbox', { name: 'Name' }), 'typo');
    await user.click(known.getByRole('button', { name: 'Cancel' }));
    expect(known.queryByRole('form')).toBeNull();
    await user.click(known.getByRole('button', { name: opener }));
    expect(known.getByRole<HTMLInputElement>('textbox', { name: 'Name' }).value).not.toContain('typo');
    await user.click(known.getByRole('button', { name: 'Cancel' }));
  }
  expect(known.getByText('Known events', { selector: 'h3' }).closest('[tabindex="-1"]')).toHaveFocus();
});

test('who may only look sees them without buttons', async () => {
  keeping([ran()], { 'GET /api/v1/session': () => ({ authentication: true, name: 'eve', role: 'viewer', via: 'session', operations: [] }) });
  const known = await part();
  expect(await known.findByText('database upgrade')).toBeVisible();
  await waitFor(() => expect(known.queryAllByRole('button')).toHaveLength(0));
});
