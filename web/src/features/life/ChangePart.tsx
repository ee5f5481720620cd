import { Button } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, unwrap } from '../../shared/api/client';
import type { Detector, Task } from '../../shared/api/types';
import { ProblemView } from '../../shared/ui/Async';
import { Block, Heading, Quiet, Row } from '../../shared/ui/Sections';
import { ChangeForm } from './ChangeForm';
import { SearchForm } from './SearchForm';
import { headerOf, order, rememberTask, useMay, useOrder } from './useOrder';

/** The ways to find and try a better definition. */
export function ChangePart({ detector: d }: { detector: Detector }) {
  const client = useQueryClient();
  const may = useMay();
  const mutation = useOrder(d.id);
  const [open, setOpen] = useState<'change' | 'search'>();
  const path = { id: d.id };
  const start = (send: (key: string) => Promise<Task>) => mutation.mutate(order(async (key) => rememberTask(client, d.id, await send(key))));
  const suggest = () => start((key) => unwrap(api.POST('/api/v1/detectors/{id}/suggest', { params: { path, header: headerOf(key) } })));
  const backtest = () => start((key) => unwrap(api.POST('/api/v1/detectors/{id}/backtest', { params: { path, header: headerOf(key) } })));
  const toggle = (what: typeof open) => setOpen(open === what ? undefined : what);
  if (!may('suggest-detector')) return <Quiet>Your key may look, not change: that needs the role operator.</Quiet>;
  return (
    <Block label="Change it">
      <Heading>Too many alarms, or too few?</Heading>
      <Quiet>Label alarms as true or false, then ask for a suggestion. Or change the definition by hand and try it before it counts.</Quiet>
      <Row label="Ways to change it">
        <Button variant="filled" disabled={mutation.isPending} onClick={suggest}>
          Suggest
        </Button>
        <Button aria-expanded={open === 'change'} onClick={() => toggle('change')}>
          Change by hand…
        </Button>
        <Button aria-expanded={open === 'search'} onClick={() => toggle('search')}>
          Search…
        </Button>
        <Button disabled={mutation.isPending} onClick={backtest} title="What the definition in force would have done over the last 7 days">
          Backtest
        </Button>
      </Row>
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />}
      {open === 'change' && <ChangeForm detector={d} />}
      {open === 'search' && <SearchForm detector={d} onStarted={() => setOpen(undefined)} />}
    </Block>
  );
}
