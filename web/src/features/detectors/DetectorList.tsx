import { SegmentedControl } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import type { KeyboardEvent } from 'react';
import { detectorsQuery } from '../../shared/api/queries';
import type { Detector } from '../../shared/api/types';
import { formatDuration } from '../../shared/format/duration';
import { formatValue } from '../../shared/format/number';
import { counted, plainText } from '../../shared/format/text';
import { pace } from '../../shared/live/polling';
import { Async } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Go, useGo } from '../../shared/ui/Go';
import { Panel } from '../../shared/ui/Panel';
import { SearchInput } from '../../shared/ui/SearchInput';
import { detectorTone } from '../../shared/ui/states';
import { useDraft } from '../../shared/ui/useDraft';
import classes from './DetectorList.module.css';
import { needsAttention, selectDetectors, seriesOf, type Selection } from './select';

interface DetectorListProps extends Selection {
  /** Id of the detector that the page shows. */
  chosen: string | undefined;
  className?: string;
}

/** All detectors, as links that choose one; the arrow keys move between them. */
export function DetectorList({ chosen, filter, attention, className }: DetectorListProps) {
  const query = useQuery(detectorsQuery());
  const go = useGo();
  const [draft, setDraft] = useDraft(filter, (text) => go({ filter: text || undefined }, { replace: true }));
  const all = query.data ?? [];
  const shown = selectDetectors(all, { filter: draft, attention });
  const inNeed = all.filter(needsAttention).length;

  return (
    <Panel
      className={className}
      scroll
      title="Detectors"
      actions={
        <SegmentedControl
          aria-label="Which detectors"
          value={attention ? 'attention' : 'all'}
          onChange={(value) => go({ attention: value === 'attention' || undefined })}
          data={[
            { value: 'all', label: query.data ? `All ${all.length}` : 'All' },
            { value: 'attention', label: query.data ? `Attention ${inNeed}` : 'Attention' },
          ]}
        />
      }
      tools={
        <SearchInput label="Filter detectors" placeholder="Filter by name, query, label or state" value={draft} maxLength={200} onChange={setDraft} />
      }
    >
      <Async
        query={query}
        pace={pace.detectors}
        what="the detectors"
        rows={8}
        isEmpty={() => shown.length === 0}
        empty={
          all.length === 0 ? (
            <>
              <p>No detectors yet.</p>
              <p>Add one to the configuration file, or create one with POST /api/v1/detectors.</p>
            </>
          ) : attention && !draft ? (
            <p>No detector needs attention.</p>
          ) : (
            <p>No detector matches this filter.</p>
          )
        }
      >
        {() => (
          <ul className={classes.list} onKeyDown={moveFocus}>
            {shown.map((d) => (
              <li key={d.id}>
                <Row detector={d} chosen={d.id === chosen} />
              </li>
            ))}
          </ul>
        )}
      </Async>
    </Panel>
  );
}

function Row({ detector: d, chosen }: { detector: Detector; chosen: boolean }) {
  const s = d.status;
  return (
    <Go change={{ detector: d.id, series: undefined }} className={classes.row} aria-current={chosen ? 'true' : undefined}>
      <span className={classes.top}>
        <bdi className={classes.name} title={plainText(d.name)}>
          {plainText(d.name)}
        </bdi>
        <Badge tone={detectorTone[s.state]} title={s.last_error ? plainText(s.last_error) : undefined}>
          {s.state}
        </Badge>
      </span>
      <span className={classes.facts}>
        {s.open_anomalies > 0 && <strong className={classes.open}>{counted(s.open_anomalies, 'anomaly', 'anomalies')}</strong>}
        <span>
          {counted(seriesOf(d), 'series', 'series')}
          {s.series_learning > 0 && ` (${s.series_learning.toLocaleString('en-US')} learning)`}
        </span>
        <span>{lagOf(d)}</span>
        <span title="False alarms that are tolerated in a week">budget {formatValue(d.false_alarms_per_week)}/week</span>
      </span>
    </Go>
  );
}

function lagOf({ status: s, enabled }: Detector): string {
  if (!enabled) return 'rests';
  if (!s.last_evaluated_at) return 'not evaluated yet';
  return s.lag_seconds < 1 ? 'up to date' : `${formatDuration(Math.floor(s.lag_seconds))} behind`;
}

/** Moves the focus between the rows with the arrow keys, Home and End. */
function moveFocus(event: KeyboardEvent<HTMLElement>) {
  const links = [...event.currentTarget.querySelectorAll('a')];
  const at = links.indexOf(document.activeElement as HTMLAnchorElement);
  const to = { ArrowDown: Math.min(at + 1, links.length - 1), ArrowUp: Math.max(at - 1, 0), Home: 0, End: links.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  links[to]?.focus();
}
