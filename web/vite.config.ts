import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';
import { assemble } from './tools/assemble.mjs';

// The server that `npm run dev` takes its data from: a running aiops, or the mock.
const upstream = process.env.AIOPS_URL ?? 'http://127.0.0.1:8081';

export default defineConfig({
  plugins: [react(), assemble()],
  build: {
    target: ['chrome123', 'firefox121', 'safari17.5'],
    // The policy of the server allows no code and no images inside the document.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
    license: { fileName: 'licenses.md' },
    rolldownOptions: {
      output: {
        // Vendors change less often than the page: a browser keeps them over releases.
        codeSplitting: { groups: [{ name: 'react', test: /node_modules[\\/](react|react-dom|scheduler)[\\/]/ }, { name: 'vendor', test: /node_modules/ }] },
      },
    },
  },
  server: {
    host: '127.0.0.1',
    proxy: Object.fromEntries(['/api', '/health', '/swagger-ui'].map((path) => [path, upstream])),
  },
  test: {
    // Tests of functions need no document; those of components do.
    projects: [
      { extends: true, test: { name: 'functions', environment: 'node', include: ['src/**/*.test.ts'] } },
      { extends: true, test: { name: 'components', environment: 'jsdom', include: ['src/**/*.test.tsx'], setupFiles: ['src/testing/setup.ts'] } },
    ],
    testTimeout: 30_000,
    restoreMocks: true,
    unstubGlobals: true,
  },
});
