import { useSyncExternalStore } from 'react';

/** Whether the server answers requests, as the last ones saw it. The live stream has a state of its own. */
export interface Reachability {
  /** When the server last answered, whatever it said; 0 before the first answer. */
  answeredAt: number;
  /** When the server first failed to answer since; 0 while it answers. */
  silentSince: number;
}

let current: Reachability = { answeredAt: 0, silentSince: 0 };
const listeners = new Set<() => void>();

function set(next: Reachability) {
  current = next;
  for (const listener of listeners) listener();
}

/** Notes that the server answered. */
export function noteAnswer(now = Date.now()) {
  // Many answers arrive each second; only a change of the second is news.
  if (current.silentSince !== 0 || now - current.answeredAt >= 1000) set({ answeredAt: now, silentSince: 0 });
}

/** Notes that a request got no answer. */
export function noteSilence(now = Date.now()) {
  if (current.silentSince === 0) set({ ...current, silentSince: now });
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Whether the server answers requests. */
export function useReachability(): Reachability {
  return useSyncExternalStore(subscribe, () => current);
}
