import { Skeleton, UnstyledButton } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Fragment, type ReactNode } from 'react';
import { totalsOf, type Totals } from '../features/detectors/select';
import { summarise } from '../features/sources/summary';
import { detectorsQuery, sourcesQuery } from '../shared/api/queries';
import { formatDuration } from '../shared/format/duration';
import { formatCount, formatValue, unknown } from '../shared/format/number';
import { counted, plainText } from '../shared/format/text';
import type { Tone } from '../shared/ui/Badge';
import classes from './Overview.module.css';

/** The numbers that tell at a glance whether all is well. */
export function Overview({ onShowAnomalies }: { onShowAnomalies: () => void }) {
  const detectors = useQuery(detectorsQuery());
  const sources = useQuery(sourcesQuery());
  const t = detectors.data && totalsOf(detectors.data);
  const s = sources.data && summarise(sources.data);
  const states = t && (['failed', 'degraded', 'learning', 'running', 'stopped'] as const).filter((state) => t.byState[state] > 0);

  return (
    <section aria-label="Overview">
      <dl className={classes.figures}>
        <Figure name="Detectors" figure={t && formatCount(t.detectors)} failed={detectors.isError}>
          {states?.map((state, i) => (
            <Fragment key={state}>
              {i > 0 && ', '}
              <span data-tone={state === 'failed' ? 'bad' : state === 'degraded' ? 'warning' : undefined}>
                {formatCount(t!.byState[state])} {state}
              </span>
            </Fragment>
          ))}
        </Figure>
        <Figure name="Series watched" figure={t && formatCount(t.series)} failed={detectors.isError}>
          {t && (t.learning > 0 ? `${formatCount(t.learning)} learning` : 'none learning')}
        </Figure>
        <Figure name="Open anomalies" onShow={t && t.openAnomalies > 0 ? onShowAnomalies : undefined} tone={t && t.openAnomalies > 0 ? 'bad' : undefined} figure={t && formatCount(t.openAnomalies)} failed={detectors.isError}>
          {t && (t.openAnomalies > 0 ? `in ${counted(t.alarmed, 'detector', 'detectors')}` : 'nothing stands out')}
        </Figure>
        <Figure
          name="Sources"
          tone={s && (s.lost.length > 0 ? 'bad' : s.degraded.length > 0 ? 'warning' : undefined)}
          figure={s && `${s.up} of ${s.total}`}
          failed={sources.isError}
        >
          {s && [s.lost.length > 0 && `${s.lost.length} without data`, s.degraded.length > 0 && `${s.degraded.length} degraded`].filter(Boolean).join(', ') || 'up'}
        </Figure>
        <Figure name="Furthest behind" figure={t && behind(t)} failed={detectors.isError}>
          {t?.slowest && (t.slowest.status.lag_seconds < 1 ? 'all are up to date' : <bdi>{plainText(t.slowest.name)}</bdi>)}
        </Figure>
        <Figure name="False-alarm budget" figure={t && formatValue(t.budget)} failed={detectors.isError}>
          a week, all detectors
        </Figure>
      </dl>
    </section>
  );
}

function behind({ slowest }: Totals): string {
  if (!slowest) return unknown;
  return slowest.status.lag_seconds < 1 ? 'none' : formatDuration(Math.floor(slowest.status.lag_seconds));
}

interface FigureProps {
  name: string;
  figure: string | undefined;
  tone?: Tone;
  /** Leads to what the number counts. */
  onShow?: () => void;
  /** The number could not be asked for. */
  failed: boolean;
  children: ReactNode;
}

function Figure({ name, figure, tone, onShow, failed, children }: FigureProps) {
  return (
    <div className={classes.figure} data-tone={tone}>
      <dt>{name}</dt>
      <dd className={classes.number}>
        {figure !== undefined && onShow ? (
          <UnstyledButton className={classes.show} onClick={onShow} aria-label={`${figure}, show them`}>
            {figure}
          </UnstyledButton>
        ) : (
          (figure ?? (failed ? unknown : <Skeleton height={22} width={56} />))
        )}
      </dd>
      <dd className={classes.detail}>{figure === undefined ? (failed ? 'no answer' : '') : children}</dd>
    </div>
  );
}
