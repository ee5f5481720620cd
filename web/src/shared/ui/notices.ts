import { useSyncExternalStore } from 'react';

/** Something that a person has to know wherever they are on the page. */
export interface Notice {
  id: number;
  text: string;
}

const most = 4;
let notices: readonly Notice[] = [];
let count = 0;
const listeners = new Set<() => void>();

function set(next: readonly Notice[]) {
  notices = next;
  for (const listener of listeners) listener();
}

/** Shows a notice until it is dismissed; of too many the oldest goes. */
export function notify(text: string) {
  set([...notices, { id: ++count, text }].slice(-most));
}

/** Takes a notice away. */
export function dismiss(id: number) {
  set(notices.filter((n) => n.id !== id));
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The notices that are shown, the oldest first. */
export function useNotices(): readonly Notice[] {
  return useSyncExternalStore(subscribe, () => notices);
}
