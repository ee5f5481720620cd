import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { accessibilityFaults, refused, shoot, startBrowser, type Browser } from './browser';

// The program under test, and who controls its metrics, network and life:
// TestThePageIsLive of the Go tests.
const url = process.env.AIOPS_URL ?? '';
const control = process.env.AIOPS_CONTROL ?? '';

const order = async (what: string) => {
  const answer = await fetch(`${control}/${what}`, { method: 'POST' });
  if (!answer.ok) throw new Error(`${what}: ${answer.status}`);
};

interface Anomaly {
  id: string;
  state: string;
  detector_name: string;
}

/** The newest anomalies in some states, as the program has them. */
async function anomalies(...states: string[]): Promise<Anomaly[]> {
  const query = new URLSearchParams([['limit', '50'], ['sort', '-started_at'], ...states.map((s): [string, string] => ['state', s])]);
  return ((await (await fetch(`${url}/api/v1/anomalies?${query}`)).json()) as { items: Anomaly[] }).items;
}


const step = 1000;
const patience = { timeout: 90_000, interval: 100 };

describe.skipIf(!control)('a live page', () => {
  let browser: Browser;
  let opened: Page[] = [];

  /** Opens the page, notes every event that its sockets bring, and waits until it is live. */
  async function openPage(query = ''): Promise<{ page: Page; events: { id: number; type: string; topic: string; time: string }[]; sockets: number[] }> {
    const page = await browser.open('desktop', 'light');
    opened.push(page);
    const events: { id: number; type: string; topic: string; time: string }[] = [];
    const sockets: number[] = [];
    page.on('websocket', (socket) => {
      sockets.push(Date.now());
      socket.on('framereceived', ({ payload }) => {
        const message = JSON.parse(String(payload)) as { events?: typeof events };
        events.push(...(message.events ?? []));
      });
    });
    await page.goto(`${url}/${query}`, { waitUntil: 'commit', timeout: 90_000 });
    await isLive(page);
    return { page, events, sockets };
  }

  const badge = (page: Page) => page.getByRole('button', { name: /^Live stream/ });
  const isLive = (page: Page) => page.getByRole('button', { name: 'Live stream: live. Show more.' }).waitFor({ timeout: 90_000 });
  const rows = (page: Page) => page.getByRole('region', { name: 'Anomalies' }).getByRole('link', { name: /queue/ });

  /** Waits until no anomaly is open. */
  async function calm() {
    await order('fault/off');
    await expect.poll(async () => (await anomalies('firing')).length, patience).toBe(0);
  }

  beforeAll(async () => {
    browser = await startBrowser();
    const learned = async () => {
      const { items } = (await (await fetch(`${url}/api/v1/detectors`)).json()) as { items: { status: { state: string; series_learning: number; series_active: number } }[] };
      return items.map((d) => `${d.status.state} ${d.status.series_learning} of ${d.status.series_active}`);
    };
    await vi.waitFor(async () => expect(await learned()).toEqual(['running 0 of 1']), { timeout: 180_000, interval: 1000 });
  }, 200_000);

  afterEach(async () => {
    for (const page of opened) await page.close();
    opened = [];
  });

  afterAll(async () => {
    await browser?.close();
  });

  test('a fault appears within one step and 250 ms', async () => {
    await calm();
    const { page, events } = await openPage();
    await page.getByText('No open anomalies.').waitFor();
    const delays: number[] = [];
    for (let round = 0; round < 3; round++) {
      await page.evaluate(() => {
        const list = [...document.querySelectorAll('section')].find((s) => s.querySelector('h2')?.textContent === 'Anomalies')!;
        const seen = new MutationObserver(() => {
          if (list.querySelector('li a') && !('seenAt' in globalThis)) Object.assign(globalThis, { seenAt: Date.now() });
        });
        delete (globalThis as { seenAt?: number }).seenAt;
        seen.observe(list, { subtree: true, childList: true });
      });
      const before = events.length;
      const faultAt = Date.now();
      await order('fault/on');
      await page.waitForFunction(() => 'seenAt' in globalThis, undefined, { timeout: 60_000, polling: 50 });
      const seenAt = await page.evaluate(() => (globalThis as unknown as { seenAt: number }).seenAt);
      const event = events.slice(before).find((e) => e.type === 'anomaly.opened')!;
      delays.push(seenAt - Date.parse(event.time));
      console.log(`from the commit to the page ${seenAt - Date.parse(event.time)} ms, from the fault ${seenAt - faultAt} ms`);
      await calm();
      await page.getByText('No open anomalies.').waitFor({ timeout: 90_000 });
    }
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...delays)).toBeLessThanOrEqual(step + 250);
    expect(await refused(page)).toEqual([]);
  }, 300_000);

  test.each(['network/cut', 'network/freeze', 'offline'])('what happened meanwhile is there after %s', async (how) => {
    await calm();
    const { page, events } = await openPage('?show=all');
    const first = events.length;
    const known = (await anomalies('firing', 'resolved')).map((a) => a.id);
    if (how === 'offline') await page.context().setOffline(true);
    else await order(how);
    await expect.poll(() => badge(page).getAttribute('aria-label'), patience).toMatch(/reconnecting|offline/);
    await shoot(page, `cut-${how.replace('/', '-')}`);
    if (how === 'network/cut') expect(await accessibilityFaults(page)).toEqual([]);
    // The program is healthy all the time; only this page does not hear of it.
    await order('fault/on');
    await new Promise((resolve) => setTimeout(resolve, 6 * step));
    await order('fault/off');
    await new Promise((resolve) => setTimeout(resolve, 8 * step));
    if (how === 'offline') await page.context().setOffline(false);
    else await order('network/heal');
    await isLive(page);
    const now = (await anomalies('firing', 'resolved')).map((a) => a.id);
    expect(now.length).toBeGreaterThan(known.length);
    // Every row once, and the same as the program says.
    const shown = () => rows(page).evaluateAll((links) => links.map((a) => new URL((a as HTMLAnchorElement).href).searchParams.get('anomaly')));
    await expect.poll(shown, patience).toEqual(now);
    const after = () => events.slice(first).map((e) => e.type);
    await expect.poll(after, patience).toEqual(expect.arrayContaining(['anomaly.opened', 'anomaly.resolved']));
    // On the wire an event may come again after a break; what is shown has to count it once.
    await expect.poll(() => page.getByRole('region', { name: 'Overview' }).getByText('nothing stands out').count(), patience).toBe(1);
  }, 300_000);

  test('pages find back after the program was killed, not all at once', async () => {
    await calm();
    const pages: Awaited<ReturnType<typeof openPage>>[] = [];
    for (let i = 0; i < 6; i++) pages.push(await openPage());
    await order('program/kill');
    await expect.poll(() => badge(pages[0]!.page).getAttribute('aria-label'), patience).toMatch(/reconnecting/);
    const firstTries = () => pages.map((p) => p.sockets[1] ?? 0);
    await expect.poll(() => Math.min(...firstTries()), patience).toBeGreaterThan(0);
    await order('program/start');
    for (const { page } of pages) await isLive(page);
    const tries = firstTries();
    console.log(`six pages tried again over ${Math.max(...tries) - Math.min(...tries)} ms, with ${pages.map((p) => p.sockets.length - 1).join(', ')} tries`);
    expect(Math.max(...tries) - Math.min(...tries)).toBeGreaterThan(50);
  }, 300_000);
});
