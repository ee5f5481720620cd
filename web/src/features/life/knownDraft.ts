import { problemOf } from '../../shared/api/problem';
import type { KnownEvent, KnownEventInput } from '../../shared/api/types';
import { plainText, sentence } from '../../shared/format/text';
import { parseTime } from '../../shared/format/time';

/** A known event as a person writes it. */
export interface KnownDraft {
  name: string;
  /** Times of the reader's zone, as `datetime-local` has them. */
  from: string;
  to: string;
  mute: boolean;
  scope: 'this' | 'all';
  /** `name=value` apart by commas; odd ones stand in quotes. */
  labels: string;
}

/** What cannot be sent, by field. */
export type KnownFaults = Partial<Record<keyof KnownDraft, string>>;

const minute = 60_000;
const longest = 90 * 24 * 60 * minute;
const mostLabels = 16;

/** Writes a time of the reader's zone as `datetime-local` takes it, with its seconds where it has some. */
export function localTime(ms: number): string {
  const d = new Date(ms);
  const two = (n: number) => String(n).padStart(2, '0');
  const seconds = d.getSeconds() > 0 ? `:${two(d.getSeconds())}` : '';
  return `${String(d.getFullYear()).padStart(4, '0')}-${two(d.getMonth() + 1)}-${two(d.getDate())}T${two(d.getHours())}:${two(d.getMinutes())}${seconds}`;
}

/** An event that begins with this minute and lasts some hours. */
export function fromNow(now: number, hours: number): Pick<KnownDraft, 'from' | 'to'> {
  const begin = Math.floor(now / minute) * minute;
  return { from: localTime(begin), to: localTime(begin + hours * 60 * minute) };
}

/** A stored event as texts, or a new one of an hour from now on. */
export function knownDraftOf(e: KnownEvent | undefined, now: number): KnownDraft {
  if (!e) return { name: '', ...fromNow(now, 1), mute: false, scope: 'this', labels: '' };
  return { name: e.name, from: localTime(parseTime(e.from)), to: localTime(parseTime(e.to)), mute: e.mute, scope: e.detector_id ? 'this' : 'all', labels: labelsText(e.matchers) };
}

/** Writes labels so that `labelsOf` reads the same ones. Marks that cannot be seen are written as escapes. */
export function labelsText(labels: Record<string, string>): string {
  const written = (text: string) => {
    const quoted = plainText(JSON.stringify(text));
    return /^[^\s,="\\]+$/.test(text) && quoted === `"${text}"` ? text : quoted;
  };
  return Object.keys(labels)
    .sort()
    .map((n) => `${written(n)}=${written(labels[n]!)}`)
    .join(', ');
}

const quotedText = '"(?:[^"\\\\]|\\\\.)*"';
const oneLabel = new RegExp(`\\s*(${quotedText}|[^=,"\\s]+)\\s*=\\s*(${quotedText}|(?:[^\\s,"][^,"]*)?)\\s*(?:,|$)`, 'y');

/** Reads labels that a person typed; undefined when they are none, or one comes twice. */
export function labelsOf(text: string): Record<string, string> | undefined {
  const rest = text.trim();
  const labels = new Map<string, string>();
  oneLabel.lastIndex = 0;
  while (oneLabel.lastIndex < rest.length) {
    const found = oneLabel.exec(rest);
    const [name, value] = [read(found?.[1]), read(found?.[2])];
    if (!name || value === undefined || labels.has(name)) return undefined;
    labels.set(name, value);
  }
  return Object.fromEntries(labels);
}

function read(text: string | undefined): string | undefined {
  if (!text?.startsWith('"')) return text?.trim();
  try {
    return JSON.parse(text) as string;
  } catch {
    return undefined;
  }
}

/** What cannot be sent; the server looks at the rest. */
export function knownFaultsOf(draft: KnownDraft): KnownFaults {
  const faults: KnownFaults = {};
  const [from, to] = [Date.parse(draft.from), Date.parse(draft.to)];
  if (draft.name.trim() === '') faults.name = 'A name, such as database upgrade.';
  if (Number.isNaN(from)) faults.from = 'A day and a time.';
  if (Number.isNaN(to)) faults.to = 'A day and a time.';
  else if (to < from) faults.to = 'It ends before it begins.';
  else if (to - from > longest) faults.to = 'At most 90 days after the begin.';
  const labels = labelsOf(draft.labels);
  if (!labels) faults.labels = 'Each label once, as name=value.';
  else if (Object.keys(labels).length > mostLabels) faults.labels = `At most ${mostLabels} labels.`;
  return faults;
}

const fieldOf: Record<string, keyof KnownDraft> = { name: 'name', from: 'from', to: 'to', mute: 'mute', detector_id: 'scope', matchers: 'labels' };

/** What the server refused, by field. */
export function refusedOf(error: unknown): KnownFaults {
  const faults: KnownFaults = {};
  for (const { pointer, detail } of error ? (problemOf(error).errors ?? []) : []) {
    const field = fieldOf[pointer.split('/')[1] ?? ''];
    if (field) faults[field] ??= sentence(detail);
  }
  return faults;
}

/** The event as the server takes it. What was not touched of a stored one stays as exact as it was. */
export function knownInputOf(draft: KnownDraft, detectorId: string, stored?: KnownEvent): KnownEventInput {
  const old = stored && knownDraftOf(stored, 0);
  const time = (field: 'from' | 'to') => (stored && old?.[field] === draft[field] ? stored[field] : new Date(draft[field]).toISOString());
  return {
    name: draft.name === stored?.name ? stored.name : draft.name.trim(),
    from: time('from'),
    to: time('to'),
    mute: draft.mute,
    matchers: labelsOf(draft.labels) ?? {},
    ...(draft.scope === 'this' ? { detector_id: detectorId } : {}),
  };
}

/** When an event is, as seen from now. */
export type When = 'now' | 'upcoming' | 'past';

/** Tells when an event is; its end counts as inside. */
export function whenOf(e: Pick<KnownEvent, 'from' | 'to'>, now: number): When {
  return parseTime(e.to) < now ? 'past' : parseTime(e.from) > now ? 'upcoming' : 'now';
}

const order: When[] = ['now', 'upcoming', 'past'];

/** Those that run, those to come, those that are over, each the latest begin first. */
export function byWhen(events: readonly KnownEvent[], now: number): KnownEvent[] {
  return [...events].sort((a, b) => order.indexOf(whenOf(a, now)) - order.indexOf(whenOf(b, now)) || parseTime(b.from) - parseTime(a.from));
}
