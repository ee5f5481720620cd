import { Button } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useRef, useState } from 'react';
import { api, unwrap } from '../../shared/api/client';
import { knownEventsQuery } from '../../shared/api/queries';
import type { Detector, KnownEvent } from '../../shared/api/types';
import { formatDuration } from '../../shared/format/duration';
import { formatAgo, formatStamp, parseTime } from '../../shared/format/time';
import { plainText } from '../../shared/format/text';
import { useNow } from '../../shared/live/clock';
import { pace } from '../../shared/live/polling';
import { Async, ProblemView } from '../../shared/ui/Async';
import { Badge, type Tone } from '../../shared/ui/Badge';
import { Question } from '../../shared/ui/Question';
import { Block, Heading, Items, Quiet, Row } from '../../shared/ui/Sections';
import { byWhen, whenOf, type When } from './knownDraft';
import { KnownEventForm } from './KnownEventForm';
import classes from './Life.module.css';
import { headerOf, order, useMay, useOrder } from './useOrder';

const shown = 5;

/** Maintenance, deploys and the like that count for a detector, and the ways to enter, change and delete them. */
export function KnownEvents({ detector: d }: { detector: Detector }) {
  const query = useQuery(knownEventsQuery(d.id));
  const may = useMay();
  const now = useNow();
  const part = useRef<HTMLDivElement>(null);
  const [all, setAll] = useState(false);
  const [entering, setEntering] = useState(false);
  const [said, setSaid] = useState('');
  // Where the focus was is gone.
  const done = (what: string) => {
    setSaid(what);
    part.current?.focus();
  };
  const close = (what: string) => {
    setEntering(false);
    done(what);
  };
  return (
    <div ref={part} tabIndex={-1} className={classes.target}>
      <Block label="Known events">
        <Heading>Known events</Heading>
        <Quiet>Maintenance, a deploy: samples inside are not learned from, and muted ones raise no alarm. What was scored before an event was entered stays as it is.</Quiet>
        <Async query={query} pace={pace.lives} what="the known events" rows={2} isEmpty={(list) => list.length === 0} empty={<p>There is none now, none to come, and none that ended within 30 days.</p>}>
          {(list) => (
            <>
              <Items label="Known events: now, upcoming, past">
                {byWhen(list, now)
                  .slice(0, all ? undefined : shown)
                  .map((e) => (
                    <li key={e.id}>
                      <Event event={e} detectorId={d.id} now={now} onDone={done} />
                    </li>
                  ))}
              </Items>
              {!all && list.length > shown && (
                <Row>
                  <Button onClick={() => setAll(true)}>Show {list.length - shown} more</Button>
                </Row>
              )}
            </>
          )}
        </Async>
        {may('create-known-event') && (
          <Row>
            <Button aria-expanded={entering} onClick={() => setEntering(!entering)}>
              Enter an event…
            </Button>
          </Row>
        )}
        {entering && <KnownEventForm detectorId={d.id} onSaved={() => close('The event was entered.')} onCancel={() => close('')} />}
        <Quiet role="status">{said}</Quiet>
      </Block>
    </div>
  );
}

const toneOf: Record<When, Tone> = { now: 'warning', upcoming: 'learning', past: 'off' };

interface EventProps {
  event: KnownEvent;
  detectorId: string;
  now: number;
  /** Says that a form or a question is over, with what to tell of it. */
  onDone: (what: string) => void;
}

function Event({ event: e, detectorId, now, onDone }: EventProps) {
  const client = useQueryClient();
  const may = useMay();
  const mutation = useOrder(detectorId);
  const [open, setOpen] = useState<'change' | 'delete'>();
  const when = whenOf(e, now);
  const name = plainText(e.name);
  const close = (what: string) => {
    setOpen(undefined);
    onDone(what);
  };
  const remove = () => {
    close('');
    mutation.mutate(
      order(async (key) => {
        await unwrap(api.DELETE('/api/v1/known-events/{id}', { params: { path: { id: e.id }, header: headerOf(key, e.version) } }));
        client.setQueryData<KnownEvent[]>(['known-events', detectorId], (list) => list?.filter((other) => other.id !== e.id));
        onDone('The event was deleted.');
      }),
    );
  };
  return (
    <>
      <Badge tone={toneOf[when]}>{when}</Badge>
      <strong>
        <bdi>{name}</bdi>
      </strong>
      <Span event={e} when={when} now={now} />
      <span>{e.mute ? 'no alarms meanwhile' : 'alarms go on'}</span>
      <Matchers matchers={e.matchers} />
      <Quiet>
        {e.detector_id ? 'this detector only' : 'every detector'}
        {e.created_by && (
          <>
            , entered by <bdi>{plainText(e.created_by)}</bdi>
          </>
        )}
      </Quiet>
      <Row>
        {may('replace-known-event') && (
          <Button size="compact-xs" aria-expanded={open === 'change'} aria-label={`Change ${name}…`} onClick={() => setOpen(open === 'change' ? undefined : 'change')}>
            Change…
          </Button>
        )}
        {may('delete-known-event') && (
          <Button size="compact-xs" disabled={mutation.isPending || open === 'delete'} aria-label={`Delete ${name}…`} onClick={() => setOpen('delete')}>
            Delete…
          </Button>
        )}
      </Row>
      {open !== undefined && (
        <div className={classes.whole}>
          {open === 'change' && <KnownEventForm detectorId={detectorId} event={e} onSaved={() => close('The event was changed.')} onCancel={() => close('')} />}
          {open === 'delete' && (
            <Question
              label={`Delete ${name}`}
              text={`Its samples count again from the next step on${e.detector_id ? '' : ', for every detector'}.`}
              yes="Delete it"
              onYes={remove}
              onNo={() => close('')}
            />
          )}
        </div>
      )}
      {mutation.isError && (
        <div className={classes.whole}>
          <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />
        </div>
      )}
    </>
  );
}

/** From when to when in the reader's zone, and how far that is from now. */
function Span({ event: e, when, now }: { event: KnownEvent; when: When; now: number }) {
  const [from, to] = [parseTime(e.from), parseTime(e.to)];
  const until = (ms: number) => formatDuration(Math.ceil((ms - now) / 1000));
  const distance: Record<When, () => string> = { now: () => `ends in ${until(to)}`, upcoming: () => `begins in ${until(from)}`, past: () => `ended ${formatAgo(to, now)}` };
  return (
    <span>
      <time dateTime={e.from}>{formatStamp(from, now)}</time> to <time dateTime={e.to}>{formatStamp(to, from)}</time> <Quiet>({distance[when]()})</Quiet>
    </span>
  );
}

/** Which series an event is about. Unlike the labels of a series, an empty one says something. */
function Matchers({ matchers }: { matchers: Record<string, string> }) {
  const names = Object.keys(matchers).sort();
  if (names.length === 0) return <span>all series</span>;
  return (
    <span className={classes.matchers}>
      {names.map((n) => (
        <bdi key={n}>
          {plainText(n)}={matchers[n] === '' ? '""' : plainText(matchers[n]!)}
        </bdi>
      ))}
    </span>
  );
}
