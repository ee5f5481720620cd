import { useState, type FocusEvent, type PointerEvent } from 'react';

/** Something with an identity that a list shows. */
interface Row {
  id: string;
}

interface Held<T> {
  /** What to show. */
  rows: readonly T[];
  /** How many rows came meanwhile and are not shown yet. */
  fresh: number;
  /** Shows them. */
  release: () => void;
  /** What the element around the rows has to listen to. */
  handlers: {
    onPointerEnter: (event: PointerEvent) => void;
    onPointerLeave: () => void;
    onFocus: (event: FocusEvent) => void;
    onBlur: (event: FocusEvent) => void;
  };
}

/** The rows as they stood when a list was held, each as it is now where that is known. */
export function heldRows<T extends Row>(kept: readonly T[], now: readonly T[]): T[] {
  const byId = new Map(now.map((row) => [row.id, row]));
  return kept.map((row) => byId.get(row.id) ?? row);
}

/**
 * Keeps the rows of a list where they are while somebody points at it or is in
 * it with the keyboard: they change in place, none comes and none goes.
 * `shows` picks what is shown of `all` otherwise.
 */
export function useHeld<T extends Row>(all: readonly T[], shows: (row: T) => boolean): Held<T> {
  const [pointed, setPointed] = useState(false);
  const [focused, setFocused] = useState(false);
  const [kept, setKept] = useState<readonly T[]>();
  const current = all.filter(shows);
  const holding = pointed || focused;
  if (holding && kept === undefined) setKept(current);
  if (!holding && kept !== undefined) setKept(undefined);
  const there = new Set(kept?.map((row) => row.id));
  return {
    rows: kept ? heldRows(kept, all) : current,
    fresh: kept ? current.filter((row) => !there.has(row.id)).length : 0,
    release: () => setKept(current),
    handlers: {
      onPointerEnter: (event) => setPointed(event.pointerType !== 'touch'),
      onPointerLeave: () => setPointed(false),
      // A click leaves the focus behind; only the keyboard's holds the list.
      onFocus: (event) => setFocused(event.target.matches(':focus-visible')),
      onBlur: (event) => {
        if (!event.currentTarget.contains(event.relatedTarget)) setFocused(false);
      },
    },
  };
}
