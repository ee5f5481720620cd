import createClient from 'openapi-fetch';
import { noteAnswer, noteSilence } from '../live/reachability';
import { ApiError, localCode, problemFrom } from './problem';
import type { paths } from './schema';
import { setSignedOut } from './signedOut';

const timeLimit = 20_000;

async function timedFetch(request: Request): Promise<Response> {
  const limit = AbortSignal.timeout(timeLimit);
  try {
    const response = await globalThis.fetch(new Request(request, { signal: AbortSignal.any([request.signal, limit]) }));
    noteAnswer();
    if (response.status === 401) setSignedOut(true);
    return response;
  } catch (error) {
    // A request that the page itself gave up says nothing about the server.
    if (request.signal.aborted) throw error;
    noteSilence();
    const slow = limit.aborted;
    throw new ApiError({
      title: slow ? 'No answer in time' : 'No answer from the server',
      status: 0,
      code: slow ? localCode.tooSlow : localCode.noAnswer,
      detail: slow ? `The server did not answer within ${timeLimit / 1000} s.` : 'The request did not reach aiops, or its answer did not come back.',
      retryable: true,
    });
  }
}

/** The typed client of the API on this page's own origin. Requests end after 20 s. */
export const api = createClient<paths>({
  baseUrl: globalThis.location?.origin ?? '',
  fetch: timedFetch,
  headers: { Accept: 'application/json, application/problem+json' },
});

/** Makes a key under which the server carries out a change once, however often it is sent. */
export function newKey(): string {
  // randomUUID is missing where the page came without encryption from another machine.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** Returns the body of an answer, or throws an ApiError that holds the problem. */
export async function unwrap<T>(pending: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await pending;
  if (!response.ok) throw new ApiError(problemFrom(response.status, error));
  return data as T;
}
