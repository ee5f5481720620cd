import { Button } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useState, type ReactNode } from 'react';
import { api, unwrap } from '../../shared/api/client';
import type { Detector } from '../../shared/api/types';
import { formatDuration } from '../../shared/format/duration';
import { formatCount, formatValue } from '../../shared/format/number';
import { formatStamp, parseTime } from '../../shared/format/time';
import { counted, sentence } from '../../shared/format/text';
import { unitOf } from '../../shared/format/unit';
import { useNow } from '../../shared/live/clock';
import { ProblemView } from '../../shared/ui/Async';
import { Facts, Items, Quiet, Row } from '../../shared/ui/Sections';
import { AlarmSays } from './AlarmSays';
import { Changes } from './Changes';
import classes from './Life.module.css';
import type { Backtest, Suggestion } from './results';
import { headerOf, keepDetector, oneShadow, order, useHasShadow, useMay, useOrder } from './useOrder';
import { effects } from './words';

/** A better definition that was found: what it changes, what it would have done to the past alarms, and the ways to use it. */
export function SuggestionView({ detector: d, taskId, suggestion: s }: { detector: Detector; taskId: string; suggestion: Suggestion }) {
  const client = useQueryClient();
  const may = useMay();
  const now = useNow();
  const mutation = useOrder(d.id);
  const hasShadow = useHasShadow(d.id);
  const path = { id: d.id };
  const old = s.based_on !== d.version;
  const apply = () =>
    mutation.mutate(
      order(async (key) =>
        keepDetector(client, await unwrap(api.POST('/api/v1/detectors/{id}/suggestions/{task}/apply', { params: { path: { id: d.id, task: taskId }, header: headerOf(key, d.version) } }))),
      ),
    );
  const shadow = () =>
    mutation.mutate(
      order(async (key) =>
        client.setQueryData(
          ['shadow', d.id],
          await unwrap(api.POST('/api/v1/detectors/{id}/shadow', { params: { path, header: headerOf(key, d.version) }, body: { definition: s.patch, reason: s.summary.slice(0, 200) } })),
        ),
      ),
    );
  return (
    <>
      <p>{s.improved ? sentence(s.summary) : 'Nothing better than the definition in force was found.'}</p>
      {s.improved && <Changes changes={s.changes} />}
      {s.improved && (
        <Facts
          facts={[
            ...effects(s.after).map((e): [string, ReactNode] => [
              e.name,
              <span key={e.name} className={classes.effect} data-tone={e.tone}>
                {e.text}
              </span>,
            ]),
            ['Alarms a week', `${formatValue(s.before.alarms_per_week)} → ${formatValue(s.after.alarms_per_week)}`],
          ]}
        />
      )}
      <Quiet>
        {counted(s.evaluations, 'backtest', 'backtests')} over {formatDuration((parseTime(s.to) - parseTime(s.from)) / 1000)} until {formatStamp(parseTime(s.to), now)}
        {s.stopped === 'time' && '; the time ran out'}
        {s.stopped === 'evaluations' && '; as many as were allowed'}
        {s.unreproduced > 0 && `; ${counted(s.unreproduced, 'labelled alarm', 'labelled alarms')} could not be raised again and count nowhere`}.
      </Quiet>
      {s.improved && old && <Quiet>It was made for version {s.based_on}; the definition has changed since. Ask again.</Quiet>}
      {s.improved && !old && (
        <Row label="Use it">
          {hasShadow && <Quiet>{oneShadow}</Quiet>}
          {may('start-shadow') && !hasShadow && (
            <Button variant="filled" disabled={mutation.isPending} onClick={shadow}>
              Try as a shadow
            </Button>
          )}
          {may('apply-suggestion') && !d.provisioned && (
            <Button disabled={mutation.isPending} onClick={apply}>
              Apply as version {d.version + 1}
            </Button>
          )}
        </Row>
      )}
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />}
    </>
  );
}

const shown = 5;

/** What a definition would have done over a past range. */
export function BacktestView({ detector: d, backtest: b }: { detector: Detector; backtest: Backtest }) {
  const now = useNow();
  const [all, setAll] = useState(false);
  const unit = unitOf(d.query, d.labels);
  const list = b.anomalies.slice(0, all ? 100 : shown);
  return (
    <>
      <Facts
        facts={[
          ['Alarms', b.anomaly_count.toLocaleString('en-US')],
          ['Alarms a week', `${formatValue(b.alarms_per_week)}, budget ${formatValue(b.false_alarms_per_week)}`],
          ['Samples', `${formatCount(b.samples)} of ${counted(b.series, 'series', 'series')}`],
          ['Range', `${formatDuration((parseTime(b.to) - parseTime(b.from)) / 1000)} until ${formatStamp(parseTime(b.to), now)}`],
        ]}
      />
      {list.length > 0 && (
        <Items label="Alarms it would have raised">
          {list.map((a, i) => (
            <li key={i}>
              <span>{formatStamp(parseTime(a.started_at), now)}</span>
              <AlarmSays alarm={a} unit={unit} />
            </li>
          ))}
        </Items>
      )}
      {!all && b.anomalies.length > shown && (
        <Row>
          <Button onClick={() => setAll(true)}>Show {b.anomalies.length > 100 ? '100' : `all ${b.anomalies.length}`}</Button>
        </Row>
      )}
    </>
  );
}
