import { parseTime } from '../format/time';
import type { Point, Replay } from './types';

/** Most points that one request for a replay may ask for; the server's limit lies above it. */
export const maxPointsPerRequest = 10_000;

/** A replay as the cache holds it. */
export type HeldReplay = Replay & {
  /** When it was told that its known events changed, in milliseconds: more of them than the newest are to be asked for. */
  outdated?: number;
};

/** Cuts a range of time, in milliseconds, into parts of at most `maxPoints` steps each, oldest first. */
export function splitRange(from: number, to: number, stepSeconds: number, maxPoints = maxPointsPerRequest): [from: number, to: number][] {
  const span = Math.max(1, stepSeconds) * 1000 * maxPoints;
  const parts: [number, number][] = [];
  for (let start = from; start < to; start += span) parts.push([start, Math.min(to, start + span)]);
  return parts;
}

/**
 * Puts a newer part of the same series behind what is known, drops what lies
 * before `from` (in milliseconds), and lets the newer part win where both know
 * a point, an anomaly or a known event. A known event that reaches into the
 * newer part and that it does not tell of is gone.
 */
export function mergeReplay(known: Replay | undefined, newer: Replay, from: number): Replay {
  if (!known) return trim(newer, from);
  const kept = newer.points.length > 0 ? known.points.slice(0, firstAt(known.points, parseTime(newer.points[0]!.t))) : known.points;
  const ids = new Set(newer.anomalies.map((a) => a.id));
  const events = newer.known_events ?? [];
  const begin = parseTime(newer.points[0]?.t);
  const before = known.known_events?.filter((e) => !events.some(({ id }) => id === e.id) && !(parseTime(e.to) >= begin)) ?? [];
  return trim(
    {
      ...newer,
      learning: known.learning && newer.learning,
      points: kept.concat(newer.points),
      anomalies: known.anomalies.filter((a) => !ids.has(a.id)).concat(newer.anomalies),
      known_events: events.concat(before),
    },
    from,
  );
}

/**
 * An answer, with what the cache has got since it was asked for at `askedAt`, in
 * milliseconds: points behind it, and that known events changed meanwhile.
 */
export function keepNewer(answer: Replay, cached: HeldReplay | undefined, askedAt: number): HeldReplay {
  const last = parseTime(answer.points.at(-1)?.t);
  const newer = cached?.points.slice(firstAt(cached.points, last)).filter((p) => parseTime(p.t) > last) ?? [];
  const held: HeldReplay = newer.length > 0 && Number.isFinite(last) ? { ...answer, points: answer.points.concat(newer) } : answer;
  return cached?.outdated !== undefined && cached.outdated >= askedAt ? { ...held, outdated: cached.outdated } : held;
}

/** The index of the first point at or after a time, or their number; they are in order of time. */
function firstAt(points: readonly Point[], time: number): number {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (parseTime(points[middle]!.t) < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

function trim(replay: Replay, from: number): Replay {
  return {
    ...replay,
    points: replay.points.slice(firstAt(replay.points, from)),
    anomalies: replay.anomalies.filter((a) => !(parseTime(a.resolved_at) < from)),
    known_events: replay.known_events?.filter((e) => !(parseTime(e.to) < from)),
  };
}

/** From where to ask for what is new, in milliseconds: two steps before the last known point, for samples that came late. */
export function resumeFrom(known: Replay | undefined, stepSeconds: number, from: number): number {
  const last = known?.points.at(-1);
  return last ? Math.max(from, parseTime(last.t) - 2000 * stepSeconds) : from;
}
