import { Button, Popover, UnstyledButton, VisuallyHidden } from '@mantine/core';
import { formatAgo, formatClock } from '../shared/format/time';
import { plainText, sentence } from '../shared/format/text';
import type { Connection } from '../shared/live/client';
import { useNow } from '../shared/live/clock';
import { useConnection, useReconnect } from '../shared/live/hooks';
import { Badge, type Tone } from '../shared/ui/Badge';
import classes from './Header.module.css';

type Shown = Exclude<Connection['state'], 'idle'>;

const tones: Record<Shown, Tone> = {
  connecting: 'off',
  live: 'good',
  'catching up': 'learning',
  reconnecting: 'warning',
  offline: 'bad',
  paused: 'off',
  unauthorised: 'bad',
};

const meanings: Record<Shown, string> = {
  connecting: 'The live stream is being opened. Until then the page asks every few seconds.',
  live: 'Events arrive as they happen.',
  'catching up': 'What happened meanwhile is arriving now.',
  reconnecting: 'The live stream broke. Until it is back the page asks now and then, and marks what may be out of date.',
  offline: 'This device has no network. What is shown may be out of date.',
  paused: 'The live stream rests while nobody looks at the page.',
  unauthorised: 'The server wants to know who asks.',
};

/** What the state is called; with the seconds to the next try where there is one. */
export function connectionWord({ state, retryAt }: Connection, now: number): string {
  const seconds = Math.ceil((retryAt - now) / 1000);
  if (state === 'reconnecting' && seconds > 0) return `reconnecting in ${seconds} s`;
  return state === 'unauthorised' ? 'signed out' : state;
}

/** Shows whether the page is live, and lets a person try again at once. */
export function ConnectionState() {
  const connection = useConnection();
  const now = useNow();
  const reconnect = useReconnect();
  const { state, confirmedAt, why } = connection;
  if (state === 'idle') return null;
  const waits = state === 'reconnecting' || state === 'offline';
  return (
    <>
      <Popover position="bottom-start" width={320} shadow="md">
        <Popover.Target>
          <UnstyledButton className={classes.health} aria-label={`Live stream: ${connectionWord(connection, now)}. Show more.`}>
            <Badge tone={tones[state]}>{connectionWord(connection, now)}</Badge>
          </UnstyledButton>
        </Popover.Target>
        <Popover.Dropdown className={classes.parts}>
          <p>{meanings[state]}</p>
          {waits && why && <p className={classes.message}>Reason: {sentence(plainText(why))}</p>}
          {state !== 'live' && confirmedAt > 0 && (
            <p className={classes.message}>
              Up to date as of {formatClock(confirmedAt)} ({formatAgo(confirmedAt, now)}).
            </p>
          )}
          {waits && (
            <Button mt="xs" onClick={reconnect}>
              Try now
            </Button>
          )}
        </Popover.Dropdown>
      </Popover>
      {/* The countdown is not read out, the state is. */}
      <VisuallyHidden role="status" aria-live="polite">
        {state === 'connecting' ? '' : `Live stream: ${state === 'unauthorised' ? 'signed out' : state}`}
      </VisuallyHidden>
    </>
  );
}
