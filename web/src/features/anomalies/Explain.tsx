import type { ReactNode } from 'react';
import type { Explanation } from '../../shared/api/types';
import { formatScore } from '../../shared/format/number';
import { formatStamp, parseTime } from '../../shared/format/time';
import { plainText, sentence } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { LabelList } from '../../shared/ui/LabelList';
import { labelWord, timing } from './describe';
import classes from './Explain.module.css';

interface ExplainProps {
  explanation: Explanation;
  /** What log lines say about it. */
  logs?: ReactNode;
  anomalyLink: (id: string, children: ReactNode) => ReactNode;
  seriesLink: (detectorId: string, key: string, children: ReactNode) => ReactNode;
}

/** Why the anomaly is one: the counterfactual, what the score is made of, what else moved, and the evidence. */
export function Explain({ explanation: e, logs, anomalyLink, seriesLink }: ExplainProps) {
  const now = useNow();
  return (
    <div className={classes.explain}>
      <h3>Why</h3>
      {e.summary && <p>{sentence(e.summary)}</p>}
      {e.counterfactual && <p className={classes.counterfactual}>{sentence(e.counterfactual)}</p>}

      {logs}

      {e.contributions.length > 0 && (
        <>
          <h3>What the score is made of</h3>
          <ul className={classes.contributions}>
            {e.contributions.map((c) => (
              <li key={c.name}>
                <span>{plainText(c.name)}</span>
                <span className={classes.share}>{percent(c.share).toFixed(0)} %</span>
                <svg width="100%" height="4" aria-hidden="true">
                  <rect className={classes.track} width="100%" height="4" rx="2" />
                  <rect className={classes.fill} width={`${percent(c.share).toFixed(1)}%`} height="4" rx="2" />
                </svg>
                {c.note && <span className={classes.note}>{plainText(c.note)}</span>}
              </li>
            ))}
          </ul>
        </>
      )}

      <h3>What else moved</h3>
      {e.also_moved.length === 0 ? (
        <p className={classes.note}>Nothing else stood out around that time.</p>
      ) : (
        <ul className={classes.moved}>
          {e.also_moved.map((m, i) => (
            <li key={i}>
              {m.anomaly_id ? anomalyLink(m.anomaly_id, plainText(m.detector_name)) : seriesLink(m.detector_id, m.series.key, plainText(m.detector_name))}
              <span className={classes.note}>
                score {formatScore(m.score)}, {formatStamp(parseTime(m.at), now)}
              </span>
              <LabelList labels={m.series.labels} />
            </li>
          ))}
        </ul>
      )}

      {e.similar.length > 0 && (
        <>
          <h3>Earlier episodes</h3>
          <ul className={classes.moved}>
            {e.similar.map((a) => (
              <li key={a.id}>
                {anomalyLink(a.id, formatStamp(parseTime(a.started_at), now))}
                <span className={classes.note}>
                  {Object.values(timing(a, now)).join(', ')}
                  {a.label != null && `, ${labelWord(a.label)}`}
                </span>
                <LabelList labels={a.series.labels} />
              </li>
            ))}
          </ul>
        </>
      )}

      <h3>Evidence</h3>
      <p className={classes.note}>
        {e.reproduced
          ? 'Computed again from the stored evidence: the same result, bit for bit.'
          : `Computing it again from the stored evidence gave another result. ${plainText(e.difference ?? '')}`}
      </p>
      <dl className={classes.evidence}>
        <div>
          <dt>Model</dt>
          <dd>
            {plainText(e.model)}, version {e.model_version}
          </dd>
        </div>
        <div>
          <dt>Definition</dt>
          <dd>version {e.detector_version}</dd>
        </div>
        <div>
          <dt>Threshold</dt>
          <dd>
            score {formatScore(e.threshold)}, shared by {e.series_active.toLocaleString('en-US')} series
          </dd>
        </div>
      </dl>
    </div>
  );
}

/** A share of 0 to 1 as percent; an unknown one is none. */
function percent(share: number | null): number {
  return Math.min(100, Math.max(0, 100 * (share ?? 0)));
}
