import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

// AIOPS_URL names the server under test; without it a mock is started that
// serves the built page with the server's own content security policy.
export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    include: ['e2e/**/*.e2e.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false,
  },
});
