import { useId, type ReactNode } from 'react';
import classes from './Panel.module.css';

interface PanelProps {
  title: ReactNode;
  /** Stands at the right of the title. */
  actions?: ReactNode;
  /** Stands below the title, above what scrolls. */
  tools?: ReactNode;
  className?: string;
  /** Says that the content scrolls by itself where the page gives it a fixed height. */
  scroll?: boolean;
  children: ReactNode;
}

/** A titled part of the page: a region that screen readers list by its title. */
export function Panel({ title, actions, tools, className, scroll, children }: PanelProps) {
  const id = useId();
  return (
    <section className={`${classes.panel} ${className ?? ''}`} aria-labelledby={id}>
      <header className={classes.header}>
        <h2 id={id} className={classes.title}>
          {title}
        </h2>
        {actions}
      </header>
      {tools && <div className={classes.tools}>{tools}</div>}
      <div className={classes.body} data-scroll={scroll || undefined}>
        {children}
      </div>
    </section>
  );
}
