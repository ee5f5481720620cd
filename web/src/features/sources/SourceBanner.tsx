import { useQuery } from '@tanstack/react-query';
import { sourcesQuery } from '../../shared/api/queries';
import type { Source } from '../../shared/api/types';
import { formatAgo, formatStamp, parseTime } from '../../shared/format/time';
import { plainText, sentence } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { Icon } from '../../shared/ui/icons';
import classes from './SourceBanner.module.css';
import { summarise } from './summary';

const meaning: Record<string, string> = {
  down: 'does not answer',
  stale: 'answers, but its data stopped moving',
  degraded: 'answers slowly or partly',
};

/** Says that a source cannot be relied on and what that means: no data is not health. */
export function SourceBanner() {
  const { data } = useQuery(sourcesQuery());
  const now = useNow();
  if (!data) return null;
  const { lost, degraded } = summarise(data);
  if (lost.length === 0 && degraded.length === 0) return null;
  return (
    <div className={classes.banner} data-tone={lost.length > 0 ? 'bad' : 'warning'} role="alert">
      <Icon name="alert" size={16} />
      <div>
        {lost.length > 0 && (
          <p className={classes.headline}>
            No data is not health: open anomalies are held, nothing is resolved, and learning rests until the data is back.
          </p>
        )}
        <ul>
          {[...lost, ...degraded].map((s) => (
            <li key={s.id}>
              <Line source={s} now={now} />
            </li>
          ))}
        </ul>
      </div>
    </div>
  );
}

function Line({ source, now }: { source: Source; now: number }) {
  const since = parseTime(source.health.since);
  return (
    <>
      Source <bdi className={classes.name}>{plainText(source.name)}</bdi> {meaning[source.health.state]} since {formatStamp(since, now)} ({formatAgo(since, now)}).
      {source.health.last_error && <> {sentence(source.health.last_error)}</>}
    </>
  );
}
