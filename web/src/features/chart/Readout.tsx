import { formatBand, formatScore, formatValue } from '../../shared/format/number';
import { formatStamp, formatClock } from '../../shared/format/time';
import type { Unit } from '../../shared/format/unit';
import { lastRow, verdictAt, type Columns, type Verdict } from './columns';
import classes from './Readout.module.css';

interface ReadoutProps {
  columns: Columns;
  /** The row under the pointer, or null for the latest one. */
  row: number | null;
  unit: Unit;
  /** The series still learns. */
  learning?: boolean;
  now: number;
}

const words: Record<Verdict, string> = { normal: 'normal', anomalous: 'anomalous', learning: 'learning', 'no data': 'no data' };

/** The numbers of one moment of a chart, as text. It is announced only when asked for with the arrow keys. */
export function Readout({ columns, row, unit, learning, now }: ReadoutProps) {
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
    </dl>
  );
}

function Fact({ name, value, strong, wide }: { name: string; value: string; strong?: boolean; wide?: boolean }) {
  return (
    <div className={classes.fact} data-wide={wide || undefined}>
      <dt>{name}</dt>
      <dd className={strong ? classes.strong : undefined}>{value}</dd>
    </div>
  );
}
