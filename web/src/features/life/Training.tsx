import { Button } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useRef, useState } from 'react';
import { api, unwrap } from '../../shared/api/client';
import { modelsQuery } from '../../shared/api/queries';
import type { Detector, ModelVersion } from '../../shared/api/types';
import { formatAgo, formatStamp, parseTime } from '../../shared/format/time';
import { plainText } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async, ProblemView } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Question } from '../../shared/ui/Question';
import { Heading, Items, Quiet, Row } from '../../shared/ui/Sections';
import classes from './Life.module.css';
import { headerOf, order, rememberTask, useMay, useOrder } from './useOrder';

const shown = 5;

/** The model versions, the ways back to one of them, and the training of a new one. */
export function Training({ detector: d }: { detector: Detector }) {
  const query = useQuery(modelsQuery(d.id));
  const client = useQueryClient();
  const may = useMay();
  const mutation = useOrder(d.id);
  const train = () =>
    mutation.mutate(
      order(async (key) => rememberTask(client, d.id, await unwrap(api.POST('/api/v1/detectors/{id}/train', { params: { path: { id: d.id }, header: headerOf(key) } })))),
    );
  return (
    <>
      <Heading>Training</Heading>
      <Async query={query} pace={pace.lives} what="the model versions" rows={2} isEmpty={(all) => all.length === 0} empty={<p>Nothing was learned yet.</p>}>
        {(all) => <Models detector={d} all={all} />}
      </Async>
      <Row>
        {may('train-detector') && (
          <Button onClick={train} loading={mutation.isPending}>
            Train now
          </Button>
        )}
        <Quiet>{retraining(d)}</Quiet>
      </Row>
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />}
    </>
  );
}

/** What is asked about: a version to make active, or the way back to the one before. */
interface Asked {
  version: number;
  back: boolean;
}

function Models({ detector: d, all }: { detector: Detector; all: readonly ModelVersion[] }) {
  const may = useMay();
  const now = useNow();
  const mutation = useOrder(d.id);
  const [asked, setAsked] = useState<Asked>();
  const part = useRef<HTMLDivElement>(null);
  const active = all.find((m) => m.state === 'active');
  // The one that the server goes back to.
  const before = active && all.find((m) => m.state === 'retired' && m.version < active.version);
  const end = () => {
    setAsked(undefined);
    part.current?.focus();
  };
  const activate = ({ version, back }: Asked) => {
    end();
    mutation.mutate(
      order((key) =>
        back
          ? unwrap(api.POST('/api/v1/detectors/{id}/models/rollback', { params: { path: { id: d.id }, header: headerOf(key) } }))
          : unwrap(api.POST('/api/v1/detectors/{id}/models/{version}/promote', { params: { path: { id: d.id, version }, header: headerOf(key) } })),
      ),
    );
  };
  const question = asked && (
    <div className={classes.whole}>
      <Question
        key={`${asked.version} ${asked.back}`}
        label={asked.back ? `Go back to model ${asked.version}` : `Make model ${asked.version} the active one`}
        text={`Model ${asked.version} takes over with what it had learned and catches up on what came since; where that does not fit the definition in force, it learns from history anew.${active ? ` Model ${active.version} is kept.` : ''}`}
        yes={asked.back ? `Go back to model ${asked.version}` : `Make model ${asked.version} active`}
        onYes={() => activate(asked)}
        onNo={end}
      />
    </div>
  );
  return (
    <div ref={part} tabIndex={-1} className={classes.target}>
      <Items label="Model versions, newest first">
        {all.slice(0, shown).map((m) => (
          <li key={m.version}>
            <Model version={m} now={now} />
            {m.state === 'retired' && may('promote-model') && (
              <Button size="compact-xs" disabled={mutation.isPending} aria-label={`Make it the active one: model ${m.version}`} onClick={() => setAsked({ version: m.version, back: false })}>
                Make it the active one…
              </Button>
            )}
            {asked && !asked.back && asked.version === m.version && question}
          </li>
        ))}
      </Items>
      {before && may('rollback-model') && (
        <div className={classes.after}>
          <Button disabled={mutation.isPending} onClick={() => setAsked({ version: before.version, back: true })}>
            Go back to the model before…
          </Button>
        </div>
      )}
      {asked?.back && question}
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />}
    </div>
  );
}

function Model({ version: m, now }: { version: ModelVersion; now: number }) {
  const made = parseTime(m.created_at);
  const [from, to] = [parseTime(m.trained_from), parseTime(m.trained_to)];
  return (
    <>
      <strong>Model {m.version}</strong>
      {m.state !== 'retired' && <Badge tone={m.state === 'active' ? 'good' : 'learning'}>{m.state}</Badge>}
      <span>{plainText(m.reason) || 'no reason is known'}</span>
      <Quiet>
        {formatStamp(made, now)} ({formatAgo(made, now)}){Number.isFinite(from) && Number.isFinite(to) && `, from ${formatStamp(from, now)} to ${formatStamp(to, now)}`}
      </Quiet>
    </>
  );
}

function retraining({ retrain }: Detector): string {
  if (!retrain?.every && !retrain?.on_drift) return 'It is not trained by itself, only when someone asks.';
  const when = [retrain.every && `every ${retrain.every}`, retrain.on_drift && 'when the scores drift'].filter(Boolean).join(' and ');
  return `It is trained by itself ${when}${retrain.into === 'shadow' ? ', into a shadow' : ''}.`;
}
