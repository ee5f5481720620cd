import type { Detector, DetectorInput, DetectorPatch, TuneSpace } from '../../shared/api/types';

/** What a person types to change a definition, as texts. */
export interface Draft {
  budget: string;
  direction: Detector['direction'];
  absolute: string;
  /** In percent. */
  relative: string;
  for: string;
  keep: string;
  refractory: string;
  model: string;
  timeZone: string;
  /** One or more, apart by commas or line breaks. */
  holidays: string;
}

/** A field of the draft that cannot be sent. */
export type Faults = Partial<Record<keyof Draft, string>>;

/** The definition in force as texts. */
export function draftOf(d: Detector): Draft {
  return {
    budget: String(d.false_alarms_per_week),
    direction: d.direction,
    absolute: String(d.min_deviation.absolute ?? 0),
    relative: String(rounded(100 * (d.min_deviation.relative ?? 0))),
    for: d.for,
    keep: d.keep_firing_for,
    refractory: d.refractory ?? '0s',
    model: d.model,
    timeZone: d.time_zone,
    holidays: (d.holidays ?? []).join(', '),
  };
}

/** Takes the dust off a product of decimal fractions. */
function rounded(n: number): number {
  return Number(n.toPrecision(12));
}

/** Splits a list that a person typed. */
export function listOf(text: string): string[] {
  return text.split(/[,\n]/).map((t) => t.trim()).filter(Boolean);
}

const length = /^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+)$/;
const day = /^([0-9]{4}-)?[0-9]{2}-[0-9]{2}(=(monday|tuesday|wednesday|thursday|friday|saturday|sunday))?$/i;

/** What cannot be sent, by field; the server looks at the rest. */
export function faultsOf(draft: Draft): Faults {
  const faults: Faults = {};
  if (!(number(draft.budget) > 0)) faults.budget = 'A number above 0, such as 0.5.';
  if (!(number(draft.absolute) >= 0)) faults.absolute = 'A number, 0 for none.';
  if (!(number(draft.relative) >= 0)) faults.relative = 'Percent, 0 for none.';
  for (const field of ['for', 'keep', 'refractory'] as const) {
    if (!length.test(draft[field].trim())) faults[field] = 'A length of time, such as 30s or 5m.';
  }
  if (draft.model.trim() === '') faults.model = 'The name of a model, such as auto.';
  const odd = listOf(draft.holidays).find((h) => !day.test(h));
  if (odd !== undefined) faults.holidays = `${odd.slice(0, 40)} is no day: 12-25, 2026-04-03 or 12-24=saturday.`;
  return faults;
}

function number(text: string): number {
  return text.trim() === '' ? NaN : Number(text);
}

/** What the draft changes of the definition, as a merge patch; a list or text that was emptied is taken away. */
export function patchOf(d: Detector, draft: Draft): DetectorPatch {
  const old = draftOf(d);
  const patch: DetectorPatch = {};
  if (number(draft.budget) !== d.false_alarms_per_week) patch.false_alarms_per_week = number(draft.budget);
  if (draft.direction !== old.direction) patch.direction = draft.direction;
  if (number(draft.absolute) !== number(old.absolute) || number(draft.relative) !== number(old.relative)) {
    patch.min_deviation = { absolute: number(draft.absolute), relative: rounded(number(draft.relative) / 100) };
  }
  if (draft.for.trim() !== old.for) patch.for = draft.for.trim();
  if (draft.keep.trim() !== old.keep) patch.keep_firing_for = draft.keep.trim();
  if (draft.refractory.trim() !== old.refractory) patch.refractory = draft.refractory.trim();
  if (draft.model.trim() !== old.model) {
    patch.model = draft.model.trim();
    // Those of another model would be refused.
    if (Object.keys(d.parameters ?? {}).length > 0) patch.parameters = null;
  }
  if (draft.timeZone.trim() !== old.timeZone) patch.time_zone = draft.timeZone.trim() || null;
  const holidays = listOf(draft.holidays);
  if (holidays.join() !== (d.holidays ?? []).join()) patch.holidays = holidays.length > 0 ? holidays : null;
  return patch;
}

/** Whether a patch makes the models learn from history anew. */
export function learnsAnew(patch: DetectorPatch): boolean {
  return ['model', 'parameters', 'time_zone'].some((field) => field in patch);
}

/** What the server says of a detector beside its definition. */
const servers = new Set(['id', 'version', 'provisioned', 'created_at', 'updated_at', 'status']);

/** The whole definition as clients write it, with a patch applied. */
export function definitionWith(d: Detector, patch: DetectorPatch): DetectorInput {
  const all = Object.entries({ ...d, ...patch });
  return Object.fromEntries(all.filter(([field, value]) => !servers.has(field) && value !== null && !(field === 'time_zone' && value === ''))) as DetectorInput;
}

/** What a person wants a search to try: lists of values as texts. */
export interface SearchDraft {
  models: string;
  budgets: string;
  relatives: string;
  fors: string;
  days: string;
  minutes: string;
}

/** Values around those in force. */
export function searchDraftOf(d: Detector): SearchDraft {
  const budget = d.false_alarms_per_week;
  return {
    models: d.signal === 'logs' ? d.model : [...new Set([d.model, 'auto'])].join(', '),
    budgets: [budget / 10, budget / 3, budget].map((b) => String(Number(b.toPrecision(2)))).join(', '),
    relatives: [...new Set([0, 10, 25, rounded(100 * (d.min_deviation.relative ?? 0))])].sort((a, b) => a - b).join(', '),
    fors: [...new Set([d.for, '1m', '5m'])].join(', '),
    days: '30',
    minutes: '10',
  };
}

/** A search as the server takes it, or undefined when a value is none. */
export function searchOf(draft: SearchDraft): { space: TuneSpace; days: number; time: string } | undefined {
  const budgets = listOf(draft.budgets).map(Number);
  const relatives = listOf(draft.relatives).map((r) => rounded(Number(r) / 100));
  const [days, minutes] = [number(draft.days), number(draft.minutes)];
  const fors = listOf(draft.fors);
  const sound = budgets.every((b) => b > 0) && relatives.every((r) => r >= 0) && fors.every((f) => length.test(f)) && Number.isInteger(days) && days >= 1 && days <= 90 && minutes > 0 && minutes <= 360;
  if (!sound) return undefined;
  return { space: { models: listOf(draft.models), false_alarms_per_week: budgets, min_deviation_relative: relatives, for: fors }, days, time: `${Math.round(minutes * 60)}s` };
}
