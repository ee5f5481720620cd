import { Button } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import { api, unwrap } from '../../shared/api/client';
import { shadowQuery } from '../../shared/api/queries';
import type { Anomaly, Detector, Shadow } from '../../shared/api/types';
import { formatCount } from '../../shared/format/number';
import { formatAgo, formatStamp, parseTime } from '../../shared/format/time';
import { counted, plainText, sentence } from '../../shared/format/text';
import { unitOf } from '../../shared/format/unit';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async, ProblemView } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Go } from '../../shared/ui/Go';
import { Question } from '../../shared/ui/Question';
import { Block, Facts, Heading, Items, Quiet, Row } from '../../shared/ui/Sections';
import { AlarmSays } from './AlarmSays';
import { Changes } from './Changes';
import classes from './Life.module.css';
import { headerOf, keepDetector, order, useMay, useOrder } from './useOrder';
import { percent, shadowMeaning, shadowTone } from './words';

/** The definition that is tried beside the live one, where there is one. */
export function ShadowPart({ detector: d }: { detector: Detector }) {
  const query = useQuery(shadowQuery(d.id));
  const part = useRef<HTMLDivElement>(null);
  const before = useRef(query.data);
  useEffect(() => {
    // It was begun just now, by a press further down: the focus brings it into view.
    if (before.current === null && query.data) part.current?.focus();
    before.current = query.data;
  }, [query.data]);
  // Mostly there is none, which is no news; a place that is held open would jump.
  if (query.data === null || (query.data === undefined && !query.isError)) return null;
  return (
    <div ref={part} tabIndex={-1} className={classes.target}>
      <Block label="Shadow">
        <Heading>Shadow</Heading>
        <Async query={query} pace={pace.shadow} what="the shadow">
          {(shadow) => shadow && <Comparison detector={d} shadow={shadow} />}
        </Async>
      </Block>
    </div>
  );
}

/** What the server puts where nobody gave a reason. */
const noReason = 'shadow';

function Comparison({ detector: d, shadow: s }: { detector: Detector; shadow: Shadow }) {
  const now = useNow();
  const since = parseTime(s.since);
  const compared = Number.isFinite(since);
  return (
    <>
      <p>
        <Badge tone={shadowTone[s.state]}>{s.state}</Badge> {shadowMeaning(s)}
        {s.state === 'learning' && ` ${percent(s.progress)} done.`}
      </p>
      {s.error && <p>{sentence(s.error)}</p>}
      {s.reason && s.reason !== noReason && <Quiet>Why: {plainText(s.reason)}</Quiet>}
      <Changes changes={s.changes} none="The same definition, with models that were trained anew." />
      {compared && (
        <>
          <Facts
            facts={[
              ['Compared since', `${formatStamp(since, now)} (${formatAgo(since, now)})`],
              ['Alarms gained', s.gained.length.toLocaleString('en-US')],
              ['Alarms lost', s.lost.length.toLocaleString('en-US')],
              ['Alarms of both', s.shared.length.toLocaleString('en-US')],
              ['Samples compared', formatCount(s.agreement.samples)],
              ['Same verdict', s.agreement.share == null ? 'nothing anomalous yet' : `on ${percent(s.agreement.share)} of anomalous samples`],
            ]}
          />
          <Alarms detector={d} title="Gained: only the shadow would alarm" alarms={s.gained} now={now} />
          <Alarms detector={d} title="Lost: only the live definition alarmed" alarms={s.lost} now={now} opens />
          {s.truncated && <Quiet>Only the newest 2,000 alarms are compared.</Quiet>}
        </>
      )}
      <Verdict detector={d} shadow={s} promotable={compared && s.state === 'running'} />
    </>
  );
}

const shown = 5;

/** Alarms of one side. Those of the shadow were never raised, so they lead to their series instead. */
function Alarms({ detector: d, title, alarms, now, opens }: { detector: Detector; title: string; alarms: readonly Anomaly[]; now: number; opens?: boolean }) {
  const [all, setAll] = useState(false);
  if (alarms.length === 0) return null;
  const unit = unitOf(d.query, d.labels);
  return (
    <Block label={title}>
      <Quiet>{title}</Quiet>
      <Items>
        {alarms.slice(0, all ? 100 : shown).map((a) => (
          <li key={a.id}>
            <Go change={{ view: undefined, life: undefined, ...(opens ? { anomaly: a.id } : { detector: d.id, series: a.series.key }) }}>{formatStamp(parseTime(a.started_at), now)}</Go>
            <AlarmSays alarm={a} unit={unit} />
          </li>
        ))}
      </Items>
      {!all && alarms.length > shown && (
        <Row>
          <Button onClick={() => setAll(true)}>Show {alarms.length > 100 ? 'the newest 100' : `all ${alarms.length}`}</Button>
        </Row>
      )}
    </Block>
  );
}

function Verdict({ detector: d, shadow: s, promotable }: { detector: Detector; shadow: Shadow; promotable: boolean }) {
  const client = useQueryClient();
  const may = useMay();
  const mutation = useOrder(d.id);
  const [asking, setAsking] = useState(false);
  const path = { id: d.id };
  const locked = d.provisioned && s.changes.length > 0;
  const promote = () =>
    mutation.mutate(
      order(async (key) => {
        keepDetector(client, await unwrap(api.POST('/api/v1/detectors/{id}/shadow/promote', { params: { path, header: headerOf(key, s.version) } })));
        client.setQueryData(['shadow', d.id], null);
      }),
    );
  const discard = () => {
    setAsking(false);
    mutation.mutate(
      order(async (key) => {
        await unwrap(api.DELETE('/api/v1/detectors/{id}/shadow', { params: { path, header: headerOf(key, s.version) } }));
        client.setQueryData(['shadow', d.id], null);
      }),
    );
  };
  if (!may('promote-shadow')) return <Quiet>Your key may look, not decide: that needs the role operator.</Quiet>;
  return (
    <>
      <Row label="What becomes of the shadow">
        {!locked && (
          <Button variant="filled" disabled={!promotable || mutation.isPending} onClick={promote}>
            Promote
          </Button>
        )}
        <Button disabled={mutation.isPending || asking} onClick={() => setAsking(true)}>
          Discard…
        </Button>
        <Quiet>
          {locked
            ? 'To promote it, write it into the configuration file and reload.'
            : promotable
              ? 'Promoting makes it a new version; going back is one press below.'
              : 'It can be promoted while it runs.'}
        </Quiet>
      </Row>
      {asking && (
        <Question
          label="Discard the shadow"
          text={`Its comparison${s.gained.length + s.lost.length > 0 ? ` of ${counted(s.gained.length + s.lost.length, 'alarm', 'alarms')}` : ''} and what it learned are lost.`}
          yes="Discard it"
          onYes={discard}
          onNo={() => setAsking(false)}
        />
      )}
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />}
    </>
  );
}
