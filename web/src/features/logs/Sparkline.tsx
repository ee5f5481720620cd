import classes from './Sparkline.module.css';

interface SparklineProps {
  /** Lines in each step, oldest first. */
  counts: readonly number[];
  stepSeconds: number;
}

/** How many lines there were lately, as bars of a height that follows the largest. */
export function Sparkline({ counts, stepSeconds }: SparklineProps) {
  const most = Math.max(0, ...counts);
  const minutes = Math.round((counts.length * stepSeconds) / 60);
  const label = most === 0 ? `No lines in the last ${minutes} minutes` : `Lines in the last ${minutes} minutes, at most ${most.toLocaleString('en-US')} in ${Math.round(stepSeconds / 60)} minutes`;
  return (
    <svg className={classes.sparkline} viewBox={`0 0 ${Math.max(1, counts.length) * 3} 20`} preserveAspectRatio="none" role="img" aria-label={label}>
      {counts.map((n, i) => n > 0 && <rect key={i} x={i * 3} width="2" y={20 - Math.max(1, (20 * n) / most)} height={Math.max(1, (20 * n) / most)} />)}
    </svg>
  );
}
