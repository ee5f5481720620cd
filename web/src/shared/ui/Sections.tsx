import type { ReactNode } from 'react';
import classes from './Sections.module.css';

/** The parts of a drawer, one below the other. */
export function Sections({ children }: { children: ReactNode }) {
  return <div className={classes.sections}>{children}</div>;
}

/** Things that belong together, close to each other, some under a heading. */
export function Block({ label, children }: { label?: string; children: ReactNode }) {
  return label === undefined ? (
    <div className={classes.block}>{children}</div>
  ) : (
    <section className={classes.block} aria-label={label}>
      {children}
    </section>
  );
}

/** A heading inside a drawer. */
export function Heading({ children }: { children: ReactNode }) {
  return <h3 className={classes.heading}>{children}</h3>;
}

/** A fact with its name; `undefined` leaves it out. */
export type Fact = [name: string, value: ReactNode] | undefined;

/** Names and values: side by side in columns, or as lines where values are long. */
export function Facts({ facts, lines }: { facts: readonly Fact[]; lines?: boolean }) {
  return (
    <dl className={lines ? classes.lines : classes.facts}>
      {facts.map(
        (fact) =>
          fact && (
            <div key={fact[0]}>
              <dt>{fact[0]}</dt>
              <dd>{fact[1]}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

/** A list of findings, each a few words and marks on a line that wraps. */
export function Items({ label, children }: { label?: string; children: ReactNode }) {
  return (
    <ul className={classes.items} aria-label={label}>
      {children}
    </ul>
  );
}

/** Words that stand back behind others. */
export function Quiet({ children, role }: { children: ReactNode; role?: 'status' }) {
  return (
    <span className={classes.quiet} role={role}>
      {children}
    </span>
  );
}

/** Buttons and fields on a line that wraps. */
export function Row({ label, children }: { label?: string; children: ReactNode }) {
  return (
    <div className={classes.row} role={label === undefined ? undefined : 'group'} aria-label={label}>
      {children}
    </div>
  );
}
