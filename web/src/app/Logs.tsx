import { LineSearch } from '../features/logs/LineSearch';
import { PatternDrawer } from '../features/logs/PatternDrawer';
import { PatternList } from '../features/logs/PatternList';
import { useGo } from '../shared/ui/Go';
import { isRangeName } from '../shared/ui/ranges';
import type { PageSearch } from '../shared/ui/search';
import classes from './Logs.module.css';

/** What the log lines are: their patterns, and a search of them. */
export function Logs({ search }: { search: PageSearch }) {
  const go = useGo();
  return (
    <>
      <div className={classes.logs}>
        <PatternList className={classes.panel} filter={search.patterns ?? ''} level={search.level} order={search.order} opened={search.pattern} />
        <LineSearch
          className={classes.panel}
          source={search.source}
          selector={search.stream ?? ''}
          text={search.text ?? ''}
          level={search.level}
          range={isRangeName(search.range) ? search.range : '15m'}
          at={search.at}
        />
      </div>
      <PatternDrawer id={search.pattern} onClose={() => go({ pattern: undefined })} />
    </>
  );
}
