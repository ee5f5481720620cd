import type { KnownEvent } from '../../shared/api/types';
import { parseTime } from '../../shared/format/time';

/** The time that a known event takes on a chart, in seconds. */
export interface Span {
  id: string;
  name: string;
  /** What is drawn of it, cut to the range of the chart. */
  from: number;
  to: number;
  /** All of it. */
  begin: number;
  end: number;
  /** No alarms meanwhile. */
  mute: boolean;
}

/** How many spans a chart draws, those that begin latest. */
const mostSpans = 100;

/**
 * The spans of the known events that touch the time from `from` to `to`, cut to
 * it, the oldest begin first. None is narrower than a step, so that there is a
 * value to point at.
 */
export function knownSpans(events: readonly KnownEvent[] | undefined, stepSeconds: number, from: number, to: number): Span[] {
  const spans: Span[] = [];
  for (const e of events ?? []) {
    const begin = parseTime(e.from) / 1000;
    const end = parseTime(e.to) / 1000;
    const reach = Math.max(end, begin + stepSeconds);
    if (!(begin < to) || !(reach >= from)) continue;
    spans.push({ id: e.id, name: e.name, from: Math.max(begin, from), to: Math.min(reach, to), begin, end, mute: e.mute });
  }
  return spans.sort((a, b) => a.begin - b.begin || a.end - b.end).slice(-mostSpans);
}

/** The spans that cover a time, the oldest begin first. */
export function spansAt(spans: readonly Span[], t: number): Span[] {
  return spans.filter((s) => t >= s.from && t <= s.to);
}

/** The stretches of time that spans cover together, oldest first. The spans come in the order of their begin. */
export function coveredBy(spans: readonly Span[]): [from: number, to: number][] {
  const stretches: [from: number, to: number][] = [];
  for (const s of spans) {
    const last = stretches.at(-1);
    if (last && s.from <= last[1]) last[1] = Math.max(last[1], s.to);
    else stretches.push([s.from, s.to]);
  }
  return stretches;
}

/** The least room, in pixels of the page, in which a name that was cut still says something. */
const leastRoom = 48;

/** A name cut to its room, or nothing where too little of it would be left. `measure` tells the width of a text. */
export function fitName(name: string, room: number, measure: (text: string) => number): string {
  if (measure(name) <= room) return name;
  if (room < leastRoom) return '';
  const letters = [...name];
  let fits = 0;
  let over = letters.length;
  while (over - fits > 1) {
    const middle = (fits + over) >> 1;
    if (measure(`${letters.slice(0, middle).join('')}…`) <= room) fits = middle;
    else over = middle;
  }
  return fits === 0 ? '' : `${letters.slice(0, fits).join('').trimEnd()}…`;
}

/**
 * The row, from 0, in which each label stands so that none covers another; -1
 * where all rows are taken. The labels come in the order of their left side.
 */
export function labelRows(labels: readonly { left: number; right: number }[], rows: number): number[] {
  const ends = new Array<number>(rows).fill(-Infinity);
  return labels.map(({ left, right }) => {
    const row = ends.findIndex((end) => left >= end);
    if (row >= 0) ends[row] = right;
    return row;
  });
}
