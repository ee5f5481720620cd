import { vi } from 'vitest';
import type { Problem } from '../shared/api/problem';

/** What a fake operation gets of a request. */
export interface Asked {
  url: URL;
  body: unknown;
  headers: Headers;
}

/** Answers a request: with a body, with a Refused problem, or never. */
export type Handler = (asked: Asked) => unknown;

/** A failure that a handler answers with. */
export class Refused {
  readonly problem: Problem;

  constructor(status: number, code: string, more: Partial<Problem> = {}) {
    this.problem = { title: 'Refused', status, code, detail: 'It was refused.', retryable: false, request_id: 'req_1', ...more };
  }
}

/** What a handler returns to leave a request without an answer. */
export const never = Symbol('never');

/** What a handler returns when the connection breaks. */
export const cut = Symbol('cut');

/** A handler that notes what it is asked. */
export function noting(answer: (asked: Asked) => unknown) {
  const seen: Asked[] = [];
  const handler: Handler = (asked) => {
    seen.push(asked);
    return answer(asked);
  };
  return { seen, handler };
}

/**
 * Puts a server in place of the network for one test: operations by method and
 * path, such as `GET /api/v1/detectors`. An operation that is not named is
 * refused, and noted in `missed`.
 */
export function fakeServer(handlers: Record<string, Handler>) {
  const asked: string[] = [];
  const missed: string[] = [];
  vi.stubGlobal('fetch', async (request: Request): Promise<Response> => {
    const url = new URL(request.url);
    const operation = `${request.method} ${url.pathname}`;
    asked.push(operation);
    const handler = handlers[operation];
    if (!handler) missed.push(operation);
    const text = await request.text();
    const answer = handler ? await handler({ url, body: text ? JSON.parse(text) : undefined, headers: request.headers }) : new Refused(404, 'NOT_FOUND');
    if (answer === cut) throw new TypeError('network error');
    if (answer === never) {
      return new Promise((_, reject) => request.signal.addEventListener('abort', () => reject(request.signal.reason)));
    }
    const refused = answer instanceof Refused;
    return new Response(JSON.stringify(refused ? answer.problem : answer), {
      status: refused ? answer.problem.status : 200,
      headers: { 'Content-Type': refused ? 'application/problem+json' : 'application/json' },
    });
  });
  return { asked, missed, handlers };
}
