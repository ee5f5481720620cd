import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type BrowserContext, type Page } from 'playwright-core';

const executables = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

const flags = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** The window sizes that the page must work at. */
export const sizes = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } } as const;

export interface Browser {
  /** Opens a new page in a window of this size and scheme. */
  open: (size: keyof typeof sizes, scheme: 'light' | 'dark') => Promise<Page>;
  close: () => Promise<void>;
}

/** Starts the system's Chromium with a profile of its own, which ends with it. */
export async function startBrowser(): Promise<Browser> {
  const executablePath = executables.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error('No Chromium was found; set CHROMIUM to its path.');
  const profile = mkdtempSync(join(tmpdir(), 'aiops-e2e-'));
  const context: BrowserContext = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args: flags });
  return {
    async open(size, scheme) {
      const page = await context.newPage();
      await page.setViewportSize(sizes[size]);
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      // Before any script of the page: what the policy refuses, and what fails unseen.
      await page.addInitScript(() => {
        const seen: string[] = [];
        Object.assign(globalThis, { refused: seen });
        document.addEventListener('securitypolicyviolation', (e) => seen.push(`${e.effectiveDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
      });
      return page;
    },
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

/** What the content security policy refused on a page so far. */
export function refused(page: Page): Promise<string[]> {
  return page.evaluate(() => (globalThis as unknown as { refused: string[] }).refused);
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Runs axe on the page and returns each violation with the elements it is about. */
export async function accessibilityFaults(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  return page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: typeof import('axe-core') };
    const { violations } = await axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] });
    return violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(' ')} ${n.failureSummary ?? ''}`));
  });
}

const shots = process.env.AIOPS_SHOTS ?? join(tmpdir(), 'aiops-shots');

/** Takes a picture of the window for people to look at, and returns where it is. */
export async function shoot(page: Page, name: string, fullPage = false): Promise<string> {
  mkdirSync(shots, { recursive: true });
  const path = join(shots, `${name}.png`);
  await page.screenshot({ path, fullPage });
  return path;
}
