import type { InfiniteData, QueryClient, QueryKey } from '@tanstack/react-query';
import type { Anomaly } from './types';

interface Page {
  items: Anomaly[];
  next_cursor?: string;
}

/** Everything that the cache held of anomalies before a change, to go back to. */
export type Before = [QueryKey, unknown][];

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

/** Changes an anomaly wherever it is cached, and returns what stood there before. */
export function patchAnomaly(client: QueryClient, id: string, change: (a: Anomaly) => Anomaly): Before {
  const before: Before = [...client.getQueriesData(lists), ...client.getQueriesData({ queryKey: ['anomaly', id] })];
  client.setQueriesData<InfiniteData<Page>>(lists, (data) =>
    data && { ...data, pages: data.pages.map((page) => ({ ...page, items: page.items.map((a) => (a.id === id ? change(a) : a)) })) },
  );
  client.setQueryData<Anomaly>(['anomaly', id], (a) => a && change(a));
  return before;
}

/** Puts back what stood in the cache before a change. */
export function restore(client: QueryClient, before: Before) {
  for (const [key, data] of before) client.setQueryData(key, data);
}
