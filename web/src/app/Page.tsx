import { useQuery } from '@tanstack/react-query';
import { useSearch } from '@tanstack/react-router';
import { useEffect } from 'react';
import { AnomalyDrawer } from '../features/anomalies/AnomalyDrawer';
import { AnomalyList } from '../features/anomalies/AnomalyList';
import { ChartPanel, ChartPlaceholder } from '../features/chart/ChartPanel';
import { PastChart } from '../features/chart/PastChart';
import { rangeReaching } from '../features/chart/ranges';
import { DetectorList } from '../features/detectors/DetectorList';
import { defaultDetector, totalsOf } from '../features/detectors/select';
import { LifeDrawer } from '../features/life/LifeDrawer';
import { LogEvidence } from '../features/logs/LogEvidence';
import { SourceBanner } from '../features/sources/SourceBanner';
import { SourceList } from '../features/sources/SourceList';
import { detectorsQuery } from '../shared/api/queries';
import type { Anomaly, Detector } from '../shared/api/types';
import { parseTime } from '../shared/format/time';
import { unitOf, type Unit } from '../shared/format/unit';
import { useNow } from '../shared/live/clock';
import { usePulse } from '../shared/live/pulse';
import { Go, useGo } from '../shared/ui/Go';
import { isRangeName } from '../shared/ui/ranges';
import { linesFrom, type PageSearch } from '../shared/ui/search';
import { useFirst } from '../shared/ui/useFirst';
import { Header } from './Header';
import { Logs } from './Logs';
import { Overview } from './Overview';
import classes from './Page.module.css';

/** The page: what is watched, what it does now, and what was found. */
export function Page() {
  const search: PageSearch = useSearch({ strict: false });
  const go = useGo();
  const detectors = useQuery(detectorsQuery());
  // Every query below takes another pace when the stream breaks or is back.
  usePulse();
  const all = detectors.data ?? [];
  const fallback = useFirst('page', defaultDetector(all)?.id);
  const chosenId = search.detector ?? fallback;
  const chosen = all.find((d) => d.id === chosenId);
  const range = isRangeName(search.range) ? search.range : undefined;

  const open = totalsOf(all).openAnomalies;
  useEffect(() => {
    document.title = open > 0 ? `(${open}) AIOps` : 'AIOps';
  }, [open]);

  const detectorOf = (id: string) => all.find((d) => d.id === id);
  const unitFor = (id: string): Unit => {
    const d = detectorOf(id);
    return d ? unitOf(d.query, d.labels) : 'none';
  };

  return (
    <>
      <Header />
      <main className={classes.page}>
        <SourceBanner />
        {search.view === 'logs' ? (
          <Logs search={search} />
        ) : (
          <>
            <Overview onShowAnomalies={showAnomalies} />
            <div className={classes.columns}>
              <div className={classes.side}>
                <DetectorList className={classes.detectors} chosen={chosenId} filter={search.filter ?? ''} attention={search.attention ?? false} />
                <SourceList className={classes.sources} />
              </div>
              <div className={classes.center}>
                {chosen ? (
                  <ChartPanel
                    key={chosen.id}
                    detector={chosen}
                    series={search.series}
                    range={range}
                    onward={<Go change={{ life: true }}>Definition, shadow, versions</Go>}
                    onSeries={(series) => go({ detector: chosen.id, series })}
                    onRange={(name) => go({ range: name })}
                    onAnomaly={(id) => go({ anomaly: id })}
                  />
                ) : (
                  <ChartPlaceholder
                    loading={detectors.isPending && !detectors.isError}
                    text={
                      detectors.isError
                        ? 'The chart appears once the server answers.'
                        : all.length === 0
                          ? 'The chart appears once there is a detector.'
                          : 'This detector does not exist any more. Choose another one from the list.'
                    }
                  />
                )}
                <AnomalyList
                  id={anomaliesId}
                  className={classes.anomalies}
                  all={search.show === 'all'}
                  only={search.only ?? false}
                  chosenDetector={chosen}
                  opened={search.anomaly}
                  unitFor={unitFor}
                />
              </div>
            </div>
          </>
        )}
      </main>
      <LifeDrawer id={search.life && search.anomaly === undefined ? chosen?.id : undefined} onClose={() => go({ life: undefined })} />
      <AnomalyDrawer
        id={search.anomaly}
        onClose={() => go({ anomaly: undefined })}
        unitFor={unitFor}
        chart={(a) => {
          const detector = detectorOf(a.detector_id);
          return detector ? <PastChart anomaly={a} detector={detector} /> : <p className={classes.quiet}>The detector of this anomaly was deleted, so there is no chart.</p>;
        }}
        onward={(a) => <Onward anomaly={a} detector={detectorOf(a.detector_id)} />}
        logs={(evidence, a) => <LogEvidence evidence={evidence} startedAt={a.started_at} />}
        anomalyLink={(id, children) => <Go change={{ anomaly: id }}>{children}</Go>}
        seriesLink={(detector, series, children) => <Go change={{ view: undefined, detector, series, anomaly: undefined }}>{children}</Go>}
      />
    </>
  );
}

const anomaliesId = 'anomalies';

/** Brings the list of anomalies into view and moves the focus there; on a phone it is far below. */
function showAnomalies() {
  const panel = document.getElementById(anomaliesId);
  panel?.scrollIntoView({ block: 'start' });
  panel?.focus({ preventScroll: true });
}

/**
 * Leads on from an anomaly: to its series on the live chart, over a range that
 * shows its beginning where there is one, and from one of metrics to the log
 * lines of that time.
 */
function Onward({ anomaly: a, detector }: { anomaly: Anomaly; detector: Detector | undefined }) {
  const now = useNow();
  const start = parseTime(a.started_at);
  return (
    <>
      {detector && (
        <Go change={{ view: undefined, detector: a.detector_id, series: a.series.key, range: rangeReaching((now - start) / 1000), anomaly: undefined }}>Show this series on the live chart</Go>
      )}
      {detector?.signal !== 'logs' && <Go change={linesFrom(start)}>Show the log lines of that time</Go>}
    </>
  );
}
