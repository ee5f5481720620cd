import type { Detector } from '../../shared/api/types';
import { formatCount, formatScore, formatValue } from '../../shared/format/number';
import { plainText } from '../../shared/format/text';
import { Badge } from '../../shared/ui/Badge';
import { Block, Facts, Quiet, Row } from '../../shared/ui/Sections';
import { detectorTone } from '../../shared/ui/states';
import classes from './Life.module.css';
import { Training } from './Training';
import { warmUp } from './words';

/** What the detector does now, how much it knows, and when and why it was trained. */
export function Standing({ detector: d }: { detector: Detector }) {
  const s = d.status;
  const short = warmUp(d);
  return (
    <Block label="State">
      <Row>
        <Badge tone={detectorTone[s.state]}>{s.state}</Badge>
        {s.node && <Quiet>evaluated by node {plainText(s.node)}</Quiet>}
      </Row>
      <p className={classes.name}>
        <bdi>{plainText(d.name)}</bdi>
      </p>
      <code className={classes.query}>{plainText(d.query)}</code>
      {s.last_error && <p className={classes.bad}>The last evaluation failed: {plainText(s.last_error)}</p>}
      {short.length > 0 && (
        <ul className={classes.warnings} aria-label="What it still lacks">
          {short.map((text) => (
            <li key={text}>{text}</li>
          ))}
        </ul>
      )}
      <Facts
        facts={[
          ['Series', formatCount(s.series_active)],
          ['Threshold', s.threshold == null ? 'not known yet' : `score ${formatScore(s.threshold)}`],
          ['False alarms', `${formatValue(d.false_alarms_per_week)} a week`],
          ['Model', plainText(d.model)],
        ]}
      />
      <Training detector={d} />
    </Block>
  );
}
