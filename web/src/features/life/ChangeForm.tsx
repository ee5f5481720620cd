import { Button, SegmentedControl, TextInput } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, unwrap } from '../../shared/api/client';
import type { Detector } from '../../shared/api/types';
import { ProblemView } from '../../shared/ui/Async';
import { Quiet, Row } from '../../shared/ui/Sections';
import { definitionWith, draftOf, faultsOf, learnsAnew, patchOf, type Draft } from './draft';
import classes from './Life.module.css';
import { headerOf, keepDetector, oneShadow, order, rememberTask, useHasShadow, useMay, useOrder } from './useOrder';

type TextField = Exclude<keyof Draft, 'direction'>;

const fields: { field: TextField; label: string; hint?: string; wide?: boolean }[] = [
  { field: 'budget', label: 'False alarms a week' },
  { field: 'absolute', label: 'Least deviation', hint: 'in the unit of the values' },
  { field: 'relative', label: 'Least deviation in %', hint: 'of what is expected' },
  { field: 'for', label: 'Lasts at least', hint: 'before it alarms' },
  { field: 'keep', label: 'Normal before it ends' },
  { field: 'refractory', label: 'Quiet afterwards' },
  { field: 'model', label: 'Model' },
  { field: 'timeZone', label: 'Time zone', hint: 'such as Europe/Berlin; empty: UTC' },
  { field: 'holidays', label: 'Holidays', hint: '12-25 each year, 2026-04-03 once, 12-24=saturday like that day', wide: true },
];

/** Changes a definition: saved as a new version, or tried first as a shadow or by backtest. */
export function ChangeForm({ detector: d }: { detector: Detector }) {
  const client = useQueryClient();
  const may = useMay();
  const mutation = useOrder(d.id);
  const hasShadow = useHasShadow(d.id);
  const [draft, setDraft] = useState(() => draftOf(d));
  const faults = faultsOf(draft);
  const patch = patchOf(d, draft);
  const changed = Object.keys(patch).length > 0;
  const ready = changed && Object.keys(faults).length === 0 && !mutation.isPending;
  const path = { id: d.id };
  const set = (field: keyof Draft, value: string) => setDraft((old) => ({ ...old, [field]: value }));
  const save = () =>
    mutation.mutate(order(async (key) => keepDetector(client, await unwrap(api.PATCH('/api/v1/detectors/{id}', { params: { path, header: headerOf(key, d.version) }, body: patch })))));
  const shadow = () =>
    mutation.mutate(
      order(async (key) =>
        client.setQueryData(['shadow', d.id], await unwrap(api.POST('/api/v1/detectors/{id}/shadow', { params: { path, header: headerOf(key, d.version) }, body: { definition: patch } }))),
      ),
    );
  const backtest = () =>
    mutation.mutate(
      order(async (key) => rememberTask(client, d.id, await unwrap(api.POST('/api/v1/detectors/backtest', { params: { header: headerOf(key) }, body: { detector: definitionWith(d, patch) } })))),
    );
  return (
    <form aria-label="Change the definition" className={classes.form} onSubmit={(event) => event.preventDefault()}>
      <div className={classes.fields}>
        <div className={classes.wide}>
          <SegmentedControl
            aria-label="On which side of normal it alarms"
            value={draft.direction}
            onChange={(value) => set('direction', value)}
            data={[
              { value: 'both', label: 'Above and below' },
              { value: 'above', label: 'Above only' },
              { value: 'below', label: 'Below only' },
            ]}
          />
        </div>
        {fields.map(({ field, label, hint, wide }) => (
          <TextInput
            key={field}
            className={wide ? classes.wide : undefined}
            label={label}
            description={hint}
            inputWrapperOrder={['label', 'input', 'description', 'error']}
            error={faults[field]}
            value={draft[field]}
            maxLength={field === 'holidays' ? 2000 : 100}
            onChange={(event) => set(field, event.currentTarget.value)}
          />
        ))}
      </div>
      <Row label="What to do with the change">
        {may('start-shadow') && !hasShadow && (
          <Button variant="filled" disabled={!ready} onClick={shadow}>
            Try as a shadow
          </Button>
        )}
        {may('backtest-definition') && (
          <Button disabled={!ready} onClick={backtest}>
            Backtest 7 days
          </Button>
        )}
        {may('update-detector') && !d.provisioned && (
          <Button disabled={!ready} onClick={save}>
            Save as version {d.version + 1}
          </Button>
        )}
      </Row>
      <Quiet>{!changed ? 'Nothing is changed yet.' : learnsAnew(patch) ? 'This learns from history anew.' : 'What was learned stays.'} {hasShadow ? oneShadow : 'A shadow scores the live samples and alarms nobody.'}</Quiet>
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />}
    </form>
  );
}
