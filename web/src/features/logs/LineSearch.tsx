import { Button, SegmentedControl, TextInput } from '@mantine/core';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { linesQuery, sourcesQuery } from '../../shared/api/queries';
import { formatDayClock, parseTime } from '../../shared/format/time';
import { plainText } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async } from '../../shared/ui/Async';
import { Go, useGo } from '../../shared/ui/Go';
import { Panel } from '../../shared/ui/Panel';
import { rangeNames, ranges, type RangeName } from '../../shared/ui/ranges';
import type { LogLevel } from '../../shared/ui/search';
import { SearchInput } from '../../shared/ui/SearchInput';
import { useDraft } from '../../shared/ui/useDraft';
import { LineList } from './LineList';
import classes from './LineSearch.module.css';

interface LineSearchProps {
  source: string | undefined;
  /** Labels of the streams, as text. */
  selector: string;
  /** Part of the line. */
  text: string;
  level: LogLevel | undefined;
  range: RangeName;
  /** The time that lines are shown from, instead of the newest ones. */
  at: string | undefined;
  className?: string;
}

/** How far lines from a given time on are looked for, in seconds. */
const onwards = 3600;

/** The lines that are kept, searched by labels, text, level and time. */
export function LineSearch({ source, selector, text, level, range, at, className }: LineSearchProps) {
  const go = useGo();
  const now = useNow();
  const sources = useQuery(sourcesQuery());
  const names = ['builtin', ...(sources.data ?? []).filter((s) => s.type === 'loki').map((s) => s.name)];
  const [streamDraft, setStream] = useDraft(selector, (value) => go({ stream: value || undefined }, { replace: true }));
  const [textDraft, setText] = useDraft(text, (value) => go({ text: value || undefined }, { replace: true }));
  const from = at === undefined ? NaN : parseTime(at);
  const since = Number.isFinite(from) ? from : undefined;
  const query = useInfiniteQuery(
    linesQuery({ source: source ?? 'builtin', selector, contains: text, level, pattern: '', at: since, seconds: since === undefined ? ranges[range].seconds : onwards }),
  );
  const lines = query.data?.pages.flatMap((p) => p.items) ?? [];
  const paged = (query.data?.pages.length ?? 0) > 1;

  return (
    <Panel
      className={className}
      title="Lines"
      scroll
      actions={
        <div className={classes.controls}>
          {names.length > 1 && (
            <SegmentedControl
              aria-label="Of which source"
              value={source ?? 'builtin'}
              onChange={(value) => go({ source: value === 'builtin' ? undefined : value, stream: undefined })}
              data={names.map((name) => ({ value: name, label: plainText(name) }))}
            />
          )}
          {since === undefined ? (
            <SegmentedControl aria-label="Range of the lines" value={range} onChange={(value) => go({ range: value })} data={rangeNames.map((name) => ({ value: name, label: ranges[name].label }))} />
          ) : (
            <span className={classes.since}>
              from {formatDayClock(since, now)} on <Go change={{ at: undefined }}>show the newest</Go>
            </span>
          )}
        </div>
      }
      tools={
        <div className={classes.fields}>
          <TextInput
            aria-label="Labels of the streams"
            placeholder={source && source !== 'builtin' ? '{app="checkout"} |= "refused"' : '{service="checkout"}'}
            value={streamDraft}
            maxLength={2000}
            spellCheck={false}
            onChange={(event) => setStream(event.currentTarget.value)}
          />
          <SearchInput label="Text in the line" placeholder="Text in the line" value={textDraft} maxLength={1000} onChange={setText} />
        </div>
      }
    >
      <Async
        query={query}
        pace={paged || since !== undefined ? pace.never : pace.logs}
        what="the lines"
        rows={8}
        isEmpty={() => lines.length === 0}
        empty={<p>No line of this kind {since === undefined ? `in ${ranges[range].name}` : 'in the hour after that time'}.</p>}
      >
        {() => (
          <div className={classes.lines}>
            <LineList lines={lines} label={since === undefined ? 'Lines, newest first' : 'Lines, oldest first'} streams patterns />
            {query.hasNextPage && (
              <div className={classes.more}>
                <Button onClick={() => void query.fetchNextPage()} loading={query.isFetchingNextPage}>
                  {since === undefined ? 'Show older' : 'Show later'}
                </Button>
              </div>
            )}
          </div>
        )}
      </Async>
    </Panel>
  );
}
