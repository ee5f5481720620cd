import { infiniteQueryOptions, keepPreviousData, queryOptions } from '@tanstack/react-query';
import { withNewerAnomalies, withNewerAnomaly, type AnomalyScope } from '../live/eventCache';
import { chartPace, pace, polling, type Pace } from '../live/polling';
import { api, unwrap } from './client';
import { keepNewer, mergeReplay, resumeFrom, splitRange, type HeldReplay } from './replay';
import { ApiError } from './problem';
import type { Detector, KnownEvent, LogPattern, Replay, Shadow, Task } from './types';

const pageSize = 200;
const maxPages = 20;

/** Every detector, page by page, at most 4,000 of them. */
export const detectorsQuery = () =>
  queryOptions({
    queryKey: ['detectors'],
    queryFn: async ({ signal }): Promise<Detector[]> => {
      const all: Detector[] = [];
      let cursor: string | undefined;
      for (let page = 0; page < maxPages; page++) {
        const list = await unwrap(api.GET('/api/v1/detectors', { params: { query: { limit: pageSize, cursor } }, signal }));
        all.push(...list.items);
        cursor = list.next_cursor || undefined;
        if (!cursor) break;
      }
      return all;
    },
    refetchInterval: polling(pace.detectors),
  });

/** The series of a detector, a page at a time, in the order of their keys. */
export const seriesQuery = (detectorId: string) =>
  infiniteQueryOptions({
    queryKey: ['series', detectorId],
    queryFn: ({ pageParam, signal }) =>
      unwrap(api.GET('/api/v1/detectors/{id}/series', { params: { path: { id: detectorId }, query: { limit: pageSize, cursor: pageParam } }, signal })),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next_cursor || undefined,
    // A list that someone paged through stays as it is: asking for every page again each time costs too much.
    refetchInterval: (query) => ((query.state.data?.pages.length ?? 0) > 1 ? false : polling(pace.series)(query)),
  });

/** The versions of a detector's definition, newest first. */
export const versionsQuery = (detectorId: string) =>
  queryOptions({
    queryKey: ['versions', detectorId],
    queryFn: async ({ signal }) => (await unwrap(api.GET('/api/v1/detectors/{id}/versions', { params: { path: { id: detectorId } }, signal }))).items,
    refetchInterval: polling(pace.lives),
  });

/** The versions of a detector's models, newest first. */
export const modelsQuery = (detectorId: string) =>
  queryOptions({
    queryKey: ['models', detectorId],
    queryFn: async ({ signal }) => (await unwrap(api.GET('/api/v1/detectors/{id}/models', { params: { path: { id: detectorId } }, signal }))).items,
    refetchInterval: polling(pace.lives),
  });

/** The definition that scores beside the live one and how they compare, or null while there is none. */
export const shadowQuery = (detectorId: string) =>
  queryOptions({
    queryKey: ['shadow', detectorId],
    queryFn: async ({ signal }): Promise<Shadow | null> => {
      try {
        return await unwrap(api.GET('/api/v1/detectors/{id}/shadow', { params: { path: { id: detectorId } }, signal }));
      } catch (error) {
        if (error instanceof ApiError && error.problem.code === 'NOT_FOUND') return null;
        throw error;
      }
    },
    refetchInterval: polling(pace.shadow),
  });

/** How far back known events are listed that are over, in milliseconds. */
const knownPast = 30 * 86_400_000;
const knownPages = 5;

/** Known events that count for a detector: those to come, those that run, and those that ended within 30 days; the latest begin first, at most 1,000. */
export const knownEventsQuery = (detectorId: string) =>
  queryOptions({
    queryKey: ['known-events', detectorId],
    queryFn: async ({ signal }): Promise<KnownEvent[]> => {
      const all: KnownEvent[] = [];
      const from = new Date(Date.now() - knownPast).toISOString();
      let cursor: string | undefined;
      for (let page = 0; page < knownPages; page++) {
        const list = await unwrap(api.GET('/api/v1/known-events', { params: { query: { detector: detectorId, from, limit: pageSize, cursor } }, signal }));
        all.push(...list.items);
        cursor = list.next_cursor || undefined;
        if (!cursor) break;
      }
      return all;
    },
    refetchInterval: polling(pace.lives),
  });

/** The newest tasks of a detector; those that run are asked for by themselves. */
export const tasksQuery = (id: string) =>
  queryOptions({
    queryKey: ['tasks', id],
    queryFn: async ({ signal }): Promise<Task[]> => (await unwrap(api.GET('/api/v1/tasks', { params: { query: { detector_id: id, limit: 20 } }, signal }))).items,
    refetchInterval: polling(pace.tasks),
  });

/** One task, asked for until it is over. */
export const taskQuery = (id: string) =>
  queryOptions({
    queryKey: ['task', id],
    queryFn: async ({ signal }): Promise<Task> => unwrap(api.GET('/api/v1/tasks/{id}', { params: { path: { id } }, signal })),
    refetchInterval: (query) => (query.state.data && isOver(query.state.data) ? false : polling(pace.task)(query)),
  });

/** Tells whether nothing of a task is still to come. */
export function isOver(task: Pick<Task, 'state'>): boolean {
  return task.state !== 'queued' && task.state !== 'running';
}

/** What a chart shows: one series of a detector over the last `seconds`. */
export interface LiveWindow {
  detectorId: string;
  series: string;
  stepSeconds: number;
  seconds: number;
}

/**
 * The last minutes or hours of a series. The first request brings all of them;
 * each later one brings only what is new and keeps the rest, unless known events
 * of the range changed.
 */
export const liveReplayQuery = (w: LiveWindow, at: Pace = chartPace(w.stepSeconds)) =>
  queryOptions({
    queryKey: ['replay', 'live', w.detectorId, w.series, w.seconds],
    queryFn: async ({ client, queryKey, signal }): Promise<HeldReplay> => {
      const to = Date.now();
      const from = to - w.seconds * 1000;
      const held = client.getQueryData<HeldReplay>(queryKey);
      let replay: Replay | undefined = held?.outdated === undefined ? held : undefined;
      for (const part of splitRange(resumeFrom(replay, w.stepSeconds, from), to, w.stepSeconds)) {
        replay = mergeReplay(replay, await fetchReplay(w.detectorId, w.series, part, signal), from);
      }
      // Points that came by themselves meanwhile stand behind what was asked for.
      return keepNewer(replay!, client.getQueryData<HeldReplay>(queryKey), to);
    },
    refetchInterval: polling(at),
    // Comparing thousands of points to keep their identity costs more than drawing them.
    structuralSharing: false,
    gcTime: 60_000,
  });

/** The past of a series between two times, in milliseconds. */
export const pastReplayQuery = (detectorId: string, series: string, from: number, to: number) =>
  queryOptions({
    queryKey: ['replay', 'past', detectorId, series, from, to],
    queryFn: ({ signal }) => fetchReplay(detectorId, series, [from, to], signal),
    structuralSharing: false,
    staleTime: 60_000,
  });

function fetchReplay(id: string, series: string, [from, to]: [number, number], signal: AbortSignal): Promise<Replay> {
  const query = { series, from: new Date(from).toISOString(), to: new Date(to).toISOString() };
  return unwrap(api.GET('/api/v1/detectors/{id}/replay', { params: { path: { id }, query }, signal }));
}

/** Anomalies, newest first, a page at a time. */
export const anomaliesQuery = (scope: AnomalyScope) =>
  infiniteQueryOptions({
    queryKey: ['anomalies', scope],
    queryFn: async ({ client, pageParam, signal }) => {
      const askedAt = Date.now();
      const page = await unwrap(
        api.GET('/api/v1/anomalies', {
          params: {
            query: {
              limit: 50,
              cursor: pageParam,
              sort: '-started_at',
              detector_id: scope.detectorId,
              state: scope.open ? ['firing'] : ['firing', 'resolved'],
            },
          },
          signal,
        }),
      );
      return withNewerAnomalies(client, page, scope, pageParam === undefined, askedAt);
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next_cursor || undefined,
    refetchInterval: polling(pace.anomalies),
  });

/** One anomaly. */
export const anomalyQuery = (id: string) =>
  queryOptions({
    queryKey: ['anomaly', id],
    queryFn: async ({ client, signal }) => withNewerAnomaly(client, await unwrap(api.GET('/api/v1/anomalies/{id}', { params: { path: { id } }, signal }))),
    refetchInterval: polling(pace.anomalies),
  });

/** Why an anomaly is one. */
export const explainQuery = (id: string) =>
  queryOptions({
    queryKey: ['explain', id],
    queryFn: ({ signal }) => unwrap(api.GET('/api/v1/anomalies/{id}/explain', { params: { path: { id } }, signal })),
    staleTime: 30_000,
  });

/** Which log patterns are listed, and in which order. */
export interface PatternScope {
  text: string;
  level: LogPattern['level'] | undefined;
  sort: '-count' | '-first_seen' | '-last_seen';
}

/** The patterns of log lines, a page at a time. */
export const patternsQuery = (scope: PatternScope) =>
  infiniteQueryOptions({
    queryKey: ['patterns', scope],
    queryFn: ({ pageParam, signal }) =>
      unwrap(
        api.GET('/api/v1/logs/patterns', {
          params: { query: { limit: 100, cursor: pageParam, sort: scope.sort, q: scope.text || undefined, level: scope.level || undefined } },
          signal,
        }),
      ),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next_cursor || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: (query) => ((query.state.data?.pages.length ?? 0) > 1 ? false : polling(pace.logs)(query)),
  });

/** One pattern of log lines. */
export const patternQuery = (id: string) =>
  queryOptions({
    queryKey: ['pattern', id],
    queryFn: ({ signal }) => unwrap(api.GET('/api/v1/logs/patterns/{id}', { params: { path: { id } }, signal })),
    refetchInterval: polling(pace.logs),
  });

/** Which log lines are listed: the newest ones, or those from a time on. */
export interface LineScope {
  source: string;
  selector: string;
  contains: string;
  level: LogPattern['level'] | undefined;
  /** Id of their pattern; "" for every one. */
  pattern: string;
  /** Begin in milliseconds, oldest lines first; without it the newest come first. */
  at: number | undefined;
  /** Length of the range. */
  seconds: number;
}

/** Log lines, a page at a time. The range stays what it was for the first page. */
export const linesQuery = (scope: LineScope) =>
  infiniteQueryOptions({
    queryKey: ['lines', scope],
    queryFn: async ({ pageParam, signal }) => {
      const from = pageParam?.from ?? scope.at ?? Date.now() - scope.seconds * 1000;
      const to = pageParam?.to ?? from + scope.seconds * 1000;
      const query = {
        limit: 100,
        cursor: pageParam?.cursor,
        source: scope.source,
        selector: scope.selector || undefined,
        contains: scope.contains || undefined,
        level: scope.level || undefined,
        template: scope.pattern || undefined,
        from: new Date(from).toISOString(),
        to: new Date(to).toISOString(),
        order: scope.at === undefined ? ('newest' as const) : ('oldest' as const),
      };
      const { items, next_cursor: cursor } = await unwrap(api.GET('/api/v1/logs/lines', { params: { query }, signal }));
      return { items, next: cursor ? { cursor, from, to } : undefined };
    },
    initialPageParam: undefined as { cursor: string; from: number; to: number } | undefined,
    getNextPageParam: (last) => last.next,
    placeholderData: keepPreviousData,
    refetchInterval: (query) => ((query.state.data?.pages.length ?? 0) > 1 ? false : polling(scope.at === undefined ? pace.logs : pace.never)(query)),
  });

/** Every source with its health. */
export const sourcesQuery = () =>
  queryOptions({
    queryKey: ['sources'],
    queryFn: async ({ signal }) => (await unwrap(api.GET('/api/v1/sources', { signal }))).items,
    refetchInterval: polling(pace.sources),
  });

/** The health of one source in detail, as each node sees it where there are several. */
export const sourceHealthQuery = (id: string) =>
  queryOptions({
    queryKey: ['source-health', id],
    queryFn: ({ signal }) => unwrap(api.GET('/api/v1/sources/{id}/health', { params: { path: { id } }, signal })),
    refetchInterval: polling(pace.sources),
  });

/** Who asks, and what that identity may do. */
export const sessionQuery = () =>
  queryOptions({
    queryKey: ['session'],
    queryFn: ({ signal }) => unwrap(api.GET('/api/v1/session', { signal })),
    staleTime: 300_000,
  });

/** The health of the program's parts. */
export const healthQuery = () =>
  queryOptions({
    queryKey: ['health'],
    queryFn: ({ signal }) => unwrap(api.GET('/health', { signal })),
    refetchInterval: polling(pace.health),
  });

/** Which program answers: version and build. */
export const deploymentQuery = () =>
  queryOptions({
    queryKey: ['deployment'],
    queryFn: ({ signal }) => unwrap(api.GET('/api/deployment', { signal })),
    staleTime: 60_000,
    refetchInterval: 60_000,
  });

/** What every error code means and what to do about it. */
export const errorCatalogueQuery = () =>
  queryOptions({
    queryKey: ['errors'],
    queryFn: async ({ signal }) => (await unwrap(api.GET('/api/v1/errors', { signal }))).items,
    staleTime: Infinity,
  });
