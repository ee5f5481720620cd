import { useId, type ReactNode } from 'react';
import classes from './Panel.module.css';

interface PanelProps {
  title: ReactNode;
  /** Stands at the right of the title. */
  actions?: ReactNode;
  /** Stands below the title, above what scrolls. */
  tools?: ReactNode;
  /** Makes the panel a target of the focus. */
  id?: string;
  className?: string;
  /** Says that the content scrolls by itself where the page gives it a fixed height. */
  scroll?: boolean;
  children: ReactNode;
}

/** A titled part of the page: a region that screen readers list by its title. */
export function Panel({ title, actions, tools, id, className, scroll, children }: PanelProps) {
  const titleId = useId();
  return (
    <section className={`${classes.panel} ${className ?? ''}`} aria-labelledby={titleId} id={id} tabIndex={id ? -1 : undefined}>
      <header className={classes.header}>
        <h2 id={titleId} className={classes.title}>
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
