import { useMutation, useQuery, useQueryClient, type QueryClient } from '@tanstack/react-query';
import { newKey } from '../../shared/api/client';
import { isRetryable, retryAfterOf } from '../../shared/api/problem';
import { sessionQuery, shadowQuery } from '../../shared/api/queries';
import type { Detector, Task } from '../../shared/api/types';

/** Something a person asked the server to do. */
export interface Order {
  /** Sends it; the key makes the server carry it out once, however often it is sent. */
  send: (key: string) => Promise<unknown>;
  key: string;
}

/** Orders something anew. */
export function order(send: Order['send']): Order {
  return { send, key: newKey() };
}

/** Carries out orders about a detector; what they may have changed is asked for anew, whether they went through or not. */
export function useOrder(detectorId: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ send, key }: Order) => send(key),
    retry: (failures, error) => failures < 2 && isRetryable(error),
    retryDelay: (failures, error) => retryAfterOf(error) ?? 500 * 2 ** failures,
    onSettled: () => {
      for (const queryKey of [['detectors'], ['versions', detectorId], ['models', detectorId], ['shadow', detectorId], ['tasks'], ['known-events']]) void client.invalidateQueries({ queryKey });
    },
  });
}

/** The headers of a change: the key, and the version that the person saw. */
export function headerOf(key: string, version?: number) {
  return { 'Idempotency-Key': key, ...(version === undefined ? {} : { 'If-Match': `"${version}"` }) };
}

/** Tells whether this identity may use an operation; until it is known, that it may. */
export function useMay(): (operation: string) => boolean {
  const { data } = useQuery(sessionQuery());
  return (operation) => !data || data.operations.includes(operation);
}

/** Tells whether a detector has a shadow; it can have one only. */
export function useHasShadow(detectorId: string): boolean {
  return Boolean(useQuery(shadowQuery(detectorId)).data);
}

/** What stands in place of the button that begins a shadow while there is one. */
export const oneShadow = 'There is a shadow already: promote or discard it first.';

/** Puts a detector as the server sent it into the list. */
export function keepDetector(client: QueryClient, saved: Detector) {
  client.setQueryData<Detector[]>(['detectors'], (all) => all?.map((d) => (d.id === saved.id && saved.version >= d.version ? { ...d, ...saved, status: d.status } : d)));
}

const started = (detectorId: string) => ['started-tasks', detectorId];

/** Remembers a task that was asked for here: one of a definition that was not saved names no detector. */
export function rememberTask(client: QueryClient, detectorId: string, task: Task) {
  client.setQueryData<string[]>(started(detectorId), (ids) => [task.id, ...(ids ?? [])].slice(0, 20));
  client.setQueryData(['task', task.id], task);
}

/** The ids of the tasks that were asked for here. */
export function useStartedTasks(detectorId: string): readonly string[] {
  return useQuery({ queryKey: started(detectorId), queryFn: () => [] as string[], initialData: [] as string[], staleTime: Infinity, gcTime: Infinity }).data;
}
