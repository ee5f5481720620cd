import { Button } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { api, unwrap } from '../../shared/api/client';
import { modelsQuery } from '../../shared/api/queries';
import type { Detector, ModelVersion } from '../../shared/api/types';
import { formatCount, formatScore, formatValue } from '../../shared/format/number';
import { formatAgo, formatStamp, parseTime } from '../../shared/format/time';
import { plainText } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async, ProblemView } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Block, Facts, Heading, Items, Quiet, Row } from '../../shared/ui/Sections';
import { detectorTone } from '../../shared/ui/states';
import classes from './Life.module.css';
import { headerOf, order, rememberTask, useMay, useOrder } from './useOrder';
import { warmUp } from './words';

/** What the detector does now, how much it knows, and when and why it was trained. */
export function Standing({ detector: d }: { detector: Detector }) {
  const s = d.status;
  const short = warmUp(d);
  return (
    <Block label="State">
      <Row>
        <Badge tone={detectorTone[s.state]}>{s.state}</Badge>
        {s.node && <Quiet>evaluated by node {plainText(s.node)}</Quiet>}
      </Row>
      <p className={classes.name}>
        <bdi>{plainText(d.name)}</bdi>
      </p>
      <code className={classes.query}>{plainText(d.query)}</code>
      {s.last_error && <p className={classes.bad}>The last evaluation failed: {plainText(s.last_error)}</p>}
      {short.length > 0 && (
        <ul className={classes.warnings} aria-label="What it still lacks">
          {short.map((text) => (
            <li key={text}>{text}</li>
          ))}
        </ul>
      )}
      <Facts
        facts={[
          ['Series', formatCount(s.series_active)],
          ['Threshold', s.threshold == null ? 'not known yet' : `score ${formatScore(s.threshold)}`],
          ['False alarms', `${formatValue(d.false_alarms_per_week)} a week`],
          ['Model', plainText(d.model)],
        ]}
      />
      <Training detector={d} />
    </Block>
  );
}

const shownModels = 5;

function Training({ detector: d }: { detector: Detector }) {
  const query = useQuery(modelsQuery(d.id));
  const client = useQueryClient();
  const may = useMay();
  const now = useNow();
  const mutation = useOrder(d.id);
  const train = () =>
    mutation.mutate(
      order(async (key) => rememberTask(client, d.id, await unwrap(api.POST('/api/v1/detectors/{id}/train', { params: { path: { id: d.id }, header: headerOf(key) } })))),
    );
  return (
    <>
      <Heading>Training</Heading>
      <Async query={query} pace={pace.lives} what="the model versions" rows={2} isEmpty={(all) => all.length === 0} empty={<p>Nothing was learned yet.</p>}>
        {(all) => (
          <Items label="Model versions, newest first">
            {all.slice(0, shownModels).map((m) => (
              <li key={m.version}>
                <Model version={m} now={now} />
              </li>
            ))}
          </Items>
        )}
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
