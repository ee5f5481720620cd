import { Button, Combobox, InputBase, useCombobox } from '@mantine/core';
import { useInfiniteQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { seriesQuery } from '../../shared/api/queries';
import { counted, plainText } from '../../shared/format/text';
import { distinguishing, seriesTitle, shortTitle } from '../../shared/format/series';
import { ProblemView } from '../../shared/ui/Async';
import { Badge } from '../../shared/ui/Badge';
import { Icon } from '../../shared/ui/icons';
import { matchSeries } from './matchSeries';
import classes from './SeriesPicker.module.css';

const shownAtMost = 100;

interface SeriesPickerProps {
  detectorId: string;
  /** How many series the detector has, as its status says. */
  total: number;
  /** The key of the chosen series. */
  chosen: string | undefined;
  onChoose: (key: string) => void;
}

/**
 * Chooses one of a detector's series. The list comes page by page; a search
 * fetches the pages that are still missing and shows the first hundred hits.
 */
export function SeriesPicker({ detectorId, total, chosen, onChoose }: SeriesPickerProps) {
  const [search, setSearch] = useState('');
  const combobox = useCombobox({
    onDropdownClose: () => {
      combobox.resetSelectedOption();
      setSearch('');
    },
    onDropdownOpen: () => combobox.focusSearchInput(),
  });
  const query = useInfiniteQuery(seriesQuery(detectorId));
  const { hasNextPage, isFetchingNextPage, fetchNextPage, isError } = query;
  const searching = search.trim() !== '';

  const pages = query.data?.pages.length ?? 0;

  // The number of pages stands with the dependencies because a fast answer
  // comes without a render in between that saw it being fetched.
  useEffect(() => {
    if (searching && hasNextPage && !isFetchingNextPage && !isError) void fetchNextPage();
  }, [pages, searching, hasNextPage, isFetchingNextPage, isError, fetchNextPage]);

  const loaded = query.data?.pages.flatMap((p) => p.items) ?? [];
  const hits = matchSeries(loaded, search);
  const { differing } = distinguishing(loaded.map((s) => s.series.labels));
  const current = loaded.find((s) => s.series.key === chosen);
  const title = current ? shortTitle(current.series.labels, differing) : plainText(chosen ?? 'Choose a series');

  return (
    <Combobox
      store={combobox}
      position="bottom-start"
      width={420}
      withinPortal={false}
      keepMounted={false}
      onOptionSubmit={(key) => {
        onChoose(key);
        combobox.closeDropdown();
      }}
    >
      <Combobox.Target targetType="button">
        <InputBase
          component="button"
          type="button"
          pointer
          size="xs"
          className={classes.target}
          rightSection={<Icon name="chevron" size={12} />}
          rightSectionPointerEvents="none"
          aria-label={`Series: ${title}`}
          title={current ? seriesTitle(current.series.labels) : undefined}
          onClick={() => combobox.toggleDropdown()}
        >
          <span className={classes.current}>{title}</span>
        </InputBase>
      </Combobox.Target>
      <Combobox.Dropdown className={classes.dropdown}>
        <Combobox.Search
          value={search}
          onChange={(event) => {
            setSearch(event.currentTarget.value);
            combobox.resetSelectedOption();
          }}
          placeholder="Search labels, for example job=api"
          aria-label="Search series"
        />
        <Combobox.Options className={classes.options} aria-label="Series">
          {query.isError && loaded.length === 0 && <ProblemView error={query.error} what="the series" onRetry={query.refetch} retrying={query.isFetching} />}
          {hits.slice(0, shownAtMost).map((s) => (
            <Combobox.Option key={s.series.key} value={s.series.key} active={s.series.key === chosen} className={classes.option} aria-label={seriesTitle(s.series.labels)}>
              <bdi className={classes.name} title={seriesTitle(s.series.labels)}>
                {shortTitle(s.series.labels, differing)}
              </bdi>
              {s.anomaly && <Badge tone="bad">{s.anomaly}</Badge>}
              {s.learning && <Badge tone="learning">learning</Badge>}
            </Combobox.Option>
          ))}
          {hits.length === 0 && !query.isFetching && !query.isError && <Combobox.Empty>{searching ? 'No series has these labels.' : 'No series yet.'}</Combobox.Empty>}
        </Combobox.Options>
        <Combobox.Footer className={classes.footer}>
          <span role="status">
            {searching
              ? `${counted(hits.length, 'match', 'matches')} in ${loaded.length.toLocaleString('en-US')} of ${counted(Math.max(total, loaded.length), 'series', 'series')}`
              : `${Math.min(loaded.length, shownAtMost).toLocaleString('en-US')} of ${counted(Math.max(total, loaded.length), 'series', 'series')} shown${loaded.length > shownAtMost || hasNextPage ? '; search to see others' : ''}`}
            {isFetchingNextPage && ', loading more'}
          </span>
          {searching && isError && (
            <Button size="compact-xs" onClick={() => void fetchNextPage()}>
              Try again
            </Button>
          )}
        </Combobox.Footer>
      </Combobox.Dropdown>
    </Combobox>
  );
}
