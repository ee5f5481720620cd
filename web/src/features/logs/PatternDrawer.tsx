import { Button, SegmentedControl, TextInput } from '@mantine/core';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { linesQuery, patternQuery, patternsQuery, sessionQuery } from '../../shared/api/queries';
import type { LogPattern } from '../../shared/api/types';
import { formatCount } from '../../shared/format/number';
import { formatAgo, formatDayClock, parseTime } from '../../shared/format/time';
import { plainText } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async, ProblemView } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { useGo } from '../../shared/ui/Go';
import { LabelList } from '../../shared/ui/LabelList';
import { Block, Facts, Heading, Quiet, Row, Sections } from '../../shared/ui/Sections';
import { SideDrawer } from '../../shared/ui/SideDrawer';
import { levelTone } from '../../shared/ui/states';
import { LineList } from './LineList';
import classes from './PatternDrawer.module.css';
import { Sparkline } from './Sparkline';
import { Template } from './Template';
import { aroundVariable } from './template';
import { decide, useDecide } from './usePatternChange';

/** The details of one log pattern: how often it comes, its lines, and what people decide about it. */
export function PatternDrawer({ id, onClose }: { id: string | undefined; onClose: () => void }) {
  return (
    <SideDrawer title="Log pattern" opened={id !== undefined} onClose={onClose}>
      {id !== undefined && <Details key={id} id={id} />}
    </SideDrawer>
  );
}

function Details({ id }: { id: string }) {
  const query = useQuery(patternQuery(id));
  return (
    <Async query={query} pace={pace.logs} what="the pattern" rows={8}>
      {(p) => (
        <Sections>
          <Head pattern={p} />
          <Decisions pattern={p} />
          <Lines pattern={p} />
        </Sections>
      )}
    </Async>
  );
}

function Head({ pattern: p }: { pattern: LogPattern }) {
  const now = useNow();
  return (
    <Block label="The pattern">
      {p.level && <span><Badge tone={levelTone(p.level)}>{p.level}</Badge></span>}
      {p.name && (
        <h3 className={classes.name}>
          <bdi>{plainText(p.name)}</bdi>
        </h3>
      )}
      <p>
        <Template template={p.template} />
      </p>
      <Sparkline counts={p.sparkline} stepSeconds={p.spark_step_seconds} />
      <Facts
        facts={[
          ['Lines', formatCount(p.count)],
          ['First seen', formatDayClock(parseTime(p.first_seen), now)],
          ['Last seen', formatAgo(parseTime(p.last_seen), now)],
        ]}
      />
      {p.streams.length > 0 && (
        <ul aria-label="Streams that have it">
          {p.streams.map((labels, i) => (
            <li key={i}>
              <LabelList labels={labels} />
            </li>
          ))}
        </ul>
      )}
    </Block>
  );
}

/** What people decide about the pattern. It is in force for all lines from then on. */
function Decisions({ pattern: p }: { pattern: LogPattern }) {
  const go = useGo();
  const { data: session } = useQuery(sessionQuery());
  const [name, setName] = useState(p.name);
  const [asking, setAsking] = useState<'merge' | 'split'>();
  const mutation = useDecide((pattern) => go({ pattern }, { replace: true }));
  const busy = mutation.isPending;
  const order = (edit: Parameters<typeof decide>[1]) => {
    setAsking(undefined);
    mutation.mutate(decide(p, edit));
  };
  if (session && !session.operations.includes('update-log-pattern')) return <Quiet>Your key may look, not decide: that needs the role operator.</Quiet>;

  return (
    <Block label="Decisions">
      <form
        className={classes.naming}
        onSubmit={(event) => {
          event.preventDefault();
          order({ name: name.trim() });
        }}
      >
        <TextInput className={classes.grow} aria-label="Name of the pattern" placeholder="Give it a name" value={name} maxLength={200} onChange={(event) => setName(event.currentTarget.value)} />
        <Button type="submit" disabled={busy || name.trim() === p.name}>
          Save the name
        </Button>
      </form>
      <Row>
        <Button className={classes.toggle} aria-pressed={p.expected} disabled={busy} title="Its lines raise no alarm" onClick={() => order({ expected: !p.expected })}>
          Expected
        </Button>
        <Button className={classes.toggle} aria-pressed={p.pinned} disabled={busy} title="Lines do not change its template" onClick={() => order({ pinned: !p.pinned })}>
          Pinned
        </Button>
        <Button className={classes.toggle} aria-expanded={asking === 'merge'} disabled={busy} onClick={() => setAsking(asking === 'merge' ? undefined : 'merge')}>
          Merge…
        </Button>
        {p.variables > 0 && (
          <Button className={classes.toggle} aria-expanded={asking === 'split'} disabled={busy} onClick={() => setAsking(asking === 'split' ? undefined : 'split')}>
            Split…
          </Button>
        )}
      </Row>
      {asking === 'merge' && <MergeChoice pattern={p} onChoose={(merge_with) => order({ merge_with })} />}
      {asking === 'split' && (
        <div className={classes.choice} role="group" aria-label="Split at which variable?">
          <p>Each text at this place gets a pattern of its own from now on:</p>
          {Array.from({ length: p.variables }, (_, i) => (
            <Button key={i} onClick={() => order({ split_at: i })}>
              <bdi>{plainText(aroundVariable(p.template, i))}</bdi>
            </Button>
          ))}
        </div>
      )}
      <Row>
        <Quiet>Alarms on its lines are</Quiet>
        <SegmentedControl
          aria-label="Severity of alarms on its lines"
          value={p.severity || 'score'}
          disabled={busy}
          onChange={(value) => order({ severity: value === 'score' ? '' : (value as LogPattern['severity']) })}
          data={[
            { value: 'score', label: 'by score' },
            { value: 'info', label: 'info' },
            { value: 'warning', label: 'warning' },
            { value: 'critical', label: 'critical' },
          ]}
        />
      </Row>
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={busy} />}
    </Block>
  );
}

const candidates = 8;

/** Finds the pattern to merge with. */
function MergeChoice({ pattern: p, onChoose }: { pattern: LogPattern; onChoose: (id: string) => void }) {
  const [text, setText] = useState('');
  const query = useInfiniteQuery(patternsQuery({ text, level: undefined, sort: '-count' }));
  const others = (query.data?.pages[0]?.items ?? []).filter((o) => o.id !== p.id).slice(0, candidates);
  return (
    <div className={classes.choice} role="group" aria-label="Merge with which pattern?">
      <TextInput aria-label="Find the pattern to merge with" placeholder="Words of the pattern to merge with" value={text} maxLength={200} onChange={(event) => setText(event.currentTarget.value)} />
      {query.isError && <ProblemView error={query.error} what="the log patterns" onRetry={query.refetch} retrying={query.isFetching} />}
      {query.data && others.length === 0 && <p>No other pattern has these words.</p>}
      {others.map((o) => (
        <button key={o.id} type="button" className={classes.candidate} onClick={() => onChoose(o.id)}>
          <Template template={o.template} /> <Quiet>{formatCount(o.count)} lines</Quiet>
        </button>
      ))}
    </div>
  );
}

const shownSeconds = 86_400;

/** The newest lines of the pattern, or its examples where lines are not kept. */
function Lines({ pattern: p }: { pattern: LogPattern }) {
  const kept = p.sources.includes('builtin');
  const query = useInfiniteQuery({
    ...linesQuery({ source: 'builtin', selector: '', contains: '', level: undefined, pattern: p.id, at: undefined, seconds: shownSeconds }),
    enabled: kept,
  });
  const lines = query.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <Block label="Lines of the pattern">
      <Heading>{kept ? 'Newest lines' : 'Examples'}</Heading>
      {kept && (
        <Async query={query} pace={(query.data?.pages.length ?? 0) > 1 ? pace.never : pace.logs} what="the lines" rows={6} isEmpty={() => lines.length === 0} empty={<p>No line of the last day is kept.</p>}>
          {() => (
            <>
              <LineList lines={lines} label="Lines of the pattern, newest first" streams={p.streams.length !== 1} />
              {query.hasNextPage && (
                <Button className={classes.more} onClick={() => void query.fetchNextPage()} loading={query.isFetchingNextPage}>
                  Show older
                </Button>
              )}
            </>
          )}
        </Async>
      )}
      {!kept && <ul>{p.examples.map((text, i) => <li key={i} className={classes.example}>{plainText(text)}</li>)}</ul>}
    </Block>
  );
}
