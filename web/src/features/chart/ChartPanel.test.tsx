import { fireEvent, screen, waitFor, within } from '@testing-library/react';
import { describe, expect, test, vi } from 'vitest';
import { anomaly, detector, knownEvent, point, replay, series } from '../../testing/fixtures';
import { Refused, cut } from '../../testing/fakeServer';
import { list, renderPage } from '../../testing/renderPage';

const chartPanel = () => screen.findByRole('region', { name: /^latency/ });

describe('the readout', () => {
  test('shows the latest value, and the one under the arrow keys', async () => {
    const { user } = renderPage();
    const panel = within(await chartPanel());
    const readout = () => panel.getByText('verdict').closest('dl')!;
    const chart = await panel.findByRole('group', { name: /^latency/ });
    expect(readout()).toHaveTextContent(/latest.*value412 msexpected130 msnormal95 to 168 msscore6.2verdictanomalous/);
    expect(readout()).toHaveAttribute('aria-live', 'off');
    chart.focus();
    await user.keyboard('{ArrowLeft}');
    await waitFor(() => expect(readout()).toHaveAttribute('aria-live', 'polite'));
    await user.keyboard('{Escape}');
    await waitFor(() => expect(readout()).toHaveTextContent('latest'));
  });

  test('says that a series still learns', async () => {
    renderPage({}, '/?detector=det_b');
    const panel = within(await screen.findByRole('region', { name: /^errors/ }));
    expect(await panel.findByText('verdict')).toBeVisible();
    expect(panel.getByText('22 more samples needed; no alarms until then')).toBeVisible();
  });
});

describe('known events', () => {
  const now = Math.floor(Date.now() / 10_000) * 10;
  const from = (minutes: number, more: Parameters<typeof knownEvent>[0] = {}) =>
    knownEvent({ id: `evt_${minutes}`, name: `deploy ${minutes}`, from: new Date((now - 60 * minutes) * 1000).toISOString(), to: new Date((now - 60 * minutes + 60) * 1000).toISOString(), ...more });
  const show = (events: ReturnType<typeof from>[]) =>
    renderPage({
      'GET /api/v1/detectors': () => list([detector({}, {})]),
      'GET /api/v1/detectors/det_a/series': () => list([series({ job: 'api' })]),
      'GET /api/v1/detectors/det_a/replay': () => ({ ...replay([point(now - 60 * 20, 0.1), point(now - 10, 0.1), point(now, 0.2)]), known_events: events }),
    });

  test('stand beside the chart with their time, in its description and its key', async () => {
    show([from(20, { mute: true, name: 'up\u202egrade', from: '2020-01-02T12:04:00Z' }), from(90)]);
    const panel = within(await chartPanel());
    const items = within(await panel.findByRole('list', { name: 'Known events in this range' })).getAllByRole('listitem');
    expect(items).toHaveLength(1);
    expect(items[0]).toHaveTextContent(/^up\\u202egrade\d Jan, \d\d:\d\d to .*\d\d:\d\dno alarms meanwhile$/);
    expect(items[0]!.querySelectorAll('time')[1]).toHaveAttribute('datetime', new Date((now - 60 * 19) * 1000).toISOString());
    expect(panel.getByRole('group', { name: /0 anomalies and 1 known event in this range/ })).toBeVisible();
    expect(panel.getByText('known event', { selector: 'li' })).toBeVisible();
  });

  test('the readout names those of the moment', async () => {
    const { user } = show([from(1, { name: 'first' }), from(0.5, { name: 'second' }), from(21, { name: 'before' })]);
    const panel = within(await chartPanel());
    const fact = () => panel.getByText('known event', { selector: 'dt' }).parentElement;
    const chart = await panel.findByRole('group', { name: /^latency/ });
    expect(fact()).toHaveTextContent(/^known eventfirst, second$/);
    chart.focus();
    await user.keyboard('{Home}');
    await waitFor(() => expect(fact()).toHaveTextContent(/^known eventbefore$/));
    await user.keyboard('{ArrowRight}');
    await waitFor(() => expect(fact()).toHaveTextContent(/^known eventnone$/));
  });

  test('of many the latest are listed, and the others on demand', async () => {
    const { user } = show([5, 10, 15, 20, 25].map((minutes) => from(minutes)));
    const known = within(await screen.findByRole('list', { name: 'Known events in this range' }));
    const names = () => known.getAllByRole('listitem').map((li) => li.querySelector('bdi')!.textContent);
    expect(names()).toEqual(['deploy 5', 'deploy 10', 'deploy 15']);
    await user.click(screen.getByRole('button', { name: 'Show 2 more known events' }));
    expect(names()).toHaveLength(5);
  });

  /** Notes, for each canvas, what is written on it and whether it has edges of known events. */
  function canvases() {
    const all: { texts: string[]; edges: number }[] = [];
    vi.spyOn(HTMLCanvasElement.prototype, 'getContext').mockImplementation((() => {
      const canvas = { texts: [] as string[], edges: 0 };
      all.push(canvas);
      const held: Record<PropertyKey, unknown> = {
        measureText: () => ({ width: 10 }),
        fillText: (text: string) => canvas.texts.push(text),
        setLineDash: ([on, off]: number[]) => (canvas.edges += on === 2 && off === 3 ? 1 : 0),
      };
      return new Proxy(held, { get: (_, name) => (name in held ? held[name] : () => undefined), set: (_, name, value) => ((held[name] = value), true) });
    }) as unknown as HTMLCanvasElement['getContext']);
    return all;
  }

  test('are drawn on the large chart with their names, on the small ones without', async () => {
    const drawn = canvases();
    renderPage({ 'GET /api/v1/detectors/det_a/replay': () => ({ ...replay([point(now - 10, 0.1), point(now, 0.2)]), known_events: [from(20, { to: new Date(now * 1000).toISOString() })] }) });
    await screen.findByRole('list', { name: 'All series of this detector' });
    await waitFor(() => expect(drawn.filter((c) => c.edges > 0)).toHaveLength(3));
    expect(drawn.filter((c) => c.texts.includes('deploy 20'))).toHaveLength(1);
  });

  test('are drawn and listed around an anomaly', async () => {
    const started_at = new Date((now - 60) * 1000).toISOString();
    const drawn = canvases();
    renderPage(
      {
        'GET /api/v1/anomalies/an_a': () => anomaly({ started_at }),
        'GET /api/v1/detectors/det_a/replay': ({ url }) => ({ ...replay([point(now - 10, 0.1), point(now, 0.2)]), known_events: Date.parse(url.searchParams.get('to')!) % 60_000 === 0 ? [from(2, { name: 'around' })] : [] }),
      },
      '/?detector=det_a&anomaly=an_a',
    );
    const drawer = within(await screen.findByRole('dialog', { name: /^Anomaly/ }));
    expect(within(await drawer.findByRole('list', { name: 'Known events in this range' })).getByText('around')).toBeVisible();
    await waitFor(() => expect(drawn.filter((c) => c.edges > 0 && c.texts.includes('around'))).toHaveLength(1));
  });

  test('without them nothing speaks of them', async () => {
    show([]);
    const panel = within(await chartPanel());
    expect(await panel.findByRole('group', { name: /0 anomalies in this range/ })).toBeVisible();
    expect(panel.queryByText(/known event/)).toBeNull();
    expect(panel.queryByRole('list', { name: /^Known/ })).toBeNull();
  });

  test('one that is entered for a time that is over has the chart ask for all of its range', async () => {
    const asked: URL[] = [];
    let events = [from(40)];
    const { stream } = renderPage({
      'GET /api/v1/detectors': () => list([detector({}, {})]),
      'GET /api/v1/detectors/det_a/series': () => list([series({ job: 'api' })]),
      'GET /api/v1/detectors/det_a/replay': ({ url }) => {
        asked.push(url);
        return { ...replay([point(now - 60 * 50, 0.1), point(now, 0.2)]), known_events: events };
      },
    });
    await screen.findByText('deploy 40');
    await stream.clock.go(3_000);
    const before = asked.length;
    events = [from(30)];
    stream.publish('system/known_events/evt_30', 'known_event.changed', { id: 'evt_30', detector_id: '', from: events[0]!.from, deleted: false });
    await stream.clock.go(3_000);
    expect(await screen.findByText('deploy 30')).toBeVisible();
    expect(screen.queryByText('deploy 40'), 'what the server no longer tells of').toBeNull();
    const { searchParams } = asked[before]!;
    expect(Date.parse(searchParams.get('to')!) - Date.parse(searchParams.get('from')!)).toBe(3_600_000);
  });
});

test('the chart asks for all of its range once, then only for what is new', async () => {
  const ranges: [number, number][] = [];
  const now = Math.floor(Date.now() / 10_000) * 10;
  const { client } = renderPage({
    'GET /api/v1/detectors': () => list([detector({}, {})]),
    'GET /api/v1/detectors/det_a/series': () => list([series({ job: 'api' })]),
    'GET /api/v1/detectors/det_a/replay': ({ url }) => {
      ranges.push([Date.parse(url.searchParams.get('from')!), Date.parse(url.searchParams.get('to')!)]);
      return replay([point(now - 10, 0.1), point(now, 0.2)]);
    },
  });
  await screen.findByRole('group', { name: /^latency/ });
  expect(ranges).toHaveLength(1);
  expect(ranges[0]![1] - ranges[0]![0]).toBe(3_600_000);
  await client.refetchQueries({ queryKey: ['replay'] });
  expect(ranges[1]![0]).toBe((now - 20) * 1000);
});

// The document of the tests has no layout, so Mantine takes a list that opens for one that was scrolled away.
describe('series', () => {
  test('the one with an anomaly is shown first; another is chosen from the list', async () => {
    const { user, search } = renderPage({ 'GET /api/v1/detectors/det_a/series': () => list([series({ job: 'web' }), series({ job: 'api' }, { anomaly: 'firing' })]) });
    const button = await screen.findByRole('button', { name: 'Series: api' });
    await user.click(button);
    await user.click(await screen.findByRole('option', { name: 'job=web', hidden: true }));
    await waitFor(() => expect(search()).toMatchObject({ detector: 'det_a', series: '{job="web"}' }));
    expect(await screen.findByRole('button', { name: 'Series: web' })).toBeVisible();
  });

  test('a search fetches the pages that are missing', async () => {
    const pages = Array.from({ length: 5 }, (_, p) => Array.from({ length: 200 }, (_, i) => series({ pod: `pod-${p * 200 + i}` })));
    const { user, server } = renderPage({
      'GET /api/v1/detectors': () => list([detector({}, { series_active: 1000 })]),
      'GET /api/v1/detectors/det_a/series': ({ url }) => {
        const p = Number(url.searchParams.get('cursor') ?? 0);
        return { items: pages[p], next_cursor: p + 1 < pages.length ? String(p + 1) : '' };
      },
    });
    await user.click(await screen.findByRole('button', { name: /^Series:/ }));
    const options = await screen.findByRole('listbox', { name: 'Series', hidden: true });
    expect(within(options).getAllByRole('option', { hidden: true })).toHaveLength(100);
    expect(screen.getByText(/100 of 1,000 series shown; search to see others/)).toBeInTheDocument();
    fireEvent.change(screen.getByRole('textbox', { name: 'Search series', hidden: true }), { target: { value: 'pod-987' } });
    expect(await screen.findByText(/1 match in 1,000 of 1,000 series/)).toBeInTheDocument();
    expect(within(options).getByRole('option', { hidden: true })).toHaveAccessibleName('pod=pod-987');
    expect(server.asked.filter((o) => o.endsWith('/series'))).toHaveLength(5);
  });

  test('few series have a small chart each', async () => {
    const { user, search } = renderPage();
    const small = within(await screen.findByRole('list', { name: 'All series of this detector' }));
    expect(small.getByRole('button', { name: /api/ })).toHaveAttribute('aria-pressed', 'true');
    await user.click(small.getByRole('button', { name: /web/ }));
    await waitFor(() => expect(search()).toMatchObject({ series: '{job="web"}' }));
  });

  test('a detector without series says why', async () => {
    renderPage({ 'GET /api/v1/detectors/det_a/series': () => list([]) });
    expect(await screen.findByText('This detector has no series yet.')).toBeVisible();
  });
});

test('a range is chosen and stands in the address', async () => {
  const { user, search } = renderPage();
  await screen.findByRole('group', { name: /the last hour/ });
  await user.click(screen.getByRole('radio', { name: '6 h' }));
  expect(await screen.findByRole('group', { name: /the last 6 hours/ })).toBeInTheDocument();
  expect(search()).toMatchObject({ range: '6h' });
});

test('a range without samples says so', async () => {
  renderPage({ 'GET /api/v1/detectors/det_a/replay': () => replay([]) });
  expect(await screen.findByText('No samples in the last hour.')).toBeVisible();
});

test('a failure shows in place of the chart', async () => {
  renderPage({ 'GET /api/v1/detectors/det_a/replay': () => new Refused(503, 'PROMETHEUS_UNAVAILABLE', { title: 'The metrics source does not answer', retryable: true }) });
  const alert = await within(await chartPanel()).findByRole('alert');
  expect(alert).toHaveTextContent('Could not load the chart: The metrics source does not answer');
});

test('when the connection breaks, the chart stays and says how old it is', async () => {
  const { client, server } = renderPage();
  await screen.findByRole('group', { name: /^latency/ });
  for (const operation of Object.keys(server.handlers)) server.handlers[operation] = () => cut;
  await client.refetchQueries();
  const panel = within(await chartPanel());
  expect((await panel.findAllByText(/No answer from the server\. Shown as of \d\d:\d\d:\d\d/))[0]).toBeVisible();
  expect(panel.getByRole('group', { name: /^latency/ })).toBeVisible();
  expect(await screen.findByRole('button', { name: /State of the program: health unknown/ })).toBeVisible();
});

test('the last failure of the detector is shown above its chart', async () => {
  renderPage({ 'GET /api/v1/detectors': () => list([detector({}, { state: 'degraded', last_error: 'main answered late', open_anomalies: 1 })]), 'GET /api/v1/anomalies': () => list([anomaly()]) });
  expect(await within(await chartPanel()).findByText('The last evaluation failed: main answered late')).toBeVisible();
});
