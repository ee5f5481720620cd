import type { ReactNode } from 'react';
import { formatBand, formatScore, formatValue } from '../../shared/format/number';
import { plainText } from '../../shared/format/text';
import { formatStamp, formatClock } from '../../shared/format/time';
import type { Unit } from '../../shared/format/unit';
import { lastRow, verdictAt, type Columns, type Verdict } from './columns';
import { spansAt, type Span } from './known';
import classes from './Readout.module.css';

interface ReadoutProps {
  columns: Columns;
  /** The row under the pointer, or null for the latest one. */
  row: number | null;
  unit: Unit;
  /** The series still learns. */
  learning?: boolean;
  /** The known events of the chart. */
  known: readonly Span[];
  now: number;
}

const words: Record<Verdict, string> = { normal: 'normal', anomalous: 'anomalous', learning: 'learning', 'no data': 'no data' };

/** The numbers of one moment of a chart, as text. It is announced only when asked for with the arrow keys. */
export function Readout({ columns, row, unit, learning, known, now }: ReadoutProps) {
  const i = row ?? lastRow(columns);
  if (i < 0 || i >= columns.t.length) return <p className={classes.readout}>No value in this range.</p>;
  const at = columns.t[i]! * 1000;
  const verdict = verdictAt(columns, i, learning);
  const day = formatStamp(at, now);
  return (
    <dl className={classes.readout} aria-live={row == null ? 'off' : 'polite'} aria-atomic="true">
      <Fact name={row == null ? 'latest' : 'at'} value={day.includes(',') ? `${day.split(',')[0]}, ${formatClock(at)}` : formatClock(at)} />
      <Fact name="value" value={formatValue(columns.value[i], unit)} strong />
      <Fact name="expected" value={formatValue(columns.expected[i], unit)} />
      <Fact name="normal" value={formatBand(columns.lower[i], columns.upper[i], unit)} wide />
      <Fact name="score" value={formatScore(columns.score[i])} />
      <div className={classes.fact}>
        <dt>verdict</dt>
        <dd className={classes.verdict} data-verdict={verdict}>
          {words[verdict]}
        </dd>
      </div>
      {known.length > 0 && <Fact name="known event" value={<Names spans={spansAt(known, at / 1000)} />} wide />}
    </dl>
  );
}

/** The names of known events; where there is none the place stays, so that nothing moves under the pointer. */
function Names({ spans }: { spans: readonly Span[] }) {
  if (spans.length === 0) return 'none';
  return (
    <span className={classes.names}>
      {spans.map((s, i) => (
        <span key={s.id}>
          {i > 0 && ', '}
          <bdi>{plainText(s.name)}</bdi>
        </span>
      ))}
    </span>
  );
}

function Fact({ name, value, strong, wide }: { name: string; value: ReactNode; strong?: boolean; wide?: boolean }) {
  return (
    <div className={classes.fact} data-wide={wide || undefined}>
      <dt>{name}</dt>
      <dd className={strong ? classes.strong : undefined}>{value}</dd>
    </div>
  );
}
