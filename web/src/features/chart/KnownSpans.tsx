import { Button } from '@mantine/core';
import { useState } from 'react';
import { plainText } from '../../shared/format/text';
import { formatStamp } from '../../shared/format/time';
import type { Span } from './known';
import classes from './KnownSpans.module.css';

const shown = 3;

/** The known events of a chart as text, the latest begin first: what its bands are, for those who cannot see them too. */
export function KnownSpans({ spans, now }: { spans: readonly Span[]; now: number }) {
  const [all, setAll] = useState(false);
  if (spans.length === 0) return null;
  return (
    <div className={classes.known}>
      <ul aria-label="Known events in this range">
        {spans
          .toReversed()
          .slice(0, all ? undefined : shown)
          .map((s) => (
            <li key={s.id}>
              <bdi>{plainText(s.name)}</bdi>
              <span>
                <Moment at={s.begin} now={now} /> to <Moment at={s.end} now={s.begin * 1000} />
              </span>
              <span>{s.mute ? 'no alarms meanwhile' : 'alarms go on'}</span>
            </li>
          ))}
      </ul>
      {!all && spans.length > shown && (
        <Button size="compact-xs" onClick={() => setAll(true)}>
          Show {spans.length - shown} more known events
        </Button>
      )}
    </div>
  );
}

function Moment({ at, now }: { at: number; now: number }) {
  return <time dateTime={new Date(at * 1000).toISOString()}>{formatStamp(at * 1000, now)}</time>;
}
