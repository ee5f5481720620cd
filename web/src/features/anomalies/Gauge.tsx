import type { Anomaly } from '../../shared/api/types';
import { gauge } from './describe';
import classes from './Gauge.module.css';

/** A line with the band of normal values and a mark at the value. The same is beside it in words. */
export function Gauge({ anomaly }: { anomaly: Anomaly }) {
  const g = gauge(anomaly);
  if (!g) return null;
  const percent = (x: number) => `${(100 * x).toFixed(2)}%`;
  return (
    <svg className={classes.gauge} aria-hidden="true" focusable="false" width="100%" height="14">
      <rect className={classes.line} x="0" y="6" width="100%" height="2" rx="1" />
      <rect className={classes.band} x={percent(g.low)} y="2" width={percent(Math.max(g.high - g.low, 0.01))} height="10" rx="2" />
      {g.expected != null && <rect className={classes.expected} x={percent(g.expected)} y="2" width="1.5" height="10" />}
      <circle className={classes.value} cx={percent(g.value)} cy="7" r="4.5" />
    </svg>
  );
}
