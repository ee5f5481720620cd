import { existsSync } from 'node:fs';
import { startMock } from '../mock/server.mjs';

/** The server under test. */
export interface Target {
  url: string;
  /** Whether it is the mock, whose data is known. */
  mocked: boolean;
  close: () => Promise<void>;
}

/** Returns the server that AIOPS_URL names, or starts a mock that serves the built page. */
export async function startTarget(): Promise<Target> {
  const given = process.env.AIOPS_URL;
  if (given) return { url: given.replace(/\/$/, ''), mocked: false, close: () => Promise.resolve() };
  if (!existsSync(new URL('../dist/index.html', import.meta.url))) throw new Error('There is no page to test; run npm run build first, or set AIOPS_URL.');
  const mock = await startMock();
  return { ...mock, mocked: true };
}
