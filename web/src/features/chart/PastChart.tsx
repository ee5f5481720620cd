import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import { pastReplayQuery } from '../../shared/api/queries';
import type { Anomaly, Detector } from '../../shared/api/types';
import { parseGoDuration } from '../../shared/format/duration';
import { unitOf } from '../../shared/format/unit';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async } from '../../shared/ui/Async';
import { toColumns } from './columns';
import { knownSpans } from './known';
import { KnownSpans } from './KnownSpans';
import { rangeAround } from './ranges';
import { Readout } from './Readout';
import { anomalyRegions } from './regions';
import classes from './PastChart.module.css';
import { TimeChart } from './TimeChart';

/** The chart of one anomaly: its series around its time. */
export function PastChart({ anomaly, detector }: { anomaly: Anomaly; detector: Detector }) {
  const now = useNow();
  const step = parseGoDuration(detector.step);
  const [from, to] = rangeAround(anomaly, step, now);
  const query = useQuery({ ...pastReplayQuery(detector.id, anomaly.series.key, from, to), placeholderData: keepPreviousData });
  const columns = useMemo(() => query.data && toColumns(query.data), [query.data]);
  const [row, setRow] = useState<number | null>(null);
  const unit = unitOf(detector.query, detector.labels);
  const known = knownSpans(query.data?.known_events, step, from / 1000, to / 1000);
  return (
    <Async query={query} pace={pace.never} what="the chart" rows={6} isEmpty={() => columns!.t.length === 0} empty="The source has no samples of that time any more.">
      {(replay) => (
        <div className={classes.flush}>
          <Readout columns={columns!} row={row} unit={unit} known={known} now={now} />
          <TimeChart
            columns={columns!}
            regions={anomalyRegions(replay.anomalies, step, from / 1000, to / 1000)}
            known={known}
            from={from / 1000}
            to={to / 1000}
            unit={unit}
            height={170}
            label="The series around the anomaly. Use the arrow keys to read values."
            onHover={setRow}
          />
          <KnownSpans spans={known} now={now} />
        </div>
      )}
    </Async>
  );
}
