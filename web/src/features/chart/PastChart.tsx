import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import { pastReplayQuery } from '../../shared/api/queries';
import type { Anomaly, Detector } from '../../shared/api/types';
import { parseGoDuration } from '../../shared/format/duration';
import { parseTime } from '../../shared/format/time';
import { unitOf } from '../../shared/format/unit';
import { useNow } from '../../shared/live/clock';
import { Async } from '../../shared/ui/Async';
import { toColumns } from './columns';
import { Readout } from './Readout';
import { anomalyRegions } from './regions';
import classes from './PastChart.module.css';
import { TimeChart } from './TimeChart';

const mostPoints = 3000;
const minute = 60_000;

/**
 * The range of time to draw around an anomaly, in milliseconds: what came
 * before for comparison, all of it, and a little after. Ends on whole minutes,
 * so that an open anomaly asks for a new range once a minute, not each second.
 */
export function rangeAround(a: Pick<Anomaly, 'started_at' | 'resolved_at' | 'state'>, stepSeconds: number, now: number): [from: number, to: number] {
  const step = stepSeconds * 1000;
  const start = parseTime(a.started_at);
  const over = parseTime(a.resolved_at);
  const end = a.state === 'resolved' && Number.isFinite(over) ? over : now;
  const length = Math.max(end - start, step);
  const to = Math.min(end + Math.max(0.3 * length, 10 * step), now);
  const before = Math.max(1.5 * length, 60 * step, 5 * minute);
  const from = Math.max(start - before, to - mostPoints * step);
  return [Math.floor(from / minute) * minute, Math.ceil(to / minute) * minute];
}

/** The chart of one anomaly: its series around its time. */
export function PastChart({ anomaly, detector }: { anomaly: Anomaly; detector: Detector }) {
  const now = useNow();
  const step = parseGoDuration(detector.step);
  const [from, to] = rangeAround(anomaly, step, now);
  const query = useQuery({ ...pastReplayQuery(detector.id, anomaly.series.key, from, to), placeholderData: keepPreviousData });
  const columns = useMemo(() => query.data && toColumns(query.data), [query.data]);
  const [row, setRow] = useState<number | null>(null);
  const unit = unitOf(detector.query, detector.labels);
  return (
    <Async query={query} interval={Infinity} what="the chart" rows={6} isEmpty={() => columns!.t.length === 0} empty="The source has no samples of that time any more.">
      {(replay) => (
        <div className={classes.flush}>
          <Readout columns={columns!} row={row} unit={unit} now={now} />
          <TimeChart
            columns={columns!}
            regions={anomalyRegions(replay.anomalies, step, from / 1000, to / 1000)}
            from={from / 1000}
            to={to / 1000}
            unit={unit}
            height={170}
            label="The series around the anomaly. Use the arrow keys to read values."
            onHover={setRow}
          />
        </div>
      )}
    </Async>
  );
}
