import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { accessibilityFaults, refused, shoot, sizes, startBrowser, type Browser } from './browser';
import { startTarget, type Target } from './target';

let target: Target;
let browser: Browser;

beforeAll(async () => {
  target = await startTarget();
  browser = await startBrowser();
});

afterAll(async () => {
  await browser?.close();
  await target?.close();
});

const chart = '[aria-roledescription="chart"]';

async function openPage(size: keyof typeof sizes, scheme: 'light' | 'dark', query = ''): Promise<Page> {
  const page = await browser.open(size, scheme);
  await page.goto(`${target.url}/${query}`);
  await page.getByRole('region', { name: 'Overview' }).waitFor();
  await page.getByRole('region', { name: 'Detectors' }).getByRole('link').first().waitFor();
  return page;
}

describe.each(['light', 'dark'] as const)('in the %s scheme', (scheme) => {
  test.each(['desktop', 'phone'] as const)('on a %s everything is shown, accessible and within the policy', async (size) => {
    const page = await openPage(size, scheme);
    await page.locator(`${chart} canvas`).first().waitFor();
    await shoot(page, `page-${size}-${scheme}`);
    await shoot(page, `page-${size}-${scheme}-whole`, true);
    expect(await accessibilityFaults(page)).toEqual([]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 'the page is wider than its window').toBeLessThanOrEqual(0);
    expect(await refused(page)).toEqual([]);
    await page.close();
  });

  test.each(['desktop', 'phone'] as const)('on a %s the details of an anomaly are shown', async (size) => {
    const page = await openPage(size, scheme, '?show=all');
    await page.getByRole('region', { name: 'Anomalies' }).getByRole('link').first().click();
    const drawer = page.getByRole('dialog');
    await drawer.getByRole('heading', { name: 'Evidence' }).waitFor();
    await shoot(page, `anomaly-${size}-${scheme}`);
    expect(await accessibilityFaults(page)).toEqual([]);
    expect(await refused(page)).toEqual([]);
    await page.close();
  });
});
