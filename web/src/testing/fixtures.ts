import type { Anomaly, Detector, DetectorVersion, Explanation, KnownEvent, LogLine, LogPattern, ModelVersion, Point, Replay, SeriesStatus, Shadow, Source, Task } from '../shared/api/types';

const zero = new Date(0).toISOString();

/** A point at `seconds` since 1970, by default without a band. */
export function point(seconds: number, value: number | null, more: Partial<Point> = {}): Point {
  return { t: new Date(seconds * 1000).toISOString(), value, expected: null, lower: null, upper: null, score: 0, anomalous: false, ...more };
}

/** A replay of one series with a step of 10 s. */
export function replay(points: Point[], anomalies: Anomaly[] = []): Replay {
  return { detector_id: 'det_a', series: { labels: { job: 'api' }, key: '{job="api"}' }, step_seconds: 10, points, anomalies, learning: false };
}

/** An anomaly that fires. */
export function anomaly(more: Partial<Anomaly> = {}): Anomaly {
  return {
    id: 'an_a',
    detector_id: 'det_a',
    detector_name: 'latency',
    series: { labels: { job: 'api' }, key: '{job="api"}' },
    state: 'firing',
    severity: 'warning',
    started_at: zero,
    value: 0.412,
    expected: 0.13,
    lower: 0.095,
    upper: 0.168,
    score: 6.2,
    once_in_seconds: 12 * 86_400,
    reason: 'Above everything that is usual at this time.',
    label: null,
    detector_version: 1,
    model_version: 1,
    version: 3,
    updated_at: zero,
    ...more,
  };
}

/** A detector that runs, with one series. */
export function detector(more: Partial<Omit<Detector, 'status'>> = {}, status: Partial<Detector['status']> = {}): Detector {
  return {
    id: 'det_a',
    name: 'latency',
    source: 'main',
    query: 'request_duration_seconds',
    signal: 'metrics',
    step: '10s',
    model: 'auto',
    parameters: {},
    false_alarms_per_week: 1,
    direction: 'both',
    min_deviation: { absolute: 0, relative: 0 },
    for: '0s',
    keep_firing_for: '0s',
    missing_data: 'ignore',
    time_zone: '',
    labels: {},
    provisioned: false,
    enabled: true,
    version: 1,
    created_at: zero,
    updated_at: zero,
    ...more,
    status: {
      state: 'running',
      series_active: 1,
      series_learning: 0,
      series_dropped: 0,
      open_anomalies: 0,
      lag_seconds: 0,
      last_evaluated_at: zero,
      memory_bytes: 1000,
      threshold: 4.5,
      ...status,
    },
  };
}

/** The live side of a series. */
export function series(labels: Record<string, string>, more: Partial<SeriesStatus> = {}): SeriesStatus {
  const key = `{${Object.entries(labels)
    .map(([n, v]) => `${n}="${v}"`)
    .join(', ')}}`;
  return { series: { labels, key }, learning: false, model: 'ewma', why: '', ...more };
}

/** A source that is up. */
export function source(more: Partial<Omit<Source, 'health'>> = {}, health: Partial<Source['health']> = {}): Source {
  return {
    id: 'src_a',
    name: 'main',
    type: 'prometheus',
    url: 'http://prometheus:9090',
    auth: { username: '', password_set: false, bearer_token_set: false },
    tls: { ca_file: '', cert_file: '', key_file: '', server_name: '', insecure_skip_verify: false },
    header_names: [],
    late_data: '0s',
    timeout: '0s',
    provisioned: true,
    version: 1,
    created_at: zero,
    updated_at: zero,
    ...more,
    health: { state: 'up', since: zero, checked_at: zero, latency_ms: 4, ...health },
  };
}

/** Why an anomaly is one. */
export function explanation(of: Anomaly, more: Partial<Explanation> = {}): Explanation {
  return {
    anomaly: of,
    summary: 'The value left its band at once.',
    counterfactual: 'Below 168 ms it would have been normal.',
    reproduced: true,
    peak: point(0, of.value),
    context: [],
    contributions: [{ name: 'seasonal', score: 5, share: 0.75, note: 'far from other days' }],
    also_moved: [],
    similar: [],
    threshold: 4.5,
    series_active: 2,
    model: 'seasonal',
    model_version: 4,
    detector_version: 1,
    ...more,
  };
}

/** A pattern of log lines. */
export function pattern(more: Partial<LogPattern> = {}): LogPattern {
  return {
    id: 'aaaaaaaaaaaaaaaa',
    template: 'bank <*> answers after <*> ms',
    variables: 2,
    name: '',
    pinned: false,
    expected: false,
    severity: '',
    level: 'warn',
    count: 1234,
    first_seen: zero,
    last_seen: zero,
    sources: ['builtin'],
    streams: [{ service: 'payment' }],
    examples: ['bank 4 answers after 310 ms'],
    sparkline: [0, 3, 9],
    spark_step_seconds: 120,
    version: 5,
    ...more,
  };
}

/** A log line. */
export function line(text: string, more: Partial<LogLine> = {}): LogLine {
  return { t: zero, stream: { service: 'payment' }, text, cut: false, level: 'warn', pattern: 'aaaaaaaaaaaaaaaa', ...more };
}

/** A version of the definition of `det_a`. */
export function version(n: number, changes: DetectorVersion['changes'] = []): DetectorVersion {
  return { version: n, created_at: zero, definition: { name: 'latency', query: 'request_duration_seconds' }, changes };
}

/** A model version of `det_a`. */
export function modelVersion(more: Partial<ModelVersion> = {}): ModelVersion {
  return { detector_id: 'det_a', version: 4, detector_version: 1, state: 'active', series: 1, size_bytes: 900, created_at: zero, reason: 'created', ...more };
}

/** A shadow of `det_a` that runs. */
export function shadow(more: Partial<Shadow> = {}): Shadow {
  return {
    detector_id: 'det_a',
    state: 'running',
    definition: { name: 'latency', query: 'request_duration_seconds', for: '2m' },
    changes: [{ field: 'for', from: null, to: null }],
    based_on: 1,
    model_version: 5,
    reason: 'fewer small ones',
    progress: 1,
    since: zero,
    series: 1,
    series_learning: 0,
    memory_bytes: 900,
    threshold: 4.5,
    agreement: { samples: 1200, both: 3, only_live: 1, only_shadow: 0, share: 0.75 },
    gained: [],
    lost: [],
    shared: [],
    truncated: false,
    created_at: zero,
    version: 7,
    ...more,
  };
}

/** A task about `det_a`. */
export function task(more: Partial<Task> = {}): Task {
  return { id: 'task_1', kind: 'suggest', state: 'running', progress: 0.4, detector_id: 'det_a', result: null, created_at: zero, updated_at: zero, ...more };
}

/** A known event of every detector, an hour from now on for an hour. */
export function knownEvent(more: Partial<KnownEvent> = {}): KnownEvent {
  const hours = (n: number) => new Date(Date.now() + n * 3_600_000).toISOString();
  return { id: 'evt_1', name: 'database upgrade', from: hours(1), to: hours(2), matchers: {}, mute: false, created_at: zero, updated_at: zero, version: 1, ...more };
}
