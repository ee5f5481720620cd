import { localStorageColorSchemeManager, MantineProvider } from '@mantine/core';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { isRetryable, retryAfterOf } from '../shared/api/problem';
import { theme } from '../shared/ui/theme';
import type { makeRouter } from './router';

const schemeManager = localStorageColorSchemeManager({ key: 'aiops-theme' });

/** Makes the cache of answers. A failure that can pass is tried once more at once; polling goes on anyway. */
export function makeQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        retry: (failures, error) => failures < 1 && isRetryable(error),
        retryDelay: (_, error) => retryAfterOf(error) ?? 1000,
        networkMode: 'always',
      },
      mutations: { retry: false, networkMode: 'always' },
    },
  });
}

/** The whole page. Mantine's variables and classes are static CSS: the content security policy forbids style elements. */
export function App({ router, client }: { router: ReturnType<typeof makeRouter>; client: QueryClient }) {
  return (
    <MantineProvider theme={theme} defaultColorScheme="auto" colorSchemeManager={schemeManager} withCssVariables={false} withGlobalClasses={false}>
      <QueryClientProvider client={client}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>
  );
}
