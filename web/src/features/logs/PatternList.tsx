import { Button, SegmentedControl } from '@mantine/core';
import { useInfiniteQuery } from '@tanstack/react-query';
import { patternsQuery } from '../../shared/api/queries';
import type { LogPattern } from '../../shared/api/types';
import { formatCount } from '../../shared/format/number';
import { formatAgo, parseTime } from '../../shared/format/time';
import { counted, plainText } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { useGo } from '../../shared/ui/Go';
import { Panel } from '../../shared/ui/Panel';
import { LinkRow, RowHeads, RowsEnd } from '../../shared/ui/Rows';
import type { LogLevel, PatternOrder } from '../../shared/ui/search';
import { SearchInput } from '../../shared/ui/SearchInput';
import { Quiet } from '../../shared/ui/Sections';
import { levelTone } from '../../shared/ui/states';
import { useDraft } from '../../shared/ui/useDraft';
import classes from './PatternList.module.css';
import { Sparkline } from './Sparkline';
import { Template } from './Template';

interface PatternListProps {
  /** Part of the template or the name. */
  filter: string;
  level: LogLevel | undefined;
  order: PatternOrder | undefined;
  /** Id of the pattern whose details are open. */
  opened: string | undefined;
  className?: string;
}

const sorts = { new: '-first_seen', last: '-last_seen', most: '-count' } as const;

/** The patterns of log lines, as links that open their details. */
export function PatternList({ filter, level, order, opened, className }: PatternListProps) {
  const go = useGo();
  const now = useNow();
  const [draft, setDraft] = useDraft(filter, (text) => go({ patterns: text || undefined }, { replace: true }));
  const query = useInfiniteQuery(patternsQuery({ text: filter, level, sort: sorts[order ?? 'most'] }));
  const items = query.data?.pages.flatMap((p) => p.items) ?? [];
  const narrowed = filter !== '' || level !== undefined;

  return (
    <Panel
      className={className}
      title="Log patterns"
      scroll
      actions={
        <div className={classes.controls}>
          <SegmentedControl
            aria-label="Of which level"
            value={level ?? 'all'}
            onChange={(value) => go({ level: value === 'all' ? undefined : (value as LogLevel) })}
            data={[
              { value: 'all', label: 'All' },
              { value: 'info', label: 'Info' },
              { value: 'warn', label: 'Warn' },
              { value: 'error', label: 'Error' },
            ]}
          />
          <SegmentedControl
            aria-label="Which come first"
            value={order ?? 'most'}
            onChange={(value) => go({ order: value === 'most' ? undefined : (value as PatternOrder) })}
            data={[
              { value: 'most', label: 'Most lines' },
              { value: 'new', label: 'New' },
              { value: 'last', label: 'Seen last' },
            ]}
          />
        </div>
      }
      tools={
        <SearchInput label="Filter patterns" placeholder="Filter by words of the pattern or its name" value={draft} maxLength={200} onChange={setDraft} />
      }
    >
      <Async
        query={query}
        pace={(query.data?.pages.length ?? 0) > 1 ? pace.never : pace.logs}
        what="the log patterns"
        rows={8}
        isEmpty={() => items.length === 0}
        empty={
          narrowed ? (
            <p>No pattern matches this filter.</p>
          ) : (
            <>
              <p>No log lines yet.</p>
              <p>Send them to /loki/api/v1/push or /v1/logs, name files to follow under builtin.files, or add a source of type loki.</p>
            </>
          )
        }
      >
        {() => (
          <div className={classes.rows}>
            <RowHeads heads={['Level', 'Pattern', 'Last hour', 'Lines', 'Seen']} />
            <ul>
              {items.map((p) => (
                <li key={p.id}>
                  <Row pattern={p} now={now} opened={p.id === opened} />
                </li>
              ))}
            </ul>
            {query.hasNextPage && (
              <RowsEnd>
                <Button onClick={() => void query.fetchNextPage()} loading={query.isFetchingNextPage}>
                  Show more
                </Button>
              </RowsEnd>
            )}
          </div>
        )}
      </Async>
    </Panel>
  );
}

/** How long a pattern is called new. */
const newFor = 10 * 60_000;

function Row({ pattern: p, now, opened }: { pattern: LogPattern; now: number; opened: boolean }) {
  const first = parseTime(p.first_seen);
  const from = p.streams.length === 1 ? plainText(Object.values(p.streams[0]!).join(' ')) : p.streams.length > 1 ? counted(p.streams.length, 'stream', 'streams') : '';
  return (
    <LinkRow change={{ pattern: p.id }} opened={opened}>
      <span className={classes.level}>{p.level ? <Badge tone={levelTone(p.level)}>{p.level}</Badge> : <Quiet>no level</Quiet>}</span>
      <span className={classes.what}>
        {p.name && <bdi className={classes.name}>{plainText(p.name)}</bdi>}
        <span className={classes.template}>
          <Template template={p.template} />
        </span>
        <span className={classes.marks}>
          {now - first < newFor && <Badge tone="learning">new</Badge>}
          {p.pinned && <span>pinned</span>}
          {p.expected && <span>expected: raises no alarm</span>}
          {p.severity && <span>alarms are {p.severity}</span>}
          {from !== '' && <span>in {from}</span>}
        </span>
      </span>
      <span className={classes.spark}>
        <Sparkline counts={p.sparkline} stepSeconds={p.spark_step_seconds} />
      </span>
      <span className={classes.count}>{formatCount(p.count)}</span>
      <span className={classes.when}>
        <span>{formatAgo(parseTime(p.last_seen), now)}</span>
        <Quiet>first {formatAgo(first, now)}</Quiet>
      </span>
    </LinkRow>
  );
}
