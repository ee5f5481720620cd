import { Button, TextInput } from '@mantine/core';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { api, unwrap } from '../shared/api/client';
import { problemOf } from '../shared/api/problem';
import { sessionQuery } from '../shared/api/queries';
import { plainText } from '../shared/format/text';
import { Icon } from '../shared/ui/icons';
import classes from './SignIn.module.css';

/** Asks for an API key, which the server keeps as a cookie that scripts cannot read. */
export function SignIn({ onSignedIn }: { onSignedIn: () => void }) {
  const client = useQueryClient();
  const [key, setKey] = useState('');
  const signIn = useMutation({
    mutationFn: (token: string) => unwrap(api.POST('/api/v1/session', { body: { token } })),
    onSuccess: onSignedIn,
  });
  // Somebody may have signed in on another tab.
  useEffect(() => {
    const look = () => {
      if (document.visibilityState !== 'visible') return;
      client.fetchQuery({ ...sessionQuery(), retry: false }).then(onSignedIn, () => undefined);
    };
    document.addEventListener('visibilitychange', look);
    return () => document.removeEventListener('visibilitychange', look);
  }, [client, onSignedIn]);
  const problem = signIn.isError ? problemOf(signIn.error) : undefined;
  return (
    <main className={classes.page}>
      <form
        className={classes.card}
        onSubmit={(event) => {
          event.preventDefault();
          if (key.trim()) signIn.mutate(key.trim());
        }}
      >
        <h1 className={classes.title}>
          <img src="/favicon.svg" alt="" width="24" height="24" /> Sign in to AIOps
        </h1>
        <TextInput
          type="password"
          label="API key"
          description="It begins with aiops_. An administrator makes one with “aiops token create”."
          value={key}
          onChange={(event) => setKey(event.currentTarget.value)}
          autoComplete="off"
          spellCheck={false}
          maxLength={200}
          autoFocus
        />
        <Button type="submit" variant="filled" fullWidth loading={signIn.isPending}>
          Sign in
        </Button>
        {problem && (
          <p className={classes.refused} role="alert">
            <Icon name="alert" />{' '}
            {problem.status === 401 ? 'This key is not valid: it may be mistyped, revoked or expired.' : plainText(problem.detail || problem.title)}
          </p>
        )}
      </form>
    </main>
  );
}
