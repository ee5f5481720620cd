import type { LogEvidence as Evidence, LogLine } from '../../shared/api/types';
import { formatCount, formatValue } from '../../shared/format/number';
import { seriesKey } from '../../shared/format/series';
import { parseTime } from '../../shared/format/time';
import { plainText } from '../../shared/format/text';
import { Badge } from '../../shared/ui/Badge';
import { Go } from '../../shared/ui/Go';
import { Block, Heading, Items, Quiet } from '../../shared/ui/Sections';
import { linesFrom } from '../../shared/ui/search';
import { levelTone } from '../../shared/ui/states';
import { LineList } from './LineList';
import classes from './LogEvidence.module.css';
import { Template } from './Template';

/** What lines say about an anomaly: its patterns, lines from before, during and after it, and what moved with it. */
export function LogEvidence({ evidence: e, startedAt }: { evidence: Evidence; startedAt: string }) {
  const lines = [...e.before, ...e.during, ...e.after];
  return (
    <Block>
      {e.patterns.length > 0 && (
        <>
          <Heading>Log patterns</Heading>
          <Items>
            {e.patterns.map((p) => (
              <li key={p.id}>
                {p.level && <Badge tone={levelTone(p.level)}>{p.level}</Badge>}
                <Go change={{ view: 'logs', pattern: p.id, anomaly: undefined }}>
                  {p.name ? plainText(p.name) : <Template template={p.template} />}
                </Go>
                <Quiet>{formatCount(p.count)} lines</Quiet>
              </li>
            ))}
          </Items>
        </>
      )}
      <Heading>Lines</Heading>
      {lines.length === 0 && <Quiet>No line from around that time is kept.</Quiet>}
      <Some name="Before" lines={e.before} />
      <Some name="During" lines={e.during} />
      <Some name="After" lines={e.after} />
      {e.truncated && <Quiet>There were more lines than were looked at.</Quiet>}
      <p>
        <Go change={linesFrom(parseTime(startedAt), commonStream(lines))}>
          Search the lines from then on
        </Go>
      </p>
      {e.related.length > 0 && (
        <>
          <Heading>Patterns that moved with it</Heading>
          <Items>
            {e.related.map((r) => (
              <li key={`${r.pattern} ${r.series.key}`}>
                <Go change={{ view: 'logs', pattern: r.pattern, anomaly: undefined }}>
                  <Template template={r.template} />
                </Go>
                <Quiet>correlation {formatValue(r.correlation, 'none', 2)}</Quiet>
              </li>
            ))}
          </Items>
        </>
      )}
    </Block>
  );
}

function Some({ name, lines }: { name: string; lines: readonly LogLine[] }) {
  if (lines.length === 0) return null;
  return (
    <div>
      <h4 className={classes.when}>{name}</h4>
      <LineList lines={lines} label={`${name}, oldest first`} />
    </div>
  );
}

/** The selector of the labels that all these lines share. */
function commonStream(lines: readonly LogLine[]): string | undefined {
  const [first, ...rest] = lines;
  if (!first) return undefined;
  const shared = Object.entries(first.stream).filter(([name, value]) => rest.every((l) => l.stream[name] === value));
  return shared.length > 0 ? seriesKey(Object.fromEntries(shared)) : undefined;
}
