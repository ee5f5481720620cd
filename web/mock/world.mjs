// A small world that looks alive: every number is a function of time and of
// names, so that two runs at the same time show the same.

/** @typedef {import('../src/shared/api/types').Detector} Detector */
/** @typedef {import('../src/shared/api/types').SeriesStatus} SeriesStatus */
/** @typedef {import('../src/shared/api/types').Point} Point */
/** @typedef {import('../src/shared/api/types').Anomaly} Anomaly */
/** @typedef {import('../src/shared/api/types').Source} Source */
/** @typedef {import('../src/shared/api/types').Explanation} Explanation */

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

/**
 * How a detector's series behave.
 * @typedef {object} Shape
 * @property {string} id
 * @property {string} name
 * @property {string} query
 * @property {number} step seconds
 * @property {number} level
 * @property {number} swing part of the level that rises and falls with the day
 * @property {number} noise part of the level
 * @property {Record<string, string>[]} series
 * @property {'both' | 'above' | 'below'} [direction]
 * @property {Detector['status']['state']} [state]
 * @property {string} [source]
 * @property {number} [budget]
 * @property {number} [learning] how many series are still learning
 * @property {number} [lag]
 * @property {string} [error]
 * @property {boolean} [provisioned]
 */

/**
 * When a series leaves its band.
 * @typedef {object} Fault
 * @property {string} detector
 * @property {number} series
 * @property {number} start
 * @property {number} end Infinity while it goes on
 * @property {number} size in widths of the band
 * @property {'info' | 'warning' | 'critical'} severity
 */

/** @type {(name: string, routes: string[]) => Record<string, string>[]} */
const perRoute = (name, routes) => routes.map((route) => ({ __name__: name, job: 'shop', route }));

const containers = Array.from({ length: 2400 }, (_, i) => ({
  __name__: 'container_cpu_usage_seconds_total',
  namespace: ['shop', 'billing', 'search', 'batch'][i % 4] ?? '',
  pod: `worker-${String(i).padStart(4, '0')}`,
}));

/** @type {Shape[]} */
const shapes = [
  {
    id: 'det_latency',
    name: 'checkout latency',
    query: 'histogram_quantile(0.99, sum by (le, route) (rate(http_request_duration_seconds_bucket{job="shop"}[5m])))',
    step: 15,
    level: 0.18,
    swing: 0.25,
    noise: 0.05,
    direction: 'above',
    source: 'main',
    series: perRoute('', ['/checkout', '/cart', '/login', '/search']).map(({ job, route }) => ({ job: job ?? '', route: route ?? '' })),
  },
  { id: 'det_cpu', name: 'host CPU', query: 'sum by (mode) (rate(node_cpu_seconds_total{mode!="idle"}[1m]))', step: 5, level: 0.9, swing: 0.3, noise: 0.08, provisioned: true, series: [{ mode: 'iowait' }, { mode: 'system' }, { mode: 'user' }] },
  { id: 'det_mem', name: 'host memory available', query: 'node_memory_MemAvailable_bytes', step: 5, level: 9.4e9, swing: 0.04, noise: 0.01, direction: 'below', provisioned: true, series: [{ __name__: 'node_memory_MemAvailable_bytes', instance: 'localhost' }] },
  { id: 'det_net', name: 'host network received', query: 'rate(node_network_receive_bytes_total{device!="lo"}[1m])', step: 5, level: 1.4e6, swing: 0.5, noise: 0.12, provisioned: true, series: [{ device: 'eth0' }, { device: 'eth1' }] },
  { id: 'det_disk', name: 'host disk busy', query: 'rate(node_disk_io_time_seconds_total[1m])', step: 5, level: 0.06, swing: 0.2, noise: 0.15, provisioned: true, series: [{ device: 'nvme0n1' }] },
  { id: 'det_pods', name: 'CPU per container', query: 'sum by (namespace, pod) (rate(container_cpu_usage_seconds_total[2m]))', step: 30, level: 0.4, swing: 0.2, noise: 0.1, source: 'main', budget: 5, learning: 180, series: containers },
  { id: 'det_errors', name: 'error rate by route', query: 'sum by (route) (rate(http_requests_total{code=~"5.."}[5m]))', step: 15, level: 2.2, swing: 0.3, noise: 0.25, direction: 'above', source: 'main', series: perRoute('', ['/api/v1/orders', '/api/v1/payments']).map(({ route }) => ({ route: route ?? '' })) },
  { id: 'det_queue', name: 'orders waiting', query: 'orders_queue_length', step: 30, level: 340, swing: 0.35, noise: 0.06, source: 'main', state: 'learning', learning: 1, series: [{ __name__: 'orders_queue_length', queue: 'orders' }] },
  {
    id: 'det_labels',
    name: 'requests by <img src=x onerror=alert(1)>',
    query: 'sum by (client) (rate(requests_total[1m]))',
    step: 15,
    level: 51,
    swing: 0.2,
    noise: 0.05,
    source: 'main',
    state: 'degraded',
    lag: 94,
    error: 'the answer of main was cut off at 10,000 series',
    series: [{ client: '<img src=x onerror="globalThis.hacked=1">' }, { client: 'curl/8.5' }, { client: 'evil\u202egnp.exe\u0007' }, { client: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 with a very long tail of words' }],
  },
  { id: 'det_old', name: 'nightly export size', query: 'export_size_bytes', step: 60, level: 7.2e8, swing: 0, noise: 0.02, source: 'main', state: 'stopped', series: [{ __name__: 'export_size_bytes' }] },
  { id: 'det_broken', name: 'payments per minute', query: 'sum(increase(payments_total[1m]))', step: 60, level: 88, swing: 0.4, noise: 0.1, source: 'main', state: 'failed', error: 'the query selects nothing: no series is called payments_total', series: [] },
];

/** A number from 0 to 1 that depends on nothing but the text and n. @type {(text: string, n: number) => number} */
function chance(text, n) {
  let h = 2166136261 ^ n;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
  h = Math.imul(h ^ (h >>> 15), 2246822507);
  h = Math.imul(h ^ (h >>> 13), 3266489909);
  return ((h ^ (h >>> 16)) >>> 0) / 4294967296;
}

/** Roughly normal noise, mean 0 and deviation 1. @type {(text: string, n: number) => number} */
function noise(text, n) {
  return (chance(text, n) + chance(text, n + 7919) + chance(text, n + 104729) + chance(text, n + 1299709) - 2) * 1.73;
}

/** @type {(labels: Record<string, string>) => string} */
export const keyOf = (labels) =>
  `{${Object.keys(labels)
    .sort()
    .map((n) => `${n}=${JSON.stringify(labels[n])}`)
    .join(', ')}}`;

/** The world as it is at the times it is asked for. */
export class World {
  /** @param {number} startedAt */
  constructor(startedAt) {
    this.startedAt = startedAt;
    /** @type {Map<string, Partial<Anomaly>>} */
    this.changes = new Map();
    /** Faults on top of those of the schedule. @type {Fault[]} */
    this.extra = [];
  }

  /** @param {number} now @returns {Fault[]} newest first */
  faults(now) {
    /** @type {Fault[]} */
    const faults = [
      { detector: 'det_latency', series: 0, start: this.startedAt - 7 * minute, end: Infinity, size: 3.4, severity: 'critical' },
      { detector: 'det_errors', series: 1, start: this.startedAt - 5 * minute, end: Infinity, size: 2.1, severity: 'warning' },
      { detector: 'det_labels', series: 0, start: this.startedAt - 26 * minute, end: this.startedAt - 14 * minute, size: 1.6, severity: 'info' },
    ];
    // One that comes and goes while one watches, and older ones to page through.
    for (let start = Math.floor(now / (6 * minute)) * 6 * minute; start > now - day; start -= 6 * minute) {
      faults.push({ detector: 'det_cpu', series: 2, start, end: start + 100_000, size: 1.9, severity: 'warning' });
    }
    for (let start = Math.floor(now / (47 * minute)) * 47 * minute; start > now - day; start -= 47 * minute) {
      faults.push({ detector: 'det_net', series: 0, start, end: start + 4 * minute, size: -1.8, severity: 'info' });
    }
    return faults.concat(this.extra).sort((a, b) => b.start - a.start);
  }

  /** @param {number} now @returns {Detector[]} */
  detectors(now) {
    return shapes.map((s) => {
      const state = s.state ?? 'running';
      const stopped = state === 'stopped';
      const at = Math.floor(now / (s.step * 1000)) * s.step * 1000;
      return {
        id: s.id,
        name: s.name,
        source: s.source ?? 'builtin',
        query: s.query,
        signal: /** @type {const} */ ('metrics'),
        step: s.step >= 60 ? `${s.step / 60}m` : `${s.step}s`,
        model: 'auto',
        parameters: {},
        false_alarms_per_week: s.budget ?? 1,
        direction: s.direction ?? 'both',
        min_deviation: { absolute: 0, relative: 0.1 },
        for: '30s',
        keep_firing_for: '1m',
        missing_data: 'ignore',
        time_zone: '',
        labels: {},
        provisioned: s.provisioned ?? false,
        enabled: !stopped,
        version: 1,
        created_at: new Date(this.startedAt - 30 * day).toISOString(),
        updated_at: new Date(this.startedAt - 3 * day).toISOString(),
        status: {
          state,
          series_active: s.series.length,
          series_learning: s.learning ?? 0,
          series_dropped: 0,
          open_anomalies: this.faults(now).filter((f) => f.detector === s.id && f.end > now).length,
          lag_seconds: s.lag ?? (now - at) / 1000,
          last_evaluated_at: state === 'failed' ? undefined : new Date(at).toISOString(),
          last_error: s.error,
          memory_bytes: 2400 * s.series.length,
          threshold: 4.6,
          threshold_asked: 4.6,
          threshold_basis: state === 'learning' ? 'assumed' : s.learning ? 'extrapolated' : 'counted',
        },
      };
    });
  }

  /** @param {string} id @param {number} now @returns {SeriesStatus[] | undefined} */
  series(id, now) {
    const shape = shapes.find((s) => s.id === id);
    const faults = this.faults(now);
    return shape?.series.map((labels, i) => {
      const fault = faults.find((f) => f.detector === id && f.series === i && f.end > now);
      const last = this.point(shape, i, Math.floor(now / (shape.step * 1000)) * shape.step * 1000, now, faults);
      return {
        series: { labels, key: keyOf(labels) },
        last,
        learning: i < (shape.learning ?? 0),
        model: 'seasonal',
        why: i < (shape.learning ?? 0) ? 'learning: 22 more samples needed' : 'a daily rhythm explains most of the change',
        anomaly: fault && 'firing',
        anomaly_id: fault && this.idOf(fault),
      };
    });
  }

  /** @param {Shape} shape @param {number} i @param {number} t @param {number} now @param {Fault[]} [faults] @returns {Point} */
  point(shape, i, t, now, faults = this.faults(now)) {
    const key = `${shape.id}/${i}`;
    const scale = shape.level * (0.6 + 0.8 * chance(key, 1));
    const expected = scale * (1 + shape.swing * Math.sin((2 * Math.PI * t) / day + i) + 0.3 * shape.swing * Math.sin((2 * Math.PI * t) / hour + 2 * i));
    const width = scale * shape.noise;
    const fault = faults.find((f) => f.detector === shape.id && f.series === i && t >= f.start && t < f.end);
    const push = fault ? fault.size * 4 * width * (0.85 + 0.3 * chance(key, Math.floor(t / 30_000))) : 0;
    const value = expected + width * noise(key, Math.floor(t / 1000)) + push;
    const z = Math.abs(value - expected) / width;
    const learning = i < (shape.learning ?? 0);
    const score = learning ? 0 : Math.max(0, 0.217 * z * z + 0.3 * Math.log10(1 + z));
    return {
      t: new Date(t).toISOString(),
      value,
      expected: learning ? null : expected,
      lower: learning || shape.direction === 'above' ? null : expected - 4 * width,
      upper: learning || shape.direction === 'below' ? null : expected + 4 * width,
      score,
      anomalous: !learning && fault !== undefined,
    };
  }

  /** @param {string} id @param {string} key @param {number} from @param {number} to @param {number} now */
  replay(id, key, from, to, now) {
    const shape = shapes.find((s) => s.id === id);
    const i = shape?.series.findIndex((labels) => keyOf(labels) === key) ?? -1;
    if (!shape || i < 0) return undefined;
    const step = shape.step * 1000;
    /** @type {Point[]} */
    const points = [];
    const faults = this.faults(now);
    for (let t = Math.ceil(from / step) * step; t <= Math.min(to, now); t += step) {
      // The samples of ten minutes are missing, six hours before the start.
      if (Math.abs(t - (this.startedAt - 40 * minute)) < 90_000 && id === 'det_latency') continue;
      points.push(this.point(shape, i, t, now, faults));
    }
    const anomalies = this.anomalies(now).filter((a) => a.detector_id === id && a.series.key === key && Date.parse(a.started_at) <= to && !(Date.parse(a.resolved_at ?? '') < from));
    return { detector_id: id, series: { labels: shape.series[i] ?? {}, key }, step_seconds: shape.step, points, anomalies, learning: i < (shape.learning ?? 0) };
  }

  /** @param {Fault} f */
  idOf(f) {
    return `an_${f.detector.slice(4)}_${f.series}_${Math.round(f.start / 1000).toString(36)}`;
  }

  /** @param {number} now @returns {Anomaly[]} newest first */
  anomalies(now) {
    const faults = this.faults(now);
    return faults.map((f) => {
      const shape = /** @type {Shape} */ (shapes.find((s) => s.id === f.detector));
      const labels = shape.series[f.series] ?? {};
      const step = shape.step * 1000;
      const peak = this.point(shape, f.series, Math.ceil(f.start / step) * step + step, now, faults);
      const over = f.end <= now;
      /** @type {Anomaly} */
      const anomaly = {
        id: this.idOf(f),
        detector_id: shape.id,
        detector_name: shape.name,
        series: { labels, key: keyOf(labels) },
        state: over ? 'resolved' : 'firing',
        severity: f.severity,
        started_at: new Date(f.start).toISOString(),
        fired_at: new Date(f.start + 30_000).toISOString(),
        resolved_at: over ? new Date(f.end).toISOString() : undefined,
        peak_at: peak.t,
        value: peak.value,
        expected: peak.expected,
        lower: peak.lower,
        upper: peak.upper,
        score: peak.score,
        once_in_seconds: Math.min(10 ** (peak.score ?? 0) * shape.step, 40 * 365 * 86400),
        reason: `${f.size > 0 ? 'Above' : 'Below'} everything that is usual at this time of day, for more than 30 s.`,
        label: null,
        version: 1,
        detector_version: 1,
        model_version: 4,
        updated_at: new Date(now).toISOString(),
      };
      return { ...anomaly, ...this.changes.get(anomaly.id) };
    });
  }

  /** Lets many containers go wrong at once. @param {number} n @param {number} now */
  burst(n, now) {
    for (let series = 200; series < 200 + n; series++) this.extra.push({ detector: 'det_pods', series, start: now, end: now + 10 * minute, size: 2, severity: 'warning' });
  }

  /** @param {string} id @param {Partial<Anomaly>} change @param {number} now */
  change(id, change, now) {
    const before = this.anomalies(now).find((a) => a.id === id);
    if (!before) return undefined;
    this.changes.set(id, { ...this.changes.get(id), ...change, version: before.version + 1 });
    return this.anomalies(now).find((a) => a.id === id);
  }

  /** @param {string} id @param {number} now @returns {Explanation | undefined} */
  explain(id, now) {
    const a = this.anomalies(now).find((x) => x.id === id);
    if (!a) return undefined;
    const edge = a.upper ?? a.lower ?? 0;
    const others = this.anomalies(now).filter((x) => x.id !== id && Math.abs(Date.parse(x.started_at) - Date.parse(a.started_at)) < 10 * minute);
    return {
      probability: 'about once in 12 days on this series at this step, if nothing is wrong',
      normal_above: a.upper == null ? undefined : { normal: a.upper, anomalous: a.upper * 1.0001, gate: 'its score is below the threshold' },
      normal_below: a.lower == null ? undefined : { normal: a.lower, anomalous: a.lower * 0.9999, gate: 'its score is below the threshold' },
      gates: [
        { name: 'threshold', detail: 'a score above 4.6' },
        { name: 'min_deviation', detail: 'at least 10 % of the expected value from it' },
        { name: 'for', detail: 'anomalous for 30s' },
      ],
      trained_from: new Date(this.startedAt - 10 * day).toISOString(),
      trained_to: new Date(this.startedAt - 3 * day).toISOString(),
      summary: 'The value left its band at once and stayed outside; the daily rhythm does not explain it.',
      counterfactual: `${a.upper == null ? 'Above' : 'Below'} ${edge.toPrecision(4)} it would have been normal.`,
      contributions: [
        { name: 'seasonal', score: 5.1, share: 0.72, note: 'far from this time of the day on other days' },
        { name: 'level', score: 1.6, share: 0.22, note: 'far from the last hour' },
        { name: 'spread', score: 0.4, share: 0.06 },
      ],
      also_moved: others.slice(0, 4).map((x) => ({ anomaly_id: x.id, detector_id: x.detector_id, detector_name: x.detector_name, series: x.series, at: x.started_at, score: x.score, value: x.value, expected: x.expected, shared_labels: 1 })),
      similar: this.anomalies(now)
        .filter((x) => x.detector_id === a.detector_id && x.id !== id)
        .slice(0, 3)
        .map((x) => ({ ...x, similarity: 0.9, why: 'the same series, about as far off' })),
      anomaly: a,
      peak: { t: a.started_at, value: a.value, expected: a.expected, lower: a.lower, upper: a.upper, score: a.score, anomalous: true },
      context: [],
      reproduced: true,
      model: 'seasonal',
      model_version: 4,
      detector_version: 1,
      threshold: 4.6,
      series_active: 4,
    };
  }

  /** @param {number} now @returns {Source[]} */
  sources(now) {
    const since = new Date(this.startedAt - 3 * hour).toISOString();
    const health = { state: /** @type {const} */ ('up'), since, checked_at: new Date(now).toISOString(), latency_ms: 4 };
    const shared = {
      auth: { username: '', password_set: false, bearer_token_set: false },
      tls: { ca_file: '', cert_file: '', key_file: '', server_name: '', insecure_skip_verify: false },
      header_names: [],
      late_data: '0s',
      timeout: '0s',
      provisioned: true,
      version: 1,
      created_at: since,
      updated_at: since,
    };
    return [
      { ...shared, id: 'src_builtin', name: 'builtin', type: 'builtin', url: '', health },
      { ...shared, id: 'src_main', name: 'main', type: 'prometheus', url: 'http://prometheus:9090', health: { ...health, latency_ms: 38 } },
      { ...shared, id: 'src_logs', name: 'logs', type: 'loki', url: 'http://loki:3100', health: { ...health, latency_ms: 61 } },
    ];
  }
}
