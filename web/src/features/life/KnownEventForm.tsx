import { Button, SegmentedControl, TextInput } from '@mantine/core';
import { useEffect, useRef, useState, type ComponentProps } from 'react';
import { api, unwrap } from '../../shared/api/client';
import type { KnownEvent } from '../../shared/api/types';
import { useNow } from '../../shared/live/clock';
import { ProblemView } from '../../shared/ui/Async';
import { Quiet, Row } from '../../shared/ui/Sections';
import { fromNow, knownDraftOf, knownFaultsOf, knownInputOf, localTime, refusedOf, whenOf, type KnownDraft } from './knownDraft';
import classes from './Life.module.css';
import { headerOf, order, useOrder } from './useOrder';

interface KnownEventFormProps {
  detectorId: string;
  /** The event to change; without it a new one is entered. */
  event?: KnownEvent;
  onSaved: () => void;
  onCancel: () => void;
}

const hours = [1, 4, 24];

/** Enters a known event, or changes one. */
export function KnownEventForm({ detectorId, event, onSaved, onCancel }: KnownEventFormProps) {
  const now = useNow();
  const mutation = useOrder(detectorId);
  // As it was when the form was opened: a change that someone else made meanwhile is not overwritten.
  const [base] = useState(event);
  const [draft, setDraft] = useState(() => knownDraftOf(base, now));
  const [tries, setTries] = useState(0);
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (tries > 0) form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [tries]);
  const faults = knownFaultsOf(draft);
  const shown = { ...faults, ...(tries === 0 && { name: undefined }), ...refusedOf(mutation.error) };
  const change = (more: Partial<KnownDraft>) => {
    setDraft((old) => ({ ...old, ...more }));
    if (!mutation.isPending) mutation.reset();
  };
  const save = () => {
    setTries(tries + 1);
    if (Object.keys(faults).length > 0 || mutation.isPending) return;
    const body = knownInputOf(draft, detectorId, base);
    mutation.mutate(
      order(async (key) => {
        if (base) await unwrap(api.PUT('/api/v1/known-events/{id}', { params: { path: { id: base.id }, header: headerOf(key, base.version) }, body }));
        else await unwrap(api.POST('/api/v1/known-events', { params: { header: headerOf(key) }, body }));
        onSaved();
      }),
    );
  };
  const field = (name: 'name' | 'from' | 'to' | 'labels', more: ComponentProps<typeof TextInput>) => (
    <TextInput
      inputWrapperOrder={['label', 'input', 'description', 'error']}
      error={shown[name]}
      value={draft[name]}
      onChange={({ currentTarget }) => change({ [name]: currentTarget.value })}
      {...more}
    />
  );
  return (
    <form
      ref={form}
      noValidate
      aria-label={base ? 'Change the event' : 'Enter an event'}
      className={classes.form}
      onSubmit={(submitted) => {
        submitted.preventDefault();
        save();
      }}
    >
      <div className={classes.fields}>
        {field('name', { label: 'Name', placeholder: 'database upgrade', maxLength: 200, autoFocus: true, required: true, className: classes.wide })}
        {field('from', { label: 'Begin', type: 'datetime-local', required: true })}
        {field('to', { label: 'End', type: 'datetime-local', required: true })}
        <div className={classes.wide}>
          <Row label="Quick choices of begin and end">
            {hours.map((n) => (
              <Button key={n} size="compact-xs" onClick={() => change(fromNow(now, n))}>
                From now for {n} h
              </Button>
            ))}
            {base && whenOf(base, now) === 'now' && (
              <Button size="compact-xs" onClick={() => change({ to: localTime(now) })}>
                End it now
              </Button>
            )}
            <Quiet>Times are of your zone, {Intl.DateTimeFormat().resolvedOptions().timeZone}.</Quiet>
          </Row>
        </div>
        <label className={classes.check}>
          <input type="checkbox" checked={draft.mute} onChange={({ currentTarget }) => change({ mute: currentTarget.checked })} />
          No alarms meanwhile
        </label>
        <div className={classes.wide}>
          <SegmentedControl
            aria-label="For which detectors"
            value={draft.scope}
            onChange={(scope) => change({ scope })}
            data={[
              { value: 'this', label: 'This detector only' },
              { value: 'all', label: 'Every detector' },
            ]}
          />
          {shown.scope && <p className={classes.bad}>{shown.scope}</p>}
        </div>
        {field('labels', { label: 'Only series with these labels', placeholder: 'job=shop, instance=db-1', description: 'name=value, apart by commas; empty: every series', maxLength: 10_000, className: classes.wide })}
      </div>
      <Row>
        <Button type="submit" variant="filled" loading={mutation.isPending}>
          {base ? 'Save the event' : 'Enter the event'}
        </Button>
        <Button onClick={onCancel}>Cancel</Button>
      </Row>
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />}
    </form>
  );
}
