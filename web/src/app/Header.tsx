import { Button, Popover, SegmentedControl, UnstyledButton, useMantineColorScheme, VisuallyHidden } from '@mantine/core';
import { useMutation, useQuery } from '@tanstack/react-query';
import { useSearch } from '@tanstack/react-router';
import { api, unwrap } from '../shared/api/client';
import { problemOf } from '../shared/api/problem';
import { deploymentQuery, healthQuery, sessionQuery } from '../shared/api/queries';
import { setSignedOut } from '../shared/api/signedOut';
import { plainText } from '../shared/format/text';
import { useReachability } from '../shared/live/reachability';
import { Badge, type Tone } from '../shared/ui/Badge';
import { Go } from '../shared/ui/Go';
import { Icon, type IconName } from '../shared/ui/icons';
import { notify } from '../shared/ui/notices';
import type { PageSearch } from '../shared/ui/search';
import { healthTone } from '../shared/ui/states';
import { ConnectionState } from './ConnectionState';
import classes from './Header.module.css';

/** The head of the page: name, state of the connection and of the program, version and theme. */
export function Header() {
  const deployment = useQuery(deploymentQuery());
  return (
    <header className={classes.header}>
      <h1 className={classes.brand}>
        <img src="/favicon.svg" alt="" width="20" height="20" /> AIOps
      </h1>
      <Views />
      <ConnectionState />
      <HealthState />
      <span className={classes.spacer} />
      {deployment.data && (
        <span className={classes.version} title={deployment.data.commit ? `Commit ${plainText(deployment.data.commit)}` : undefined}>
          {plainText(deployment.data.version)}
        </span>
      )}
      <Identity />
      <ThemeChoice />
    </header>
  );
}

/** The views of the page, as links. */
function Views() {
  const { view }: PageSearch = useSearch({ strict: false });
  return (
    <nav aria-label="Views" className={classes.views}>
      <Go change={{ view: undefined, pattern: undefined }} aria-current={view === undefined ? 'page' : undefined}>
        Overview
      </Go>
      <Go change={{ view: 'logs', anomaly: undefined }} aria-current={view === 'logs' ? 'page' : undefined}>
        Logs
      </Go>
    </nav>
  );
}

/** Who is signed in, where the server asks for that, and the way out. */
function Identity() {
  const { data } = useQuery(sessionQuery());
  const signOut = useMutation({
    mutationFn: () => unwrap(api.DELETE('/api/v1/session')),
    onSuccess: () => setSignedOut(true),
    onError: (error) => notify(`Still signed in: ${plainText(problemOf(error).detail)}`),
  });
  if (!data?.authentication || data.via !== 'session') return null;
  return (
    <Button className={classes.identity} onClick={() => signOut.mutate()} loading={signOut.isPending} title={`Signed in as ${plainText(data.name)}, ${data.role}`}>
      Sign out
    </Button>
  );
}

function HealthState() {
  const health = useQuery(healthQuery());
  const { silentSince } = useReachability();
  const { tone, word } = state(silentSince > 0, health.data?.status, health.error);
  const components = Object.entries(health.data?.components ?? {}).sort(([a], [b]) => a.localeCompare(b));
  return (
    <Popover position="bottom-start" width={360} shadow="md">
      <Popover.Target>
        <UnstyledButton className={classes.health} aria-label={`State of the program: ${word}. Show its parts.`}>
          <Badge tone={tone}>{word}</Badge>
        </UnstyledButton>
      </Popover.Target>
      <Popover.Dropdown className={classes.parts}>
        {components.length === 0 ? (
          <p>{health.error ? plainText(problemOf(health.error).detail) : 'The program has not told the state of its parts yet.'}</p>
        ) : (
          <ul>
            {components.map(([name, c]) => (
              <li key={name}>
                <span className={classes.part}>{plainText(name)}</span>
                <span className={classes.message}>{plainText(c.message)}</span>
                <Badge tone={healthTone[c.status]}>{c.status}</Badge>
              </li>
            ))}
          </ul>
        )}
      </Popover.Dropdown>
    </Popover>
  );
}

function state(silent: boolean, status: keyof typeof healthTone | undefined, error: unknown): { tone: Tone; word: string } {
  if (silent) return { tone: 'off', word: 'health unknown' };
  if (status) return { tone: healthTone[status], word: status };
  return error ? { tone: 'bad', word: 'health unknown' } : { tone: 'off', word: '…' };
}

const schemes: { value: 'light' | 'dark' | 'auto'; name: string; icon: IconName }[] = [
  { value: 'light', name: 'Light theme', icon: 'sun' },
  { value: 'dark', name: 'Dark theme', icon: 'moon' },
  { value: 'auto', name: 'Theme of the system', icon: 'auto' },
];

function ThemeChoice() {
  // Mantine would switch transitions off with a style element, which the content security policy forbids.
  const { colorScheme, setColorScheme } = useMantineColorScheme({ keepTransitions: true });
  return (
    <SegmentedControl
      aria-label="Theme"
      value={colorScheme}
      onChange={(value) => setColorScheme(value as 'light' | 'dark' | 'auto')}
      data={schemes.map(({ value, name, icon }) => ({
        value,
        label: (
          <span className={classes.scheme} title={name}>
            <Icon name={icon} />
            <VisuallyHidden>{name}</VisuallyHidden>
          </span>
        ),
      }))}
    />
  );
}
