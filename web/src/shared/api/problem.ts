/** A problem document (RFC 9457) as the server sends it on every failure. */
export interface Problem {
  type?: string;
  title: string;
  status: number;
  detail: string;
  instance?: string;
  code: string;
  retryable: boolean;
  retry_after_ms?: number;
  request_id?: string;
  errors?: { pointer: string; code: string; detail: string }[];
}

/** A request that failed. `problem` is what the server said, or what the page found out by itself. */
export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title);
    this.name = 'ApiError';
    this.problem = problem;
  }
}

/** The codes that this page gives by itself, when no server said anything. */
export const localCode = {
  noAnswer: 'NO_ANSWER',
  tooSlow: 'NO_ANSWER_IN_TIME',
  notOurs: 'UNEXPECTED_ANSWER',
  ownFault: 'PAGE_ERROR',
} as const;

/** Turns the body of a failed response into a problem, whatever sent it. */
export function problemFrom(status: number, body: unknown): Problem {
  if (typeof body === 'object' && body !== null && 'code' in body && 'title' in body) {
    const p = body as Partial<Problem>;
    return { ...p, status, title: String(p.title), code: String(p.code), detail: String(p.detail ?? ''), retryable: p.retryable === true };
  }
  const transient = status === 429 || status === 502 || status === 503 || status === 504;
  return {
    title: 'An answer that is not from aiops',
    status,
    code: localCode.notOurs,
    detail: `Something between this page and the server answered with status ${status}.`,
    retryable: transient,
  };
}

/** Turns whatever was thrown into a problem. */
export function problemOf(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  return {
    title: 'This page failed',
    status: 0,
    code: localCode.ownFault,
    detail: error instanceof Error ? error.message : 'No reason is known.',
    retryable: false,
  };
}

/** How long to wait before the next try, in milliseconds, where the failure says so. */
export function retryAfterOf(error: unknown): number | undefined {
  return error instanceof ApiError ? error.problem.retry_after_ms : undefined;
}

/** Tells whether the same request can succeed later. */
export function isRetryable(error: unknown): boolean {
  return error instanceof ApiError && error.problem.retryable;
}

/** What to do about the problems that this page finds by itself; the server's catalogue knows the others. */
export const localAction: Record<string, string> = {
  [localCode.noAnswer]: 'Check that aiops runs and that this machine can reach it. This page keeps trying.',
  [localCode.tooSlow]: 'The server may be busy. This page keeps trying.',
  [localCode.notOurs]: 'Check the proxy in front of aiops.',
  [localCode.ownFault]: 'Reload the page. If it happens again, report it with the text above.',
};
