import { Button } from '@mantine/core';
import { useState, type ReactNode } from 'react';
import type { Anomaly, Explanation } from '../../shared/api/types';
import { fieldName } from '../../shared/format/definition';
import { formatScore, formatValue } from '../../shared/format/number';
import { formatStamp, parseTime } from '../../shared/format/time';
import { counted, plainText, sentence } from '../../shared/format/text';
import type { Unit } from '../../shared/format/unit';
import { useNow } from '../../shared/live/clock';
import { LabelList } from '../../shared/ui/LabelList';
import { Block, Facts, Heading, Items, Quiet, Row } from '../../shared/ui/Sections';
import { counterfactual, labelWord, timing } from './describe';
import classes from './Explain.module.css';

interface ExplainProps {
  explanation: Explanation;
  unitFor: (detectorId: string) => Unit;
  /** What log lines say about it. */
  logs?: ReactNode;
  anomalyLink: (id: string, children: ReactNode) => ReactNode;
  seriesLink: (detectorId: string, key: string, children: ReactNode) => ReactNode;
}

type Links = Pick<ExplainProps, 'anomalyLink' | 'seriesLink'>;

/** Why the anomaly is one: how sure that is, what would have been normal, what else moved, what was like it, and the evidence. */
export function Explain({ explanation: e, unitFor, logs, ...links }: ExplainProps) {
  const flip = counterfactual(e, unitFor(e.anomaly.detector_id));
  return (
    <Block>
      <Heading>Why</Heading>
      {e.summary && <p>{sentence(e.summary)}</p>}
      {flip && <p className={classes.counterfactual}>{flip}</p>}
      {e.probability && (
        <>
          <Heading>How sure</Heading>
          <p>{sentence(e.probability)}</p>
        </>
      )}
      {logs}
      <AlsoMoved explanation={e} unitFor={unitFor} {...links} />
      <Similar explanation={e} unit={unitFor(e.anomaly.detector_id)} {...links} />
      <Contributions explanation={e} />
      <Evidence explanation={e} />
    </Block>
  );
}

/** How many of the series that moved are shown at first. */
const shownMoved = 6;

function AlsoMoved({ explanation: e, unitFor, anomalyLink, seriesLink }: Links & { explanation: Explanation; unitFor: (detectorId: string) => Unit }) {
  const now = useNow();
  const [all, setAll] = useState(false);
  if (e.also_moved.length === 0) {
    return (
      <>
        <Heading>What else moved</Heading>
        <Quiet>Nothing else stood out around that time.</Quiet>
      </>
    );
  }
  return (
    <>
      <Heading>What else moved</Heading>
      <Items label="What else moved, most telling first">
        {e.also_moved.slice(0, all ? undefined : shownMoved).map((m, i) => {
          const unit = unitFor(m.detector_id);
          return (
            <li key={i}>
              {m.anomaly_id ? anomalyLink(m.anomaly_id, plainText(m.detector_name)) : seriesLink(m.detector_id, m.series.key, plainText(m.detector_name))}
              {m.value != null && (
                <span>
                  {formatValue(m.value, unit)}
                  {m.expected != null && ` instead of ${formatValue(m.expected, unit)}`}
                </span>
              )}
              <Quiet>
                {formatStamp(parseTime(m.at), now)}
                {m.anomaly_id ? '' : ', no alarm'}
                {m.shared_labels > 0 && `, ${counted(m.shared_labels, 'label', 'labels')} in common`}
              </Quiet>
              <LabelList labels={m.series.labels} />
            </li>
          );
        })}
      </Items>
      {!all && e.also_moved.length > shownMoved && (
        <Row>
          <Button onClick={() => setAll(true)}>Show all {e.also_moved.length}</Button>
        </Row>
      )}
    </>
  );
}

function Similar({ explanation: e, unit, anomalyLink }: Pick<Links, 'anomalyLink'> & { explanation: Explanation; unit: Unit }) {
  const now = useNow();
  return (
    <>
      <Heading>Earlier episodes like it</Heading>
      {e.similar.length === 0 && <Quiet>None is stored of this detector.</Quiet>}
      {e.similar.length > 0 && (
        <Items label="Earlier episodes, most similar first">
          {e.similar.map((a) => (
            <li key={a.id}>
              {anomalyLink(a.id, formatStamp(parseTime(a.started_at), now))}
              <span>{valueOf(a, unit)}</span>
              <Quiet>
                {[timing(a, now).detail, a.why && plainText(a.why), a.label == null ? 'nobody judged it' : `a ${labelWord(a.label)}`].filter(Boolean).join(', ')}
              </Quiet>
              <LabelList labels={a.series.labels} />
            </li>
          ))}
        </Items>
      )}
    </>
  );
}

function valueOf(a: Pick<Anomaly, 'value' | 'expected'>, unit: Unit): string {
  return a.expected == null ? formatValue(a.value, unit) : `${formatValue(a.value, unit)} instead of ${formatValue(a.expected, unit)}`;
}

function Contributions({ explanation: e }: { explanation: Explanation }) {
  if (e.contributions.length === 0) return null;
  return (
    <>
      <Heading>What the score is made of</Heading>
      <ul className={classes.contributions}>
        {e.contributions.map((c) => (
          <li key={c.name}>
            <span>{plainText(c.name)}</span>
            <span className={classes.share}>{percent(c.share).toFixed(0)} %</span>
            <svg width="100%" height="4" aria-hidden="true">
              <rect className={classes.track} width="100%" height="4" rx="2" />
              <rect className={classes.fill} width={`${percent(c.share).toFixed(1)}%`} height="4" rx="2" />
            </svg>
            {c.note && (
              <span className={classes.note}>
                <Quiet>{plainText(c.note)}</Quiet>
              </span>
            )}
          </li>
        ))}
      </ul>
    </>
  );
}

function Evidence({ explanation: e }: { explanation: Explanation }) {
  const now = useNow();
  const [from, to] = [parseTime(e.trained_from), parseTime(e.trained_to)];
  const gates = e.gates ?? [];
  return (
    <>
      {gates.length > 0 && (
        <>
          <Heading>What it had to pass</Heading>
          <Facts lines facts={gates.map((g) => [fieldName(g.name), plainText(g.detail)])} />
        </>
      )}
      <Heading>Evidence</Heading>
      <Quiet>
        {e.reproduced
          ? 'Computed again from the stored evidence: the same result, bit for bit.'
          : `Computing it again from the stored evidence gave another result. ${plainText(e.difference ?? '')}`}
      </Quiet>
      <Facts
        lines
        facts={[
          ['Model', `${plainText(e.model)}, version ${e.model_version}`],
          Number.isFinite(from) && Number.isFinite(to) ? ['Trained on', `${formatStamp(from, now)} to ${formatStamp(to, now)}`] : undefined,
          ['Definition', `version ${e.detector_version}`],
          gates.some((g) => g.name === 'threshold') ? undefined : ['Threshold', `score ${formatScore(e.threshold)}`],
          ['Budget', `shared by ${counted(e.series_active, 'series', 'series')}`],
        ]}
      />
    </>
  );
}

/** A share of 0 to 1 as percent; an unknown one is none. */
function percent(share: number | null): number {
  return Math.min(100, Math.max(0, 100 * (share ?? 0)));
}
