import { useMutation, useMutationState, useQueryClient } from '@tanstack/react-query';
import { useEffect, useRef } from 'react';
import { patchAnomaly } from '../../shared/api/anomalyCache';
import { api, newKey, unwrap } from '../../shared/api/client';
import { isRetryable, problemOf, retryAfterOf } from '../../shared/api/problem';
import type { Anomaly } from '../../shared/api/types';
import { plainText } from '../../shared/format/text';
import { notify } from '../../shared/ui/notices';

/** What a person can do to an anomaly. */
export type AnomalyChange = { kind: 'acknowledge' } | { kind: 'resolve' } | { kind: 'label'; label: boolean | null };

/** A change on its way to the server. */
export interface ChangeOrder {
  anomaly: Anomaly;
  change: AnomalyChange;
  /** Makes the server carry it out once, however often it is sent. */
  key: string;
}

/** Orders a change of an anomaly as the person sees it now. */
export function orderOf(anomaly: Anomaly, change: AnomalyChange): ChangeOrder {
  return { anomaly, change, key: newKey() };
}

function send({ anomaly, change, key }: ChangeOrder): Promise<Anomaly> {
  // Without the version a change that someone made meanwhile would be overwritten unseen.
  const params = { path: { id: anomaly.id }, header: { 'If-Match': `"${anomaly.version}"`, 'Idempotency-Key': key } };
  switch (change.kind) {
    case 'acknowledge':
      return unwrap(api.POST('/api/v1/anomalies/{id}/acknowledge', { params }));
    case 'resolve':
      return unwrap(api.POST('/api/v1/anomalies/{id}/resolve', { params }));
    case 'label':
      return unwrap(api.POST('/api/v1/anomalies/{id}/label', { params, body: { label: change.label } }));
  }
}

const mostAgain = 3;

/**
 * Sends a change. A version that grew only because the episode went on is no
 * reason to refuse it: then it is sent again for the new version, as long as
 * nobody said anything of the anomaly meanwhile.
 */
async function sendAgain(order: ChangeOrder): Promise<Anomaly> {
  for (let tries = 0; ; tries++) {
    try {
      return await send(order);
    } catch (error) {
      if (problemOf(error).code !== 'PRECONDITION_FAILED' || tries >= mostAgain) throw error;
      const now = await unwrap(api.GET('/api/v1/anomalies/{id}', { params: { path: { id: order.anomaly.id } } }));
      if (now.version === order.anomaly.version || !sameJudgement(now, order.anomaly)) throw error;
      order = orderOf(now, order.change);
    }
  }
}

/** Tells whether people say the same of both. */
function sameJudgement(a: Anomaly, b: Anomaly): boolean {
  return (a.label ?? null) === (b.label ?? null) && (a.acknowledged_at ?? '') === (b.acknowledged_at ?? '') && (a.state === 'resolved') === (b.state === 'resolved');
}

/** How an anomaly looks once a change went through. */
export function applied(anomaly: Anomaly, change: AnomalyChange, now: number): Anomaly {
  const at = new Date(now).toISOString();
  switch (change.kind) {
    case 'acknowledge':
      return { ...anomaly, acknowledged_by: anomaly.acknowledged_by || 'you', acknowledged_at: anomaly.acknowledged_at ?? at };
    case 'resolve':
      return { ...anomaly, state: 'resolved', resolved_at: anomaly.resolved_at ?? at, resolved_by: anomaly.resolved_by || 'you' };
    case 'label':
      return { ...anomaly, label: change.label };
  }
}

const mutationKey = ['change-anomaly'];

/**
 * Returns a function that shows an anomaly as it will be once the changes that
 * are on their way have gone through. The cache holds only what the server
 * said, so a change that is refused is gone by itself.
 */
export function usePendingChanges(): (a: Anomaly) => Anomaly {
  const pending = useMutationState({
    filters: { mutationKey, status: 'pending' },
    select: (m) => ({ order: m.state.variables as ChangeOrder, at: m.state.submittedAt }),
  });
  return (a) => pending.filter((p) => p.order.anomaly.id === a.id).reduce((shown, p) => applied(shown, p.order.change, p.at), a);
}

const deed: Record<AnomalyChange['kind'], string> = { acknowledge: 'acknowledging', resolve: 'ending', label: 'labelling' };

/**
 * Changes an anomaly. Views that use `usePendingChanges` show it at once; when
 * the server refuses, they show again what was there before, and `error` says
 * why. When whoever ordered it is not shown any more, a notice says it.
 */
export function useChangeAnomaly() {
  const client = useQueryClient();
  const shown = useRef(false);
  useEffect(() => {
    shown.current = true;
    return () => {
      shown.current = false;
    };
  }, []);
  return useMutation({
    mutationKey,
    mutationFn: sendAgain,
    retry: (failures, error) => failures < 2 && isRetryable(error),
    retryDelay: (failures, error) => retryAfterOf(error) ?? 500 * 2 ** failures,
    onSuccess: (saved) => {
      patchAnomaly(client, saved.id, (a) => (saved.version >= a.version ? saved : a));
    },
    onError: (error, { anomaly, change }) => {
      const problem = problemOf(error);
      if (!shown.current) notify(`Taken back: ${deed[change.kind]} the anomaly of ${plainText(anomaly.detector_name)} was not saved. ${plainText(problem.detail || problem.title)}`);
      // What stands there now is not what the person thought it was.
      void client.invalidateQueries({ queryKey: ['anomalies'] });
      void client.invalidateQueries({ queryKey: ['anomaly', anomaly.id] });
    },
  });
}
