import { Button, Skeleton } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { isRetryable, localAction, problemOf } from '../api/problem';
import { errorCatalogueQuery } from '../api/queries';
import { formatAgo, formatClock } from '../format/time';
import { plainText } from '../format/text';
import { useNow } from '../live/clock';
import { isStale, knownAt } from '../live/freshness';
import type { Pace } from '../live/polling';
import { usePulse } from '../live/pulse';
import classes from './Async.module.css';
import { Icon } from './icons';

/** The parts of a query result that a view depends on. */
export interface ViewQuery<T> {
  data: T | undefined;
  error: unknown;
  isPending: boolean;
  isFetching: boolean;
  dataUpdatedAt: number;
  refetch: () => unknown;
}

interface AsyncProps<T> {
  query: ViewQuery<T>;
  /** How often the query asks again. */
  pace: Pace;
  /** What is being shown, for "Loading …" and "Could not load …". */
  what: string;
  /** How many rows the loading state draws. */
  rows?: number;
  isEmpty?: (data: T) => boolean;
  empty?: ReactNode;
  children: (data: T) => ReactNode;
}

/**
 * Shows the state that a query is in: loading, failed, empty, or its data, with
 * a note above when that data is too old to be taken for the present.
 */
export function Async<T>({ query, pace, what, rows = 4, isEmpty, empty, children }: AsyncProps<T>) {
  if (query.data !== undefined) {
    return (
      <>
        <StaleNote query={query} pace={pace} />
        {isEmpty?.(query.data) ? <div className={classes.empty}>{empty}</div> : children(query.data)}
      </>
    );
  }
  if (query.isPending && !query.error) return <Loading what={what} rows={rows} />;
  return <ProblemView error={query.error} what={what} onRetry={query.refetch} retrying={query.isFetching} />;
}

/** Grey rows in place of what is on its way. */
export function Loading({ what, rows = 4, height = 14 }: { what: string; rows?: number; height?: number }) {
  return (
    <div className={classes.loading} role="status" aria-label={`Loading ${what}`}>
      {Array.from({ length: rows }, (_, i) => (
        <Skeleton key={i} height={height} width={rows > 1 && i % 3 === 2 ? '60%' : '100%'} />
      ))}
    </div>
  );
}

/** Says that newer data does not come, and since when. */
export function StaleNote({ query, pace }: { query: Pick<ViewQuery<unknown>, 'data' | 'error' | 'dataUpdatedAt'>; pace: Pace }) {
  const now = useNow();
  const pulse = usePulse();
  const stale = isStale(query, pace, pulse, now);
  if (!stale && !query.error) return null;
  const why = query.error ? problemOf(query.error).title : 'No newer answer came';
  const asOf = knownAt(query, pace, { ...pulse, live: false }, now);
  return (
    <p className={classes.stale} role="status">
      <Icon name="alert" /> {why}. Shown as of {formatClock(asOf)} ({formatAgo(asOf, now)}).
    </p>
  );
}

interface ProblemViewProps {
  error: unknown;
  /** What could not be loaded; without it the failure is of a change. */
  what?: string;
  onRetry?: () => unknown;
  retrying?: boolean;
}

/** Shows a failure: what it is, why, and what to do next. */
export function ProblemView({ error, what, onRetry, retrying }: ProblemViewProps) {
  const problem = problemOf(error);
  const local = localAction[problem.code];
  const catalogue = useQuery({ ...errorCatalogueQuery(), enabled: local === undefined });
  const next = local ?? catalogue.data?.find((row) => row.code === problem.code)?.action;
  return (
    <div className={classes.problem} role="alert">
      <p className={classes.problemTitle}>
        <Icon name="alert" /> {what ? `Could not load ${what}` : 'Not saved'}: {plainText(problem.title)}
      </p>
      {problem.detail && <p>{plainText(problem.detail)}</p>}
      {problem.errors && problem.errors.length > 0 && (
        <ul className={classes.faults}>
          {problem.errors.map((fault, i) => (
            <li key={i}>
              <code>{plainText(fault.pointer)}</code> {plainText(fault.detail)}
            </li>
          ))}
        </ul>
      )}
      {next && <p>{next}</p>}
      <p className={classes.code}>
        {problem.code}
        {problem.request_id && ` · request ${plainText(problem.request_id)}`}
      </p>
      {onRetry && isRetryable(error) && (
        <Button onClick={() => onRetry()} loading={retrying}>
          Try again
        </Button>
      )}
    </div>
  );
}
