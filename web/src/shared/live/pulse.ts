import { useSyncExternalStore } from 'react';

/** Whether events keep the cache up to date. */
export interface Pulse {
  live: boolean;
  /** Until when the cache was certain to be up to date; 0 before that. While it is live that is now. */
  confirmedAt: number;
}

let current: Pulse = { live: false, confirmedAt: 0 };
const listeners = new Set<() => void>();

/** Notes whether events arrive. */
export function setPulse(next: Pulse) {
  if (next.live === current.live && next.confirmedAt === current.confirmedAt) return;
  current = next;
  for (const listener of listeners) listener();
}

/** Tells whether events keep the cache up to date. */
export function isLive(): boolean {
  return current.live;
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Whether events keep the cache up to date, for views. */
export function usePulse(): Pulse {
  return useSyncExternalStore(subscribe, () => current);
}
