import { useMutation, useQueryClient } from '@tanstack/react-query';
import { api, newKey, unwrap } from '../../shared/api/client';
import { isRetryable, retryAfterOf } from '../../shared/api/problem';
import { patternQuery } from '../../shared/api/queries';
import type { LogPattern, LogPatternEdit } from '../../shared/api/types';

/** A decision about a pattern on its way to the server. */
export interface Decision {
  pattern: LogPattern;
  edit: LogPatternEdit;
  /** Makes the server carry it out once, however often it is sent. */
  key: string;
}

/** Decides about a pattern as the person sees it now. */
export function decide(pattern: LogPattern, edit: LogPatternEdit): Decision {
  return { pattern, edit, key: newKey() };
}

/** Carries out decisions about a pattern; `onMoved` hears of an id that the pattern has from then on. */
export function useDecide(onMoved: (id: string) => void) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ pattern: p, edit, key }: Decision) =>
      unwrap(api.PATCH('/api/v1/logs/patterns/{id}', { params: { path: { id: p.id }, header: { 'If-Match': `"${p.version}"`, 'Idempotency-Key': key } }, body: edit })),
    retry: (failures, error) => failures < 2 && isRetryable(error),
    retryDelay: (failures, error) => retryAfterOf(error) ?? 500 * 2 ** failures,
    onSuccess: (saved, { pattern }) => {
      client.setQueryData(patternQuery(saved.id).queryKey, saved);
      if (saved.id !== pattern.id) onMoved(saved.id);
    },
    onSettled: (_saved, _error, { pattern }) => {
      void client.invalidateQueries({ queryKey: ['patterns'] });
      void client.invalidateQueries({ queryKey: ['pattern', pattern.id] });
    },
  });
}
