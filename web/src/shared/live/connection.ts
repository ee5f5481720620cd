import { useSyncExternalStore } from 'react';

/** Whether the server answers, as the last requests saw it. */
export interface Connection {
  /** When the server last answered, whatever it said; 0 before the first answer. */
  answeredAt: number;
  /** When the server first failed to answer since; 0 while it answers. */
  silentSince: number;
}

let current: Connection = { answeredAt: 0, silentSince: 0 };
const listeners = new Set<() => void>();

function set(next: Connection) {
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

/** The state of the connection to the server. */
export function useConnection(): Connection {
  return useSyncExternalStore(subscribe, () => current);
}
