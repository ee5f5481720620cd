import { VisuallyHidden } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { liveReplayQuery } from '../../shared/api/queries';
import type { Detector, SeriesStatus } from '../../shared/api/types';
import { parseGoDuration } from '../../shared/format/duration';
import { formatValue } from '../../shared/format/number';
import { distinguishing, shortTitle } from '../../shared/format/series';
import type { Unit } from '../../shared/format/unit';
import { chartPace } from '../../shared/live/polling';
import { ranges, type RangeName } from '../../shared/ui/ranges';
import { lastRow, toColumns } from './columns';
import { knownSpans } from './known';
import { anomalyRegions } from './regions';
import classes from './SmallCharts.module.css';
import { TimeChart } from './TimeChart';
import { useLivePoints } from './useLivePoints';

interface SmallChartsProps {
  detector: Detector;
  series: readonly SeriesStatus[];
  chosen: string | undefined;
  range: RangeName;
  unit: Unit;
  onChoose: (key: string) => void;
}

/** A small chart of each series of a detector that has few; one click makes it the large one. */
export function SmallCharts({ detector, series, chosen, range, unit, onChoose }: SmallChartsProps) {
  const { differing } = distinguishing(series.map((s) => s.series.labels));
  return (
    <ul className={classes.grid} aria-label="All series of this detector">
      {series.map((s) => (
        <li key={s.series.key}>
          <button type="button" className={classes.tile} aria-pressed={s.series.key === chosen} onClick={() => onChoose(s.series.key)}>
            <SmallChart detector={detector} series={s} title={shortTitle(s.series.labels, differing)} range={range} unit={unit} />
          </button>
        </li>
      ))}
    </ul>
  );
}

function SmallChart({ detector, series, title, range, unit }: { detector: Detector; series: SeriesStatus; title: string; range: RangeName; unit: Unit }) {
  const step = parseGoDuration(detector.step);
  const { seconds } = ranges[range];
  const at = chartPace(step, useLivePoints(detector.id, series.series.key, step));
  const query = useQuery(liveReplayQuery({ detectorId: detector.id, series: series.series.key, stepSeconds: step, seconds }, at));
  const columns = useMemo(() => query.data && toColumns(query.data), [query.data]);
  const to = query.dataUpdatedAt / 1000;
  const last = columns ? lastRow(columns) : -1;
  return (
    <>
      <span className={classes.head}>
        <bdi className={classes.title}>{title}</bdi>
        {series.anomaly && <VisuallyHidden>{series.anomaly}</VisuallyHidden>}
        {series.learning && <span className={classes.learning}>learning</span>}
        <span className={classes.value} data-state={series.anomaly}>{query.error && !columns ? 'no answer' : formatValue(columns?.value[last], unit)}</span>
      </span>
      <span className={classes.plot}>
        {columns && (
          <TimeChart
            compact
            columns={columns}
            regions={anomalyRegions(query.data!.anomalies, step, to - seconds, to)}
            known={knownSpans(query.data!.known_events, step, to - seconds, to)}
            from={to - seconds}
            to={to}
            unit={unit}
            height={52}
            label={title}
          />
        )}
      </span>
    </>
  );
}
