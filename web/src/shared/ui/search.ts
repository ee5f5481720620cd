/**
 * The state of the page that lives in its URL, so that a link shows another
 * person the same. Fields that are absent have their defaults.
 */
export interface PageSearch {
  /** What is shown: log lines or, by default, detectors and anomalies. */
  view?: 'logs';
  /** Id of the chosen detector. */
  detector?: string;
  /** Key of the chosen series. */
  series?: string;
  /** Shows how the chosen detector came to be as it is, and what could be changed. */
  life?: boolean;
  /** Name of the range of time of the chart, or of the lines. */
  range?: string;
  /** Text that the list of detectors is filtered by. */
  filter?: string;
  /** Shows only detectors that need attention. */
  attention?: boolean;
  /** Which anomalies are listed: `all` or, by default, the open ones. */
  show?: 'all';
  /** Lists only the anomalies of the chosen detector. */
  only?: boolean;
  /** Id of the anomaly whose details are open. */
  anomaly?: string;
  /** Text that the list of log patterns is filtered by. */
  patterns?: string;
  /** Lists only log patterns and lines of this level. */
  level?: LogLevel;
  /** Which log patterns come first: `new` ones, those seen `last` or, by default, those with the most lines. */
  order?: PatternOrder;
  /** Id of the log pattern whose details are open. */
  pattern?: string;
  /** Name of the source whose lines are searched. */
  source?: string;
  /** Labels of the streams whose lines are searched, such as `{service="cart"}`. */
  stream?: string;
  /** Text that lines are searched for. */
  text?: string;
  /** A time to show lines from, instead of the newest. */
  at?: string;
}

/** A level that lines can be listed by. */
export type LogLevel = (typeof logLevels)[number];
/** An order of log patterns that is not the usual one. */
export type PatternOrder = (typeof patternOrders)[number];

const logLevels = ['debug', 'info', 'warn', 'error', 'fatal'] as const;
const patternOrders = ['new', 'last'] as const;

const longest = 2000;

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' && value.length <= longest ? value : undefined;
}

/** How long before a time the lines of it begin, in milliseconds. */
const lead = 10_000;

/** The change that shows log lines from shortly before a time on, of these streams or of all. */
export function linesFrom(ms: number, stream?: string): PageSearch {
  const at = Number.isFinite(ms) ? new Date(ms - lead).toISOString() : undefined;
  return { view: 'logs', at, stream, text: undefined, level: undefined, source: undefined, pattern: undefined, anomaly: undefined };
}

function oneOf<T extends string>(known: readonly T[], value: unknown): T | undefined {
  return known.find((k) => k === value);
}

/** Reads the page's state from the parameters of a URL. What does not fit is left out. */
export function readSearch(raw: Record<string, unknown>): PageSearch {
  const search: PageSearch = {
    view: oneOf(['logs'], raw['view']),
    detector: text(raw['detector']),
    series: text(raw['series']),
    life: raw['life'] === '1' || raw['life'] === true || undefined,
    range: text(raw['range']),
    filter: text(raw['filter']),
    attention: raw['attention'] === '1' || raw['attention'] === true || undefined,
    show: oneOf(['all'], raw['show']),
    only: raw['only'] === '1' || raw['only'] === true || undefined,
    anomaly: text(raw['anomaly']),
    patterns: text(raw['patterns']),
    level: oneOf(logLevels, raw['level']),
    order: oneOf(patternOrders, raw['order']),
    pattern: text(raw['pattern']),
    source: text(raw['source']),
    stream: text(raw['stream']),
    text: text(raw['text']),
    at: text(raw['at']),
  };
  return Object.fromEntries(Object.entries(search).filter(([, v]) => v !== undefined));
}

/** Takes a query string apart into plain texts. */
export function parseSearch(query: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(query));
}

/** Puts a query string together: texts as they are, true as 1, everything else left out. */
export function stringifySearch(search: PageSearch | Record<string, unknown>): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(search)) {
    if (value === true) params.set(name, '1');
    else if (typeof value === 'string' && value !== '') params.set(name, value);
  }
  const query = params.toString();
  return query && `?${query}`;
}
