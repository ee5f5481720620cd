import { useQuery } from '@tanstack/react-query';
import { sourceHealthQuery } from '../../shared/api/queries';
import { formatAgo, parseTime } from '../../shared/format/time';
import { plainText } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { Badge } from '../../shared/ui/Badge';
import { Items, Quiet } from '../../shared/ui/Sections';
import { sourceTone } from '../../shared/ui/states';
import { nodesOf } from './nodes';

/** How each node sees a source that not all of them can use; nothing where one node is alone. */
export function NodeList({ sourceId, name }: { sourceId: string; name: string }) {
  const { data } = useQuery(sourceHealthQuery(sourceId));
  const now = useNow();
  const nodes = nodesOf(data);
  if (nodes.length === 0) return null;
  return (
    <Items label={`How each node sees ${plainText(name)}`}>
      {nodes.map((n) => (
        <li key={n.node}>
          <Badge tone={sourceTone[n.state]}>{n.state}</Badge>
          <span>
            for node <bdi>{plainText(n.node)}</bdi>
          </span>
          <Quiet>
            {n.here ? 'this one, ' : ''}
            {formatAgo(parseTime(n.since), now).replace(' ago', '')}
          </Quiet>
          {n.error && <span>{plainText(n.error)}</span>}
        </li>
      ))}
    </Items>
  );
}
