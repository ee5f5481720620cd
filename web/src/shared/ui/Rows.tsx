import type { ReactNode } from 'react';
import { Go } from './Go';
import classes from './Rows.module.css';
import type { PageSearch } from './search';

// The columns of a list come as variables of the element around it:
// --columns, and for narrow windows --narrow-columns and --narrow-areas.

/** The heads of the columns above rows. */
export function RowHeads({ heads }: { heads: readonly string[] }) {
  return (
    <p className={classes.heads} aria-hidden="true">
      {heads.map((head) => (
        <span key={head}>{head}</span>
      ))}
    </p>
  );
}

/** A row of a list, as a link that opens its details. */
export function LinkRow({ change, opened, children }: { change: PageSearch; opened: boolean; children: ReactNode }) {
  return (
    <Go change={change} className={classes.row} aria-current={opened ? 'true' : undefined}>
      {children}
    </Go>
  );
}

/** What stands below the last row. */
export function RowsEnd({ children }: { children: ReactNode }) {
  return <div className={classes.end}>{children}</div>;
}
