import type { InfiniteData, QueryClient } from '@tanstack/react-query';
import type { Anomaly } from './types';

interface Page {
  items: Anomaly[];
  next_cursor?: string;
}

const lists = { queryKey: ['anomalies'] };

/** Finds an anomaly in the lists that are cached. */
export function findAnomaly(client: QueryClient, id: string): Anomaly | undefined {
  for (const [, data] of client.getQueriesData<InfiniteData<Page>>(lists)) {
    for (const page of data?.pages ?? []) {
      const found = page.items.find((a) => a.id === id);
      if (found) return found;
    }
  }
  return undefined;
}

/** Changes an anomaly wherever it is cached. */
export function patchAnomaly(client: QueryClient, id: string, change: (a: Anomaly) => Anomaly) {
  client.setQueriesData<InfiniteData<Page>>(lists, (data) =>
    data && { ...data, pages: data.pages.map((page) => ({ ...page, items: page.items.map((a) => (a.id === id ? change(a) : a)) })) },
  );
  client.setQueryData<Anomaly>(['anomaly', id], (a) => a && change(a));
}
