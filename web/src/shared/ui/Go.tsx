import { useNavigate, useSearch } from '@tanstack/react-router';
import type { ComponentProps, MouseEvent, ReactNode } from 'react';
import { stringifySearch, type PageSearch } from './search';

interface GoProps extends Pick<ComponentProps<'a'>, 'className' | 'aria-current'> {
  /** What changes in the page's state; the rest stays. */
  change: PageSearch;
  children: ReactNode;
}

/** A link that changes a part of the page's state. Like every link it can be opened in a new tab and copied. */
export function Go({ change, children, ...rest }: GoProps) {
  const search: PageSearch = useSearch({ strict: false });
  const go = useGo();
  const onClick = (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(change);
  };
  return (
    <a href={`/${stringifySearch({ ...search, ...change })}`} onClick={onClick} {...rest}>
      {children}
    </a>
  );
}

/** Changes a part of the page's state; `replace` leaves no entry in the history, for typing. */
export function useGo(): (change: PageSearch, options?: { replace?: boolean }) => void {
  const navigate = useNavigate();
  return (change, options) => {
    void navigate({ to: '/', search: (old: PageSearch) => ({ ...old, ...change }), replace: options?.replace, resetScroll: false });
  };
}
