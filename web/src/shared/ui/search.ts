/**
 * The state of the page that lives in its URL, so that a link shows another
 * person the same. Fields that are absent have their defaults.
 */
export interface PageSearch {
  /** Id of the chosen detector. */
  detector?: string;
  /** Key of the chosen series. */
  series?: string;
  /** Name of the chart's range of time. */
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
}

const longest = 2000;

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' && value.length <= longest ? value : undefined;
}

/** Reads the page's state from the parameters of a URL. What does not fit is left out. */
export function readSearch(raw: Record<string, unknown>): PageSearch {
  const search: PageSearch = {
    detector: text(raw['detector']),
    series: text(raw['series']),
    range: text(raw['range']),
    filter: text(raw['filter']),
    attention: raw['attention'] === '1' || raw['attention'] === true || undefined,
    show: raw['show'] === 'all' ? 'all' : undefined,
    only: raw['only'] === '1' || raw['only'] === true || undefined,
    anomaly: text(raw['anomaly']),
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
