import type { SourceHealth, SourceState } from '../../shared/api/types';

/** How one node sees a source. */
export interface NodeView {
  node: string;
  /** Whether it is the node that answers. */
  here: boolean;
  state: SourceState;
  since: string;
  error: string;
}

const states: readonly string[] = ['up', 'degraded', 'down', 'stale', 'unknown'] satisfies SourceState[];

/** Reads how each node sees a source from the details of its health; empty where one node is alone. */
export function nodesOf(health: SourceHealth | undefined): NodeView[] {
  const list = (health?.details as { nodes?: unknown } | undefined)?.nodes;
  if (!Array.isArray(list)) return [];
  return list.flatMap((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) return [];
    const { node, here, state, since, last_error } = entry as Record<string, unknown>;
    if (typeof node !== 'string' || typeof state !== 'string' || !states.includes(state)) return [];
    return [{ node, here: here === true, state: state as SourceState, since: String(since ?? ''), error: String(last_error ?? '') }];
  });
}
