import type { Detector, Shadow, Task } from '../../shared/api/types';
import { thinBasis } from '../../shared/format/definition';
import { formatValue } from '../../shared/format/number';
import { counted } from '../../shared/format/text';
import type { Tone } from '../../shared/ui/Badge';
import type { Counts } from './results';

/** How far a detector is from its full sight, in sentences; nothing where it has it. */
export function warmUp(d: Detector): string[] {
  const { status: s } = d;
  const budget = `${formatValue(d.false_alarms_per_week)} a week`;
  const said: string[] = [];
  if (s.series_learning > 0) said.push(`${counted(s.series_learning, 'series is', 'series are')} learning and raise no alarm until then.`);
  const basis = thinBasis(d);
  if (basis === 'assumed') said.push(`There is less data than a budget of ${budget} needs: with so few samples the scores are taken at their word, so more or fewer false alarms may come.`);
  if (basis === 'extrapolated') said.push(`There is less data than a budget of ${budget} needs: values so rare were not counted yet, and the threshold follows from the tails of the series.`);
  if (s.series_dropped > 0) said.push(`${counted(s.series_dropped, 'series was', 'series were')} refused because of the cap on series.`);
  const drift = s.drift;
  if (drift?.drifting) said.push(`The scores drift: ${percent(drift.share)} of the samples score 1 or more, ${percent(drift.expected)} were promised. Training anew may help.`);
  return said;
}

/** Writes a share of 0 to 1. */
export function percent(share: number | null | undefined): string {
  return share == null ? '–' : `${formatValue(100 * share, 'none', 2)} %`;
}

/** The tone of each state of a shadow. */
export const shadowTone: Record<Shadow['state'], Tone> = { running: 'good', learning: 'learning', waiting: 'off', failed: 'bad' };

/** What the state of a shadow means. */
export function shadowMeaning(s: Shadow): string {
  switch (s.state) {
    case 'learning':
      return 'It learns from history. The comparison begins when that is done.';
    case 'waiting':
      return 'It waits, because the detector is stopped or held.';
    case 'failed':
      return 'It is not scored.';
    case 'running':
      return 'It scores the same samples as the live definition and alarms nobody.';
  }
}

const kinds: Record<string, string> = { suggest: 'Suggestion', search: 'Search', backtest: 'Backtest', train: 'Training', retrain: 'Training by itself' };

/** What a task is called; undefined for kinds that are not about detectors. */
export function taskName(task: Pick<Task, 'kind' | 'detector_id'>): string | undefined {
  // One of a definition that is not in force names no detector.
  return task.kind === 'backtest' && !task.detector_id ? 'Backtest of a change' : kinds[task.kind];
}

/** The tone of each state of a task. */
export const taskTone: Record<Task['state'], Tone> = { queued: 'off', running: 'learning', succeeded: 'good', failed: 'bad', cancelled: 'off' };

/** What a changed definition would have made of the past alarms. */
export function effects(c: Counts): { name: string; text: string; tone?: Tone }[] {
  const of = (n: number, all: number) => (all === 0 ? 'none was labelled' : `${n.toLocaleString('en-US')} of ${all.toLocaleString('en-US')}`);
  return [
    { name: 'False alarms removed', text: of(c.false_removed, c.false), tone: c.false > 0 && c.false_removed > 0 ? 'good' : undefined },
    { name: 'True alarms kept', text: of(c.true_kept, c.true), tone: c.true_kept < c.true ? 'bad' : undefined },
    { name: 'Unlabelled changed', text: c.unlabelled === 0 ? 'there was none' : of(c.unlabelled_changed, c.unlabelled) },
    { name: 'Alarms added', text: c.added.toLocaleString('en-US'), tone: c.added > 0 ? 'warning' : undefined },
  ];
}
