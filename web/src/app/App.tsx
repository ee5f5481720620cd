import { localStorageColorSchemeManager, MantineProvider } from '@mantine/core';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { useCallback, useEffect } from 'react';
import { isRetryable, retryAfterOf } from '../shared/api/problem';
import { setSignedOut, useSignedOut } from '../shared/api/signedOut';
import { followBrowser, type LiveClient } from '../shared/live/client';
import { connectCache } from '../shared/live/eventCache';
import { LiveContext } from '../shared/live/hooks';
import { theme } from '../shared/ui/theme';
import { Notices } from './Notices';
import type { makeRouter } from './router';
import { SignIn } from './SignIn';

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

interface AppProps {
  router: ReturnType<typeof makeRouter>;
  client: QueryClient;
  live: LiveClient;
}

/** The whole page. Mantine's variables and classes are static CSS: the content security policy forbids style elements. */
export function App({ router, client, live }: AppProps) {
  useEffect(() => followBrowser(live), [live]);
  useEffect(() => connectCache(client, live), [client, live]);
  useEffect(() => live.watch(() => live.connection().state === 'unauthorised' && setSignedOut(true)), [live]);
  const signedOut = useSignedOut();
  useEffect(() => {
    if (!signedOut) return;
    // What was shown is for the eyes of who was signed in.
    live.tell('stop');
    client.clear();
  }, [signedOut, live, client]);
  const signedIn = useCallback(() => {
    setSignedOut(false);
    live.signedIn();
  }, [live]);
  return (
    <MantineProvider theme={theme} defaultColorScheme="auto" colorSchemeManager={schemeManager} withCssVariables={false} withGlobalClasses={false}>
      <QueryClientProvider client={client}>
        <LiveContext value={live}>
          {signedOut ? <SignIn onSignedIn={signedIn} /> : <RouterProvider router={router} />}
          <Notices />
        </LiveContext>
      </QueryClientProvider>
    </MantineProvider>
  );
}
