import { labelPairs, metricName, type Labels } from '../format/series';
import { plainText } from '../format/text';
import classes from './LabelList.module.css';

/**
 * The labels of a series. They are written by whoever runs the watched
 * workload: text only, each isolated from the direction of the text around it.
 */
export function LabelList({ labels }: { labels: Labels }) {
  const pairs = labelPairs(labels);
  const name = labels[metricName];
  if (!name && pairs.length === 0) return <span className={classes.none}>the only series</span>;
  return (
    <span className={classes.list}>
      {name && <bdi className={classes.name}>{plainText(name)}</bdi>}
      {pairs.map(([n, v]) => (
        <bdi key={n} className={classes.pair} title={plainText(`${n}=${v}`)}>
          <span className={classes.key}>{plainText(n)}=</span>
          {plainText(v)}
        </bdi>
      ))}
    </span>
  );
}
