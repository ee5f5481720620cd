import { useState } from 'react';

/**
 * Text that is typed faster than the address follows: the draft is what the
 * field shows at once, `commit` sends it on, and a value that changed for
 * another reason, such as the back button, replaces the draft.
 */
export function useDraft(value: string, commit: (text: string) => void): [draft: string, change: (text: string) => void] {
  const [draft, setDraft] = useState(value);
  const [seen, setSeen] = useState(value);
  const [sent, setSent] = useState<string>();
  if (value !== seen) {
    setSeen(value);
    if (sent === undefined) setDraft(value);
    else if (sent === value) setSent(undefined);
  }
  const change = (text: string) => {
    setDraft(text);
    setSent(text === value ? undefined : text);
    commit(text);
  };
  return [draft, change];
}
