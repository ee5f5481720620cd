import { Button } from '@mantine/core';
import { useQueries, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { api, unwrap } from '../../shared/api/client';
import { isOver, taskQuery, tasksQuery } from '../../shared/api/queries';
import type { Detector, Task } from '../../shared/api/types';
import { formatAgo, parseTime } from '../../shared/format/time';
import { sentence } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { ProblemView } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Block, Heading, Quiet, Row } from '../../shared/ui/Sections';
import { BacktestView, SuggestionView } from './Findings';
import classes from './Life.module.css';
import { backtestOf, suggestionOf } from './results';
import { headerOf, order, useMay, useOrder, useStartedTasks } from './useOrder';
import { percent, taskName, taskTone } from './words';

const shown = 3;

/** What is being tried for the detector and what came of it, newest first. */
export function TaskPart({ detector: d }: { detector: Detector }) {
  const list = useQuery(tasksQuery(d.id));
  const started = useStartedTasks(d.id);
  const [all, setAll] = useState(false);
  const client = useQueryClient();
  const listed = (list.data ?? []).filter((t) => taskName(t) !== undefined);
  // What runs is asked for by itself, and so is what names no detector.
  const alone = [...new Set([...started, ...listed.filter((t) => !isOver(t)).map((t) => t.id)])];
  const running = useQueries({ queries: alone.map((id) => taskQuery(id)) });
  const single = running.map((q) => q.data).filter((t) => t !== undefined);
  const tasks = [...single, ...listed.filter((t) => !single.some((s) => s.id === t.id))].sort((a, b) => parseTime(b.created_at) - parseTime(a.created_at));
  const over = single.filter(isOver).length;

  useEffect(() => {
    // A training that is over made a model version, maybe a shadow.
    if (over === 0) return;
    for (const queryKey of [['models', d.id], ['shadow', d.id], ['tasks', d.id]]) void client.invalidateQueries({ queryKey });
  }, [client, d.id, over]);

  if (list.isError && tasks.length === 0) return <ProblemView error={list.error} what="the tasks" onRetry={list.refetch} retrying={list.isFetching} />;
  if (tasks.length === 0) return null;
  return (
    <Block label="Tried so far">
      <Heading>Tried so far</Heading>
      {tasks.slice(0, all ? undefined : shown).map((t) => (
        <TaskView key={t.id} detector={d} task={t} />
      ))}
      {!all && tasks.length > shown && (
        <Row>
          <Button onClick={() => setAll(true)}>Show {tasks.length - shown} older</Button>
        </Row>
      )}
    </Block>
  );
}

function TaskView({ detector: d, task: t }: { detector: Detector; task: Task }) {
  const now = useNow();
  const may = useMay();
  const client = useQueryClient();
  const mutation = useOrder(d.id);
  const name = taskName(t) ?? 'Task';
  const over = isOver(t);
  const cancel = () =>
    mutation.mutate(order(async (key) => client.setQueryData(['task', t.id], await unwrap(api.POST('/api/v1/tasks/{id}/cancel', { params: { path: { id: t.id }, header: headerOf(key) } })))));
  const suggestion = t.state === 'succeeded' ? suggestionOf(t.result) : undefined;
  const backtest = t.state === 'succeeded' ? backtestOf(t.result) : undefined;
  return (
    <div className={classes.task} role="group" aria-label={name}>
      <Row>
        <strong>{name}</strong>
        <Badge tone={taskTone[t.state]}>{t.state}</Badge>
        <Quiet>asked for {formatAgo(parseTime(t.created_at), now)}</Quiet>
      </Row>
      {!over && (
        <Row>
          <progress value={t.progress} max={1} aria-label={`Progress of the ${name.toLowerCase()}`} />
          <Quiet>{t.state === 'queued' ? 'waits for its turn' : percent(t.progress)}</Quiet>
          {may('cancel-task') && (
            <Button onClick={cancel} disabled={mutation.isPending}>
              Cancel
            </Button>
          )}
        </Row>
      )}
      {t.error && <p>{sentence(t.error)}</p>}
      {suggestion && <SuggestionView detector={d} taskId={t.id} suggestion={suggestion} />}
      {backtest && <BacktestView detector={d} backtest={backtest} />}
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />}
    </div>
  );
}
