import { Link, useNavigate } from '@tanstack/react-router';
import type { ComponentProps, ReactNode } from 'react';
import type { PageSearch } from './search';

interface GoProps extends Pick<ComponentProps<'a'>, 'className' | 'aria-current' | 'aria-label' | 'onKeyDown' | 'title'> {
  /** What changes in the page's state; the rest stays. */
  change: PageSearch;
  children: ReactNode;
}

/** A link that changes a part of the page's state. */
export function Go({ change, children, ...rest }: GoProps) {
  return (
    <Link to="/" search={(old: PageSearch) => ({ ...old, ...change })} resetScroll={false} activeProps={plain} inactiveProps={plain} {...rest}>
      {children}
    </Link>
  );
}

// The router marks links to the current page as active; here all of them are.
const plain = { className: '', 'aria-current': undefined, 'data-status': undefined };

/** Changes a part of the page's state; `replace` leaves no entry in the history, for typing. */
export function useGo(): (change: PageSearch, options?: { replace?: boolean }) => void {
  const navigate = useNavigate();
  return (change, options) => {
    void navigate({ to: '/', search: (old: PageSearch) => ({ ...old, ...change }), replace: options?.replace, resetScroll: false });
  };
}
