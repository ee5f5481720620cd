import { createContext, useContext, useEffect, useEffectEvent, useSyncExternalStore } from 'react';
import type { Connection, Listener, LiveClient } from './client';

/** The page's live stream, or undefined where there is none, as in tests of parts. */
export const LiveContext = createContext<LiveClient | undefined>(undefined);

const nothing = () => () => undefined;
const none: Connection = { state: 'idle', retryAt: 0, confirmedAt: 0, why: '' };
const noConnection = () => none;

/** The state of the live stream. */
export function useConnection(): Connection {
  const client = useContext(LiveContext);
  return useSyncExternalStore(client?.watch ?? nothing, client?.connection ?? noConnection);
}

/** Asks the stream to try again now. */
export function useReconnect(): () => void {
  const client = useContext(LiveContext);
  return () => client?.tell('retry');
}

/** Subscribes to one or several topics while the component is shown. Other topics make another subscription; other functions do not. */
export function useLive(topics: string | readonly string[] | undefined, listener: Listener) {
  const client = useContext(LiveContext);
  const list = topics === undefined ? [] : typeof topics === 'string' ? [topics] : topics;
  const key = JSON.stringify(list);
  const events = useEffectEvent<NonNullable<Listener['events']>>((e) => listener.events?.(e));
  const point = useEffectEvent<NonNullable<Listener['point']>>((topic, data) => listener.point?.(topic, data));
  const reset = useEffectEvent<NonNullable<Listener['reset']>>((t, cause) => listener.reset?.(t, cause));
  useEffect(() => {
    const wanted = JSON.parse(key) as string[];
    if (!client || wanted.length === 0) return undefined;
    return client.subscribe(wanted, { events, point, reset });
  }, [client, key]);
}
