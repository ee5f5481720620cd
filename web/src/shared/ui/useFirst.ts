import { useState } from 'react';

/**
 * Keeps the first value that becomes known for a subject: a default that stays
 * although what it was chosen by changes. Another subject starts anew.
 */
export function useFirst<T>(subject: string, value: T | undefined): T | undefined {
  const [kept, setKept] = useState<{ subject: string; value: T }>();
  if (kept?.subject === subject) return kept.value;
  if (value !== undefined) setKept({ subject, value });
  return value;
}
