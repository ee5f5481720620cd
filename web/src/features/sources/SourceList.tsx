import { useQuery } from '@tanstack/react-query';
import { sourcesQuery } from '../../shared/api/queries';
import { formatDuration } from '../../shared/format/duration';
import { plainText } from '../../shared/format/text';
import { pace } from '../../shared/live/polling';
import { Async } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Panel } from '../../shared/ui/Panel';
import { sourceTone } from '../../shared/ui/states';
import { NodeList } from './NodeList';
import classes from './SourceList.module.css';

/** All sources with their health. */
export function SourceList({ className }: { className?: string }) {
  const query = useQuery(sourcesQuery());
  return (
    <Panel className={className} title="Sources" scroll>
      <Async
        query={query}
        pace={pace.sources}
        what="the sources"
        rows={2}
        isEmpty={(sources) => sources.length === 0}
        empty={<p>No source is configured, so nothing can be watched.</p>}
      >
        {(sources) => (
          <ul className={classes.list}>
            {sources.map((s) => (
              <li key={s.id}>
                <div className={classes.row} title={s.url ? plainText(s.url) : undefined}>
                  <bdi className={classes.name}>{plainText(s.name)}</bdi>
                  <span className={classes.type}>{s.type === s.name ? '' : s.type}</span>
                  <span className={classes.latency}>{s.health.latency_ms ? formatDuration(s.health.latency_ms / 1000) : ''}</span>
                  <Badge tone={sourceTone[s.health.state]}>{s.health.state}</Badge>
                </div>
                {s.health.state !== 'up' && <NodeList sourceId={s.id} name={s.name} />}
              </li>
            ))}
          </ul>
        )}
      </Async>
    </Panel>
  );
}
