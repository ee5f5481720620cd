import type { LogLine } from '../../shared/api/types';
import { formatDayClock, parseTime } from '../../shared/format/time';
import { plainLines, plainText } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { Badge } from '../../shared/ui/Badge';
import { Go } from '../../shared/ui/Go';
import { LabelList } from '../../shared/ui/LabelList';
import { levelTone } from '../../shared/ui/states';
import classes from './LineList.module.css';

interface LineListProps {
  lines: readonly LogLine[];
  /** What the lines are, for screen readers. */
  label: string;
  /** Shows the labels of each line's stream; without it they stand elsewhere. */
  streams?: boolean;
  /** Links each line to its pattern. */
  patterns?: boolean;
}

/**
 * Log lines. Their text is written by whoever the watched workload talks to:
 * text nodes only, controls and direction marks written out.
 */
export function LineList({ lines, label, streams, patterns }: LineListProps) {
  const now = useNow();
  return (
    <ol className={classes.list} aria-label={label}>
      {lines.map((l, i) => (
        <li key={i} className={classes.line}>
          <span className={classes.head}>
            <time dateTime={l.t}>{formatDayClock(parseTime(l.t), now)}</time>
            {l.level && <Badge tone={levelTone(l.level)}>{plainText(l.level)}</Badge>}
            {streams && <LabelList labels={l.stream} />}
            {l.logger && <span className={classes.quiet}>{plainText(l.logger)}</span>}
            {patterns && l.pattern && (
              <Go change={{ pattern: l.pattern }} className={classes.pattern}>
                pattern
              </Go>
            )}
          </span>
          <bdi className={classes.text}>
            {plainLines(l.text)}
            {l.cut && <span className={classes.quiet}> … cut here, the line was longer</span>}
          </bdi>
        </li>
      ))}
    </ol>
  );
}
