import type { ReactNode } from 'react';
import classes from './Badge.module.css';

/** What a state means for the reader. Each tone has its colours in tokens.css. */
export type Tone = 'good' | 'learning' | 'warning' | 'bad' | 'off';

/** A state as a word on a tint. The word carries the meaning, the colour repeats it. */
export function Badge({ tone, children, title }: { tone: Tone; children: ReactNode; title?: string }) {
  return (
    <span className={classes.badge} data-tone={tone} title={title}>
      <span className={classes.dot} aria-hidden="true" />
      {children}
    </span>
  );
}
