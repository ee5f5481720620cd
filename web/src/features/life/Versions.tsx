import { Button } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, unwrap } from '../../shared/api/client';
import { versionsQuery } from '../../shared/api/queries';
import type { Detector, DetectorVersion } from '../../shared/api/types';
import { formatAgo, formatStamp, parseTime } from '../../shared/format/time';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async, ProblemView } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Block, Heading, Quiet, Row } from '../../shared/ui/Sections';
import { Changes } from './Changes';
import { headerOf, keepDetector, order, useMay, useOrder } from './useOrder';

const shown = 4;

/** The definition as it was, newest first, each version with what it changed and the way back to it. */
export function Versions({ detector: d }: { detector: Detector }) {
  const query = useQuery(versionsQuery(d.id));
  const client = useQueryClient();
  const may = useMay();
  const mutation = useOrder(d.id);
  const [all, setAll] = useState(false);
  const revert = (version: number) =>
    mutation.mutate(
      order(async (key) =>
        keepDetector(client, await unwrap(api.POST('/api/v1/detectors/{id}/revert', { params: { path: { id: d.id }, header: headerOf(key, d.version) }, body: { version } }))),
      ),
    );
  const back = may('revert-detector') && !d.provisioned;
  return (
    <Block label="Versions">
      <Heading>Versions of the definition</Heading>
      <Async query={query} pace={pace.lives} what="the versions" rows={3} isEmpty={(list) => list.length === 0} empty={<p>No version is stored.</p>}>
        {(list) => (
          <>
            {list.slice(0, all ? undefined : shown).map((v) => (
              <Version key={v.version} version={v} inForce={v.version === d.version} onBack={back ? () => revert(v.version) : undefined} busy={mutation.isPending} />
            ))}
            {!all && list.length > shown && (
              <Row>
                <Button onClick={() => setAll(true)}>Show {list.length - shown} older</Button>
              </Row>
            )}
          </>
        )}
      </Async>
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />}
    </Block>
  );
}

function Version({ version: v, inForce, onBack, busy }: { version: DetectorVersion; inForce: boolean; onBack: (() => void) | undefined; busy: boolean }) {
  const now = useNow();
  const made = parseTime(v.created_at);
  return (
    <Block>
      <Row>
        <strong>Version {v.version}</strong>
        {inForce && <Badge tone="good">in force</Badge>}
        <Quiet>
          {formatStamp(made, now)} ({formatAgo(made, now)})
        </Quiet>
        {!inForce && onBack && (
          <Button size="compact-xs" disabled={busy} onClick={onBack}>
            Go back to version {v.version}
          </Button>
        )}
      </Row>
      <Changes changes={v.changes} none="The first one." />
    </Block>
  );
}
