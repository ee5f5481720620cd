import { Button, SegmentedControl } from '@mantine/core';
import { useInfiniteQuery } from '@tanstack/react-query';
import { anomaliesQuery } from '../../shared/api/queries';
import type { Anomaly } from '../../shared/api/types';
import { formatRarity } from '../../shared/format/duration';
import { formatBand, formatValue } from '../../shared/format/number';
import { plainText } from '../../shared/format/text';
import type { Unit } from '../../shared/format/unit';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Go, useGo } from '../../shared/ui/Go';
import { LabelList } from '../../shared/ui/LabelList';
import { Panel } from '../../shared/ui/Panel';
import { LinkRow, RowHeads, RowsEnd } from '../../shared/ui/Rows';
import { Quiet } from '../../shared/ui/Sections';
import { severityTone } from '../../shared/ui/states';
import classes from './AnomalyList.module.css';
import { labelWord, sideOf, standing, timing } from './describe';
import { usePendingChanges } from './mutations';
import { useHeld } from './useHeld';

interface AnomalyListProps {
  /** Lists resolved ones too. */
  all: boolean;
  /** Lists only those of the chosen detector. */
  only: boolean;
  chosenDetector: { id: string; name: string } | undefined;
  /** Id of the anomaly whose details are open. */
  opened: string | undefined;
  /** The unit of a detector's values. */
  unitFor: (detectorId: string) => Unit;
  id?: string;
  className?: string;
}

/** The newest anomalies, as links that open their details. */
export function AnomalyList({ all, only, chosenDetector, opened, unitFor, id, className }: AnomalyListProps) {
  const go = useGo();
  const now = useNow();
  const query = useInfiniteQuery(anomaliesQuery({ open: !all, detectorId: only ? chosenDetector?.id : undefined }));
  const shown = usePendingChanges();
  const items = (query.data?.pages.flatMap((p) => p.items) ?? []).map(shown);
  const { rows, fresh, release, handlers } = useHeld(items, (a) => all || a.state !== 'resolved');
  const where = only && chosenDetector ? ` of ${plainText(chosenDetector.name)}` : '';

  return (
    <Panel
      id={id}
      className={className}
      title="Anomalies"
      scroll
      actions={
        <div className={classes.controls}>
          <span role="status">
            {fresh > 0 && (
              <Button size="compact-xs" variant="filled" onClick={release}>
                Show {fresh} new
              </Button>
            )}
          </span>
          <SegmentedControl
            aria-label="Of which detectors"
            value={only ? 'one' : 'every'}
            onChange={(value) => go({ only: value === 'one' || undefined })}
            data={[
              { value: 'every', label: 'All detectors' },
              { value: 'one', label: 'This one', disabled: !chosenDetector },
            ]}
          />
          <SegmentedControl
            aria-label="Which anomalies"
            value={all ? 'all' : 'open'}
            onChange={(value) => go({ show: value === 'all' ? 'all' : undefined })}
            data={[
              { value: 'open', label: 'Open' },
              { value: 'all', label: 'Recent' },
            ]}
          />
        </div>
      }
    >
      <Async
        query={query}
        pace={pace.anomalies}
        what="the anomalies"
        rows={5}
        isEmpty={() => rows.length === 0}
        empty={
          all ? (
            <p>No anomaly was found{where} so far.</p>
          ) : (
            <>
              <p>No open anomalies{where}.</p>
              <Go change={{ show: 'all' }}>Show those that are over</Go>
            </>
          )
        }
      >
        {() => (
          <div className={classes.rows}>
            <RowHeads heads={['Severity', 'Series', 'Value and normal', 'How rare', 'When', 'State']} />
            <ul {...handlers}>
              {rows.map((a) => (
                <li key={a.id}>
                  <Row anomaly={a} unit={unitFor(a.detector_id)} now={now} opened={a.id === opened} />
                </li>
              ))}
            </ul>
            {query.hasNextPage && (
              <RowsEnd>
                <Button onClick={() => void query.fetchNextPage()} loading={query.isFetchingNextPage}>
                  Show older
                </Button>
              </RowsEnd>
            )}
          </div>
        )}
      </Async>
    </Panel>
  );
}

function Row({ anomaly: a, unit, now, opened }: { anomaly: Anomaly; unit: Unit; now: number; opened: boolean }) {
  const state = standing(a);
  const label = labelWord(a.label);
  const side = sideOf(a);
  const when = timing(a, now);
  return (
    <LinkRow change={{ anomaly: a.id }} opened={opened}>
      <span className={classes.severity}>
        <Badge tone={a.state === 'resolved' ? 'off' : severityTone[a.severity]}>{a.severity}</Badge>
      </span>
      <span className={classes.what}>
        <bdi className={classes.detector}>{plainText(a.detector_name)}</bdi>
        <LabelList labels={a.series.labels} />
      </span>
      <span className={classes.value}>
        <span>
          <strong>{formatValue(a.value, unit)}</strong> {side === 'off' ? '' : `${side} normal`}
        </span>
        <span className={classes.normal}>
          <Quiet>{formatBand(a.lower, a.upper, unit)}</Quiet>
        </span>
      </span>
      <span className={classes.rarity}>{formatRarity(a.once_in_seconds)}</span>
      <span className={classes.when}>
        <span>{when.head}</span>
        <Quiet>{when.detail}</Quiet>
      </span>
      <span className={classes.state}>
        <Badge tone={state.tone} title={a.acknowledged_by ? `Acknowledged by ${plainText(a.acknowledged_by)}` : undefined}>
          {state.word}
        </Badge>
        {label && <Quiet>{label}</Quiet>}
      </span>
    </LinkRow>
  );
}
