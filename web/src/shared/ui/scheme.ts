import { useSyncExternalStore } from 'react';

const attribute = 'data-mantine-color-scheme';

function subscribe(listener: () => void) {
  const observer = new MutationObserver(listener);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: [attribute] });
  return () => observer.disconnect();
}

/** The colour scheme that the page is drawn in now. What reads colours from CSS depends on it. */
export function useDrawnScheme(): string {
  return useSyncExternalStore(subscribe, () => document.documentElement.getAttribute(attribute) ?? 'light');
}
