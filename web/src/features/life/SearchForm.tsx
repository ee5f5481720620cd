import { Button, TextInput } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, unwrap } from '../../shared/api/client';
import type { Detector } from '../../shared/api/types';
import { ProblemView } from '../../shared/ui/Async';
import { Quiet, Row } from '../../shared/ui/Sections';
import { searchDraftOf, searchOf, type SearchDraft } from './draft';
import classes from './Life.module.css';
import { headerOf, order, rememberTask, useOrder } from './useOrder';

const fields: { field: keyof SearchDraft; label: string }[] = [
  { field: 'models', label: 'Models' },
  { field: 'budgets', label: 'False alarms a week' },
  { field: 'relatives', label: 'Least deviations in %' },
  { field: 'fors', label: 'Lasts at least' },
  { field: 'days', label: 'Days of the past' },
  { field: 'minutes', label: 'Minutes at most' },
];

/** Asks for a search: which values are tried on the past, and how long. */
export function SearchForm({ detector: d, onStarted }: { detector: Detector; onStarted: () => void }) {
  const client = useQueryClient();
  const mutation = useOrder(d.id);
  const [draft, setDraft] = useState(() => searchDraftOf(d));
  const asked = searchOf(draft);
  const start = () => {
    if (!asked) return;
    mutation.mutate(
      order(async (key) => {
        rememberTask(client, d.id, await unwrap(api.POST('/api/v1/detectors/{id}/search', { params: { path: { id: d.id }, header: headerOf(key) }, body: asked })));
        onStarted();
      }),
    );
  };
  return (
    <form
      aria-label="Search parameters"
      className={classes.form}
      onSubmit={(event) => {
        event.preventDefault();
        start();
      }}
    >
      <div className={classes.fields}>
        {fields.map(({ field, label }) => (
          <TextInput
            key={field}
            label={label}
            value={draft[field]}
            maxLength={300}
            onChange={(event) => {
              const { value } = event.currentTarget;
              setDraft((old) => ({ ...old, [field]: value }));
            }}
          />
        ))}
      </div>
      <Quiet>Values apart by commas; one field after the other is tried on the past, keeping the best. With labels it removes false alarms, without any it comes close to the budget.</Quiet>
      <Row>
        <Button type="submit" variant="filled" disabled={!asked || mutation.isPending}>
          Start the search
        </Button>
        {!asked && <Quiet role="status">A value does not fit: numbers above 0, times such as 2m, 1 to 90 days, 1 to 360 minutes.</Quiet>}
      </Row>
      {mutation.isError && <ProblemView error={mutation.error} onRetry={() => mutation.mutate(mutation.variables)} retrying={mutation.isPending} />}
    </form>
  );
}
