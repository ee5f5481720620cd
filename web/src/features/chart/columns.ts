import type { Replay } from '../../shared/api/types';
import { parseTime } from '../../shared/format/time';

type Maybe = number | null;

/**
 * A replay as columns of equal length, which is how it is drawn. Times are in
 * seconds and strictly increasing. A hole in the data is two rows of nulls, at
 * its first and at its last missing step, so that no line crosses it.
 */
export interface Columns {
  t: number[];
  value: Maybe[];
  expected: Maybe[];
  lower: Maybe[];
  upper: Maybe[];
  score: Maybe[];
  anomalous: boolean[];
}

function finite(v: number | null | undefined): Maybe {
  return v != null && Number.isFinite(v) ? v : null;
}

/** Turns a replay into columns. Points out of order or without a time are left out. */
export function toColumns(replay: Pick<Replay, 'points' | 'step_seconds'>): Columns {
  const c: Columns = { t: [], value: [], expected: [], lower: [], upper: [], score: [], anomalous: [] };
  const step = replay.step_seconds;
  let last = -Infinity;
  for (const p of replay.points) {
    const t = parseTime(p.t) / 1000;
    if (!(t > last)) continue;
    if (step > 0 && t - last > 1.5 * step && Number.isFinite(last)) {
      pushHole(c, last + step);
      if (t - step > last + 1.5 * step) pushHole(c, t - step);
    }
    c.t.push(t);
    c.value.push(finite(p.value));
    c.expected.push(finite(p.expected));
    c.lower.push(finite(p.lower));
    c.upper.push(finite(p.upper));
    c.score.push(finite(p.score));
    c.anomalous.push(p.anomalous);
    last = t;
  }
  return c;
}

function pushHole(c: Columns, t: number) {
  c.t.push(t);
  for (const column of [c.value, c.expected, c.lower, c.upper, c.score]) column.push(null);
  c.anomalous.push(false);
}

/** A run of neighbouring rows, both ends included. */
export type Run = [first: number, last: number];

/**
 * The runs of rows that have a band: at least one edge, and the same edges all
 * along, so that each run is one area.
 */
export function bandRuns(c: Columns): Run[] {
  const runs: Run[] = [];
  let start = -1;
  let sides = 0;
  for (let i = 0; i <= c.t.length; i++) {
    const here = i < c.t.length ? (c.lower[i] != null ? 1 : 0) + (c.upper[i] != null ? 2 : 0) : 0;
    if (here === sides) continue;
    if (sides !== 0) runs.push([start, i - 1]);
    start = i;
    sides = here;
  }
  return runs;
}

/** The runs of neighbouring rows whose values are anomalous. */
export function anomalousRuns(c: Columns): Run[] {
  const runs: Run[] = [];
  let start = -1;
  for (let i = 0; i <= c.t.length; i++) {
    const here = i < c.t.length && c.anomalous[i] === true && c.value[i] != null;
    if (here && start < 0) start = i;
    if (!here && start >= 0) {
      runs.push([start, i - 1]);
      start = -1;
    }
  }
  return runs;
}

/**
 * The range of the value axis: all values and expectations, and the band as
 * far as it does not flatten them: a wild band, as while learning, is cut off.
 * Values that are never negative keep an axis that is not negative either.
 */
export function valueRange(c: Columns): [low: number, high: number] {
  let low = Infinity;
  let high = -Infinity;
  let bandLow = Infinity;
  let bandHigh = -Infinity;
  for (let i = 0; i < c.t.length; i++) {
    for (const v of [c.value[i], c.expected[i]]) {
      if (v == null) continue;
      if (v < low) low = v;
      if (v > high) high = v;
    }
    const l = c.lower[i];
    const u = c.upper[i];
    if (l != null && l < bandLow) bandLow = l;
    if (u != null && u > bandHigh) bandHigh = u;
  }
  if (low > high) {
    if (bandLow > bandHigh) return [0, 1];
    low = Math.min(bandLow, bandHigh);
    high = Math.max(bandLow, bandHigh);
  }
  const positive = low >= 0;
  const span = high - low || Math.abs(high) * 0.2 || 1;
  const reach = 1.5 * span;
  if (bandLow < low) low = Math.max(bandLow, low - reach);
  if (bandHigh > high) high = Math.min(bandHigh, high + reach);
  const pad = (high - low || span) * 0.08;
  const bottom = low - pad;
  return [positive && bottom < 0 ? 0 : bottom, high + pad];
}

/** What the model says of one row. */
export type Verdict = 'normal' | 'anomalous' | 'learning' | 'no data';

/**
 * Reads the verdict of row i. A series that still learns calls nothing normal,
 * although it may have a first idea of a band.
 */
export function verdictAt(c: Columns, i: number, learning = false): Verdict {
  if (c.value[i] == null) return 'no data';
  if (c.anomalous[i]) return 'anomalous';
  return learning || (c.expected[i] == null && c.lower[i] == null && c.upper[i] == null) ? 'learning' : 'normal';
}

/** The last row that has a value, or -1. */
export function lastRow(c: Columns): number {
  for (let i = c.t.length - 1; i >= 0; i--) if (c.value[i] != null) return i;
  return -1;
}
