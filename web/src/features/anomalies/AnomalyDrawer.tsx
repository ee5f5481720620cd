import { Button } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState, type ReactNode } from 'react';
import { findAnomaly } from '../../shared/api/anomalyCache';
import { anomalyQuery, explainQuery, sessionQuery } from '../../shared/api/queries';
import type { Anomaly, LogEvidence } from '../../shared/api/types';
import { formatRarity } from '../../shared/format/duration';
import { formatBand, formatScore, formatValue } from '../../shared/format/number';
import { formatStamp, parseTime } from '../../shared/format/time';
import { plainText, sentence } from '../../shared/format/text';
import type { Unit } from '../../shared/format/unit';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async, ProblemView } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Icon } from '../../shared/ui/icons';
import { LabelList } from '../../shared/ui/LabelList';
import { Question } from '../../shared/ui/Question';
import { Block, Facts, Quiet, Sections } from '../../shared/ui/Sections';
import { SideDrawer } from '../../shared/ui/SideDrawer';
import { severityTone } from '../../shared/ui/states';
import classes from './AnomalyDrawer.module.css';
import { labelWord, sideOf, standing, timing } from './describe';
import { Explain } from './Explain';
import { Gauge } from './Gauge';
import { orderOf, useChangeAnomaly, usePendingChanges, type AnomalyChange } from './mutations';

interface AnomalyDrawerProps {
  /** Id of the anomaly to show, or undefined when the drawer is closed. */
  id: string | undefined;
  onClose: () => void;
  unitFor: (detectorId: string) => Unit;
  /** Draws the time around the anomaly. */
  chart: (anomaly: Anomaly) => ReactNode;
  /** Links from the anomaly to its series on the live chart and to log lines. */
  onward: (anomaly: Anomaly) => ReactNode;
  /** What log lines say about an anomaly of a detector on logs. */
  logs: (evidence: LogEvidence, anomaly: Anomaly) => ReactNode;
  /** A link that opens another anomaly. */
  anomalyLink: (id: string, children: ReactNode) => ReactNode;
  /** A link that shows a series on the live chart. */
  seriesLink: (detectorId: string, key: string, children: ReactNode) => ReactNode;
}

/** The details of one anomaly: what happened, why it counts as one, and what people say of it. */
export function AnomalyDrawer({ id, onClose, ...rest }: AnomalyDrawerProps) {
  return (
    <SideDrawer title="Anomaly" opened={id !== undefined} onClose={onClose}>
      {id !== undefined && <Details key={id} id={id} {...rest} />}
    </SideDrawer>
  );
}

function Details({ id, unitFor, chart, onward, logs, ...links }: Omit<AnomalyDrawerProps, 'id' | 'onClose'> & { id: string }) {
  const client = useQueryClient();
  const query = useQuery({ ...anomalyQuery(id), placeholderData: () => findAnomaly(client, id) });
  const shown = usePendingChanges();
  const explain = useQuery(explainQuery(id));
  return (
    <Async query={query} pace={pace.anomalies} what="the anomaly" rows={8}>
      {(a) => (
        <Sections>
          <Head anomaly={shown(a)} unit={unitFor(a.detector_id)} />
          <Judgement saved={a} shown={shown(a)} />
          <section aria-label="Chart around the anomaly">
            {chart(a)}
            <p className={classes.links}>{onward(a)}</p>
          </section>
          <section aria-label="Explanation">
            <Async query={explain} pace={pace.never} what="the explanation" rows={6}>
              {(explanation) => <Explain explanation={explanation} unitFor={unitFor} logs={explanation.logs && logs(explanation.logs, a)} {...links} />}
            </Async>
          </section>
        </Sections>
      )}
    </Async>
  );
}

function Head({ anomaly: a, unit }: { anomaly: Anomaly; unit: Unit }) {
  const now = useNow();
  const state = standing(a);
  const when = timing(a, now);
  const side = sideOf(a);
  return (
    <Block label="What happened">
      <p className={classes.badges}>
        <Badge tone={severityTone[a.severity]}>{a.severity}</Badge>
        <Badge tone={state.tone}>{state.word}</Badge>
        <span>
          {when.head}, {when.detail}
        </span>
      </p>
      <h3 className={classes.detector}>
        <bdi>{plainText(a.detector_name)}</bdi>
      </h3>
      <LabelList labels={a.series.labels} />
      {a.reason && <p>{sentence(a.reason)}</p>}
      <Gauge anomaly={a} />
      <Facts
        facts={[
          [
            'Value at the peak',
            <>
              <strong>{formatValue(a.value, unit)}</strong> {side === 'off' ? '' : `${side} normal`}
            </>,
          ],
          ['Expected', formatValue(a.expected, unit)],
          ['Normal', formatBand(a.lower, a.upper, unit)],
          ['How rare', formatRarity(a.once_in_seconds)],
          ['Score', formatScore(a.score)],
          ['Started', formatStamp(parseTime(a.started_at), now)],
          a.state === 'resolved' ? ['Resolved', formatStamp(parseTime(a.resolved_at), now)] : undefined,
        ]}
      />
    </Block>
  );
}

/** Acknowledging, ending, and saying whether the alarm was right. `saved` is what the server has, `shown` what it will have. */
function Judgement({ saved, shown: a }: { saved: Anomaly; shown: Anomaly }) {
  const mutation = useChangeAnomaly();
  const { data: session } = useQuery(sessionQuery());
  const now = useNow();
  const [ending, setEnding] = useState(false);
  const acknowledged = Boolean(a.acknowledged_at || a.acknowledged_by);
  const may = !session || session.operations.includes('acknowledge-anomaly');
  const busy = mutation.isPending;
  const change = (c: AnomalyChange) => {
    setEnding(false);
    mutation.mutate(orderOf(saved, c));
  };
  const label = (value: boolean) => change({ kind: 'label', label: a.label === value ? null : value });
  return (
    <Block label="Judgement">
      <div className={classes.buttons} hidden={!may}>
        {a.state !== 'resolved' && !acknowledged && (
          <Button variant="filled" disabled={busy} onClick={() => change({ kind: 'acknowledge' })}>
            Acknowledge
          </Button>
        )}
        {a.state !== 'resolved' && !ending && (
          <Button disabled={busy} onClick={() => setEnding(true)}>
            End it…
          </Button>
        )}
        <div className={classes.pair} role="group" aria-label="Was the alarm right?">
          <Button leftSection={<Icon name="check" size={12} />} aria-pressed={a.label === true} disabled={busy} className={classes.toggle} onClick={() => label(true)}>
            True alarm
          </Button>
          <Button leftSection={<Icon name="cross" size={12} />} aria-pressed={a.label === false} disabled={busy} className={classes.toggle} onClick={() => label(false)}>
            False alarm
          </Button>
        </div>
      </div>
      {ending && a.state !== 'resolved' && (
        <Question label="End this anomaly" text="It stays ended, also if the value is still unusual." yes="End it for good" onYes={() => change({ kind: 'resolve' })} onNo={() => setEnding(false)} />
      )}
      {!may && <Quiet>Your key may look, not judge: that needs the role operator.</Quiet>}
      <Quiet role="status">
        {acknowledged && `Acknowledged by ${plainText(a.acknowledged_by || 'someone')}${a.acknowledged_at ? ` at ${formatStamp(parseTime(a.acknowledged_at), now)}` : ''}. `}
        {a.resolved_by && `Ended by ${plainText(a.resolved_by)}. `}
        {a.label != null && `Marked as a ${labelWord(a.label)}${may ? '; press again to take it back' : ''}.`}
      </Quiet>
      {mutation.isError && (
        <div className={classes.refused}>
          <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={busy} />
          <Quiet>Your change was taken back; above stands what the server has.</Quiet>
        </div>
      )}
    </Block>
  );
}
