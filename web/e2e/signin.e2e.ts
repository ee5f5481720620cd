import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { accessibilityFaults, refused, shoot, startBrowser, type Browser } from './browser';

// A program that asks who one is, and a key of an administrator:
// TestThePageAsksWhoOneIs of the Go tests.
const url = process.env.AIOPS_URL ?? '';
const key = process.env.AIOPS_KEY ?? '';

describe.skipIf(!key)('signing in', () => {
  let browser: Browser;

  beforeAll(async () => {
    browser = await startBrowser();
  });

  afterAll(async () => {
    await browser?.close();
  });

  test('a key opens the page, a revoked one closes it', async () => {
    const page = await browser.open('desktop', 'light');
    const long = { timeout: 60_000 };
    await page.goto(url);
    const field = page.getByLabel('API key');
    await field.waitFor(long);
    await shoot(page, 'sign-in');
    expect(await accessibilityFaults(page)).toEqual([]);
    await field.fill(`${key}x`);
    await page.keyboard.press('Enter');
    await page.getByText(/This key is not valid/).waitFor(long);
    await field.fill(key);
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Live stream: live. Show more.' }).waitFor(long);
    await page.getByRole('region', { name: 'Detectors' }).getByRole('link').first().waitFor(long);
    expect(await page.evaluate(() => document.cookie), 'the cookie is for scripts').toBe('');

    // Signing out ends it here, and signing in again brings it back.
    await page.getByRole('button', { name: 'Sign out' }).click();
    await field.waitFor(long);
    await field.fill(key);
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Live stream: live. Show more.' }).waitFor(long);

    // Whoever revokes the key ends the session of this page, too.
    const asAdmin = { Authorization: `Bearer ${key}` };
    const { items } = (await (await fetch(`${url}/api/v1/tokens`, { headers: asAdmin })).json()) as { items: { id: string; name: string }[] };
    const answer = await fetch(`${url}/api/v1/tokens/${items.find((k) => k.name === 'browser')!.id}`, { method: 'DELETE', headers: asAdmin });
    expect(answer.status).toBe(200);
    await field.waitFor({ timeout: 15_000 });
    expect(await refused(page)).toEqual([]);
    await page.close();
  }, 240_000);
});
