import { useMutation, useQueryClient } from '@tanstack/react-query';
import { patchAnomaly, restore } from '../../shared/api/anomalyCache';
import { api, unwrap } from '../../shared/api/client';
import type { Anomaly } from '../../shared/api/types';

/** What a person can do to an anomaly. */
export type AnomalyChange = { kind: 'acknowledge' } | { kind: 'label'; label: boolean | null };

function send(anomaly: Anomaly, change: AnomalyChange): Promise<Anomaly> {
  // Without the version a change that someone made meanwhile would be overwritten unseen.
  const params = { path: { id: anomaly.id }, header: { 'If-Match': `"${anomaly.version}"` } };
  switch (change.kind) {
    case 'acknowledge':
      return unwrap(api.POST('/api/v1/anomalies/{id}/acknowledge', { params }));
    case 'label':
      return unwrap(api.POST('/api/v1/anomalies/{id}/label', { params, body: { label: change.label } }));
  }
}

/** How an anomaly looks once a change went through. */
export function applied(anomaly: Anomaly, change: AnomalyChange, now: number): Anomaly {
  switch (change.kind) {
    case 'acknowledge':
      return { ...anomaly, acknowledged_by: anomaly.acknowledged_by || 'you', acknowledged_at: anomaly.acknowledged_at ?? new Date(now).toISOString() };
    case 'label':
      return { ...anomaly, label: change.label };
  }
}

/**
 * Changes an anomaly. The page shows the change at once; when the server
 * refuses, it shows again what was there before, and `error` says why.
 */
export function useChangeAnomaly() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ anomaly, change }: { anomaly: Anomaly; change: AnomalyChange }) => send(anomaly, change),
    onMutate: async ({ anomaly, change }) => {
      // An answer that is under way does not know of the change yet and would undo it.
      await Promise.all([client.cancelQueries({ queryKey: ['anomalies'] }), client.cancelQueries({ queryKey: ['anomaly', anomaly.id] })]);
      return patchAnomaly(client, anomaly.id, (a) => applied(a, change, Date.now()));
    },
    onError: (_error, _variables, before) => {
      if (before) restore(client, before);
    },
    onSuccess: (saved) => {
      patchAnomaly(client, saved.id, () => saved);
    },
    onSettled: (_data, _error, { anomaly }) =>
      Promise.all([client.invalidateQueries({ queryKey: ['anomalies'] }), client.invalidateQueries({ queryKey: ['anomaly', anomaly.id] })]),
  });
}
