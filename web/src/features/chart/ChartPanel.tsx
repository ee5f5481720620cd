import { SegmentedControl } from '@mantine/core';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { useMemo, useState, type ReactNode } from 'react';
import { liveReplayQuery, seriesQuery } from '../../shared/api/queries';
import type { Detector, SeriesStatus } from '../../shared/api/types';
import { parseGoDuration } from '../../shared/format/duration';
import { thinBasis } from '../../shared/format/definition';
import { formatValue } from '../../shared/format/number';
import { formatAgo, parseTime } from '../../shared/format/time';
import { counted, plainText } from '../../shared/format/text';
import { unitOf, type Unit } from '../../shared/format/unit';
import { useNow } from '../../shared/live/clock';
import { chartPace, pace } from '../../shared/live/polling';
import { Async, Loading } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Panel } from '../../shared/ui/Panel';
import { rangeNames, ranges, type RangeName } from '../../shared/ui/ranges';
import { detectorTone } from '../../shared/ui/states';
import { useFirst } from '../../shared/ui/useFirst';
import classes from './ChartPanel.module.css';
import { lastRow, toColumns, verdictAt, type Columns } from './columns';
import { knownSpans } from './known';
import { KnownSpans } from './KnownSpans';
import { defaultRange } from './ranges';
import { Readout } from './Readout';
import { anomalyRegions } from './regions';
import { SeriesPicker } from './SeriesPicker';
import { SmallCharts } from './SmallCharts';
import { TimeChart } from './TimeChart';
import { useLivePoints } from './useLivePoints';

const smallChartsUpTo = 8;

interface ChartPanelProps {
  detector: Detector;
  /** The key of the series from the URL; without one the panel takes the most telling one. */
  series: string | undefined;
  /** The range from the URL; without one the panel takes the one that fits the detector's age. */
  range: RangeName | undefined;
  /** Leads to what lies behind the detector. */
  onward: ReactNode;
  onSeries: (key: string) => void;
  onRange: (range: RangeName) => void;
  onAnomaly: (id: string) => void;
}

/** The live chart of one series of a detector, with what chooses series and range. */
export function ChartPanel({ detector, series, range: asked, onward, onSeries, onRange, onAnomaly }: ChartPanelProps) {
  const list = useInfiniteQuery(seriesQuery(detector.id));
  const loaded = list.data?.pages.flatMap((p) => p.items) ?? [];
  const telling = loaded.find((s) => s.anomaly === 'firing') ?? loaded[0];
  // Chosen once: the chart must not jump to another series when anomalies come and go.
  const first = useFirst(detector.id, telling?.series.key);
  const chosen = series ?? first;
  const now = useNow();
  const fitting = useFirst(detector.id, defaultRange(parseTime(detector.created_at), now)) ?? '1h';
  const range = asked ?? fitting;
  const current = loaded.find((s) => s.series.key === chosen);
  const unit = unitOf(detector.query, detector.labels);
  const total = detector.status.series_active;
  const several = loaded.length > 1 && loaded.length <= smallChartsUpTo && !list.hasNextPage;

  return (
    <Panel
      title={
        <span className={classes.title}>
          <bdi>{plainText(detector.name)}</bdi>
          <Badge tone={detectorTone[detector.status.state]}>{detector.status.state}</Badge>
          <span className={classes.onward}>{onward}</span>
        </span>
      }
      actions={
        <SegmentedControl
          aria-label="Range of time"
          value={range}
          onChange={(name) => onRange(name as RangeName)}
          data={rangeNames.map((name) => ({ value: name, label: ranges[name].label }))}
        />
      }
      tools={
        <div className={classes.tools}>
          <SeriesPicker detectorId={detector.id} total={total} chosen={chosen} onChoose={onSeries} />
          <code className={classes.query} title={detector.query}>
            {plainText(detector.query)}
          </code>
        </div>
      }
    >
      {detector.status.last_error && (
        <p className={classes.error} role="status">
          The last evaluation failed: {plainText(detector.status.last_error)}
        </p>
      )}
      {chosen ? (
        <LiveChart key={`${detector.id} ${chosen} ${range}`} detector={detector} series={chosen} status={current} range={range} unit={unit} onAnomaly={onAnomaly} />
      ) : (
        <Async
          query={list}
          pace={pace.series}
          what="the series"
          rows={8}
          isEmpty={() => true}
          empty={
            <>
              <p>This detector has no series yet.</p>
              <p>Its query found nothing in the source {plainText(detector.source)}. Check the query, or wait for the first samples.</p>
            </>
          }
        >
          {() => null}
        </Async>
      )}
      {chosen && <SeriesAge asOf={list.data?.pages[0]?.as_of} node={detector.status.node} />}
      {several && chosen && <SmallCharts detector={detector} series={loaded} chosen={chosen} range={range} unit={unit} onChoose={onSeries} />}
      {!several && total > 1 && chosen && <p className={classes.others}>One of {counted(total, 'series', 'series')}; the list above has the others.</p>}
    </Panel>
  );
}

/** From which age on the states of the series are said to be old, in milliseconds. */
const oldAfter = 60_000;

/** Says how old the states of the series are: a node that does not evaluate the detector knows them from its newest snapshot. */
function SeriesAge({ asOf, node }: { asOf: string | undefined; node: string | undefined }) {
  const now = useNow();
  const at = parseTime(asOf);
  if (!(now - at > oldAfter)) return null;
  return (
    <p className={classes.others} role="status">
      The states of the series are {formatAgo(at, now).replace(' ago', ' old')}
      {node && `; node ${plainText(node)} evaluates this detector`}.
    </p>
  );
}

interface LiveChartProps {
  detector: Detector;
  series: string;
  /** The live side of the series, where it is known. */
  status: SeriesStatus | undefined;
  range: RangeName;
  unit: Unit;
  onAnomaly: (id: string) => void;
}

function LiveChart({ detector, series, status, range, unit, onAnomaly }: LiveChartProps) {
  const step = parseGoDuration(detector.step);
  const { seconds, name } = ranges[range];
  const at = chartPace(step, useLivePoints(detector.id, series, step));
  const query = useQuery(liveReplayQuery({ detectorId: detector.id, series, stepSeconds: step, seconds }, at));
  const columns = useMemo(() => query.data && toColumns(query.data), [query.data]);
  const [row, setRow] = useState<number | null>(null);
  const now = useNow();
  const to = query.dataUpdatedAt / 1000;
  const from = to - seconds;
  const anomalies = query.data?.anomalies;
  const regions = useMemo(() => anomalyRegions(anomalies ?? [], step, from, to), [anomalies, step, from, to]);
  const events = query.data?.known_events;
  const known = useMemo(() => knownSpans(events, step, from, to), [events, step, from, to]);

  return (
    <Async
      query={query}
      pace={at}
      what="the chart"
      rows={9}
      isEmpty={() => columns!.t.length === 0}
      empty={
        <>
          <p>No samples in {name}.</p>
          <p>Choose a longer range, or check whether the source {plainText(detector.source)} still has this series.</p>
        </>
      }
    >
      {(replay) => (
        <>
          <Readout columns={columns!} row={row} unit={unit} learning={status?.learning} known={known} now={now} />
          <div className={classes.plot}>
            <TimeChart
              columns={columns!}
              regions={regions}
              known={known}
              from={from}
              to={to}
              unit={unit}
              height={250}
              label={`${detector.name}, ${name}. ${summary(columns!, regions.length, known.length, unit, status?.learning)} Use the arrow keys to read values.`}
              onHover={setRow}
              onPick={onAnomaly}
            />
          </div>
          <ul className={classes.key} aria-hidden="true">
            <li data-mark="value">value</li>
            <li data-mark="expected">expected</li>
            <li data-mark="band">normal</li>
            <li data-mark="anomaly">anomaly</li>
            {known.length > 0 && <li data-mark="known">known event</li>}
            {replay.learning && !status?.learning && <li className={classes.learning}>learned within this range</li>}
          </ul>
          <KnownSpans spans={known} now={now} />
          {status && <Model status={status} />}
          {!status?.learning && thinBasis(detector) && (
            <p className={classes.model} data-learning>
              Less data yet than a budget of {formatValue(detector.false_alarms_per_week)} a week needs: more or fewer false alarms may come.
            </p>
          )}
        </>
      )}
    </Async>
  );
}

/** Says which model judges the series and why that one, or what it still lacks. */
function Model({ status }: { status: SeriesStatus }) {
  return (
    <p className={classes.model} data-learning={status.learning || undefined}>
      {status.learning ? `${plainText(status.why) || 'learning'}; no alarms until then` : `Model ${plainText(status.model)}${status.why && `: ${plainText(status.why)}`}`}
    </p>
  );
}

function summary(columns: Columns, anomalies: number, known: number, unit: Unit, learning: boolean | undefined): string {
  const last = lastRow(columns);
  if (last < 0) return 'No values.';
  return `Latest value ${formatValue(columns.value[last], unit)}, ${verdictAt(columns, last, learning)}, expected ${formatValue(columns.expected[last], unit)}. ${counted(anomalies, 'anomaly', 'anomalies')}${known > 0 ? ` and ${counted(known, 'known event', 'known events')}` : ''} in this range.`;
}

/** What stands in place of the chart while no detector is known. */
export function ChartPlaceholder({ loading, text }: { loading: boolean; text: string }) {
  return (
    <Panel title="Live chart">{loading ? <Loading what="the chart" rows={9} /> : <p className={classes.placeholder}>{text}</p>}</Panel>
  );
}
