// Made-up log lines and their patterns, hostile ones among them.

/** @typedef {import('../src/shared/api/schema').components['schemas']['LogPattern']} LogPattern */
/** @typedef {import('../src/shared/api/schema').components['schemas']['LogLine']} LogLine */

/** @type {{template: string, level: LogPattern['level'], every: number, service: string, line: (n: number) => string}[]} */
const kinds = [
  { template: 'request served in <*> ms', level: 'info', every: 1, service: 'front', line: (n) => `request served in ${n % 40} ms` },
  { template: 'reservation <*> retried after <*> ms', level: 'warn', every: 9, service: 'stock', line: (n) => `reservation ${7000 + n} retried after ${n % 90} ms` },
  { template: 'connection to the cart store refused', level: 'error', every: 60, service: 'cart', line: () => 'connection to the cart store refused' },
  { template: 'unhandled <img src=x onerror="globalThis.hacked=1"> \u202egnp.exe\u0007', level: '', every: 120, service: 'evil <b>', line: () => 'unhandled <img src=x onerror="globalThis.hacked=1"> \u202egnp.exe\u0007\n\tat line two' },
];

export class Logs {
  /** @param {number} startedAt */
  constructor(startedAt) {
    this.startedAt = startedAt - 3_600_000;
    /** What people decided, by the id of the pattern. @type {Map<string, Partial<LogPattern>>} */
    this.decided = new Map();
  }

  /** @param {number} now @returns {LogPattern[]} */
  patterns(now) {
    return kinds.map((kind, i) => {
      const id = `00000000000000a${i}`;
      const last = now - ((now / 1000) % kind.every) * 1000;
      return {
        id,
        template: kind.template,
        variables: kind.template.split('<*>').length - 1,
        name: '',
        pinned: false,
        expected: false,
        severity: /** @type {const} */ (''),
        level: kind.level,
        count: Math.floor((now - this.startedAt) / 1000 / kind.every),
        first_seen: new Date(i === 2 ? now - 60_000 : this.startedAt).toISOString(),
        last_seen: new Date(last).toISOString(),
        sources: ['builtin'],
        streams: [{ service: kind.service }],
        examples: [kind.line(1)],
        sparkline: Array.from({ length: 30 }, (_, k) => Math.round((120 / kind.every) * (1 + 0.5 * Math.sin(k + i)))),
        spark_step_seconds: 120,
        version: 1,
        ...this.decided.get(id),
      };
    });
  }

  /** @param {number} now @param {URLSearchParams} query @returns {LogPattern[]} */
  select(now, query) {
    const text = query.get('q')?.toLowerCase() ?? '';
    const level = query.get('level');
    const found = this.patterns(now).filter((p) => `${p.template} ${p.name}`.toLowerCase().includes(text) && (!level || p.level === level));
    const by = query.get('sort') ?? '-count';
    return by === '-count' ? found.sort((a, b) => b.count - a.count) : found.sort((a, b) => Date.parse(b.first_seen ?? '') - Date.parse(a.first_seen ?? ''));
  }

  /** @param {string} id @param {Partial<LogPattern>} change @param {number} now @returns {LogPattern | undefined} */
  change(id, change, now) {
    const before = this.patterns(now).find((p) => p.id === id);
    if (before) this.decided.set(id, { ...this.decided.get(id), ...change, version: before.version + 1 });
    return this.patterns(now).find((p) => p.id === id);
  }

  /** @param {number} now @param {URLSearchParams} query @returns {LogLine[]} */
  lines(now, query) {
    const from = Date.parse(query.get('from') ?? '') || now - 900_000;
    const to = Math.min(now, Date.parse(query.get('to') ?? '') || now);
    const pattern = query.get('template');
    const contains = query.get('contains') ?? '';
    const level = query.get('level');
    const [first, last] = [Math.ceil(from / 1000), Math.floor(to / 1000)];
    const newest = query.get('order') !== 'oldest';
    const out = [];
    for (let k = 0; k <= last - first && out.length < 5000; k++) {
      const t = newest ? last - k : first + k;
      for (const [i, kind] of kinds.entries()) {
        const text = kind.line(t);
        const id = `00000000000000a${i}`;
        if (t % kind.every !== 0 || (pattern && id !== pattern) || !text.includes(contains) || (level && kind.level !== level)) continue;
        out.push({ t: new Date(t * 1000).toISOString(), stream: { service: kind.service }, text, cut: false, level: kind.level, pattern: id });
      }
    }
    return out;
  }
}
