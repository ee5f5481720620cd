import { createRootRoute, createRoute, createRouter, Outlet, type RouterHistory } from '@tanstack/react-router';
import { Go } from '../shared/ui/Go';
import { parseSearch, readSearch, stringifySearch } from '../shared/ui/search';
import { Page } from './Page';
import classes from './router.module.css';

const rootRoute = createRootRoute({
  component: Outlet,
  notFoundComponent: () => (
    <main className={classes.nowhere}>
      <h1>There is no page at this address</h1>
      <p>
        <Go change={{}}>Go to the overview</Go>
      </p>
    </main>
  ),
  errorComponent: ({ error }) => (
    <main className={classes.nowhere} role="alert">
      <h1>This page failed</h1>
      <p>{error instanceof Error ? error.message : 'No reason is known.'}</p>
      <p>
        <a href="/">Load it again</a>
      </p>
    </main>
  ),
});

const pageRoute = createRoute({ getParentRoute: () => rootRoute, path: '/', validateSearch: readSearch, component: Page });

/** Makes the router. Its search parameters are plain texts, so that links stay readable. Without a history it is the browser's. */
export function makeRouter(history?: RouterHistory) {
  return createRouter({ history, routeTree: rootRoute.addChildren([pageRoute]), parseSearch, stringifySearch, scrollRestoration: false });
}

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof makeRouter>;
  }
}
