import { describe, expect, test } from 'vitest';
import { FakeStream, randomOf } from '../../testing/fakeStream';
import type { LiveEvent } from './protocol';
import { covers } from './protocol';

/** Watches what a subscriber of one topic is told, and finds what must not be. */
class Witness {
  got: number[] = [];
  readonly faults: string[] = [];
  /** Everything up to here is accounted for by loading the state. */
  private floor: number | undefined;

  constructor(
    readonly topic: string,
    private readonly server: FakeStream,
  ) {}

  readonly listener = {
    events: (events: readonly LiveEvent[]) => {
      for (const e of events) {
        if (this.floor === undefined) this.faults.push(`${this.topic}: event ${e.id} before the state was to be loaded`);
        if (!covers(this.topic, e.topic)) this.faults.push(`${this.topic}: got ${e.topic}`);
        if (e.id <= (this.got.at(-1) ?? 0)) this.faults.push(`${this.topic}: ${e.id} after ${this.got.at(-1)}`);
        this.got.push(e.id);
      }
    },
    reset: () => {
      this.floor = this.server.last;
      // A log that began anew has small numbers again.
      this.got = this.got.filter((id) => id <= this.server.last);
    },
  };

  /** What should have been told and was not. */
  missing(): number[] {
    const got = new Set(this.got);
    return this.server.log.filter((e) => e.id > (this.floor ?? 0) && covers(this.topic, e.topic) && !got.has(e.id)).map((e) => e.id);
  }
}

const roots = ['anomalies', 'detectors', 'sources', 'system'];

/** Runs a network that breaks in every way, and returns what went wrong. */
async function simulate(seed: number, spoil?: (server: FakeStream) => void, prepare?: (server: FakeStream) => void) {
  const random = randomOf(seed);
  const server = new FakeStream(randomOf(seed + 1));
  server.latency = () => 1 + Math.floor(random() * 40);
  prepare?.(server);
  const client = server.client();
  const witnesses = roots.map((topic) => new Witness(topic, server));
  const ends = witnesses.map((w) => client.subscribe([w.topic], w.listener));
  let extra: (() => void) | undefined;
  const chance = (p: number) => random() < p;

  for (let i = 0; i < 400; i++) {
    for (let n = Math.floor(random() * (chance(0.05) ? 300 : 4)); n > 0; n--) server.publish(`${roots[Math.floor(random() * roots.length)]}/x${Math.floor(random() * 3)}`);
    if (chance(0.04)) server.close(1006);
    if (chance(0.03)) server.cut();
    if (chance(0.02)) server.close(1013, { reason: 'too slow', since: 0 });
    if (chance(0.02)) server.close(1012, { reason: 'restart', reconnect_after_ms: 500 + random() * 5000 });
    if (chance(0.04)) {
      server.up = !server.up;
      if (!server.up) server.close(1006);
    }
    server.status = server.up ? 200 : undefined;
    if (chance(0.02)) server.forget(server.last - Math.floor(random() * 400));
    if (chance(0.04)) client.tell(chance(0.5) ? 'offline' : 'online');
    if (chance(0.04)) client.tell(chance(0.5) ? 'hidden' : 'visible');
    if (chance(0.01)) client.tell('leave');
    if (chance(0.02)) client.tell('retry');
    if (chance(0.01)) server.clock.sleep(120_000);
    if (chance(0.1)) {
      // A part of the page comes and goes: a topic below one that is there, and points.
      extra?.();
      extra = chance(0.5) ? client.subscribe(['anomalies/x1', 'series/det/{}'], {}) : undefined;
    }
    await server.clock.go(Math.floor(random() * 1500));
  }

  server.up = true;
  server.status = 200;
  client.tell('online');
  client.tell('visible');
  spoil?.(server);
  await server.clock.go(120_000);
  const state = client.connection().state;
  const faults = witnesses.flatMap((w) => [...w.faults, ...w.missing().map((id) => `${w.topic}: ${id} lost`)]);
  const told = witnesses.reduce((n, w) => n + w.got.length, 0);
  extra?.();
  for (const end of ends) end();
  await server.clock.go(10_000);
  return { faults, state, told, held: server.held, most: server.most, opened: server.opened };
}

describe('a network that breaks in every way', () => {
  test.each(Array.from({ length: 60 }, (_, seed) => seed * 7919))('nothing is lost, nothing comes twice, no socket leaks (seed %i)', async (seed) => {
    const { faults, state, told, held, most, opened } = await simulate(seed);
    expect(faults).toEqual([]);
    expect(state).toBe('live');
    expect(told).toBeGreaterThan(100);
    expect(opened, 'the simulation broke nothing').toBeGreaterThan(10);
    expect(most, 'sockets at once').toBeLessThanOrEqual(1);
    expect(held, 'sockets that nobody wants').toBe(0);
  });

  test('a server that withholds an event is found out', async () => {
    const { faults } = await simulate(7919, (server) => {
      server.withheld = server.last + 1;
      server.publish('system/x');
    });
    expect(faults).toEqual([expect.stringMatching(/^system: \d+ lost$/)]);
  });

  test('a server that promises more than it sent is found out', async () => {
    const runs = await Promise.all(Array.from({ length: 10 }, (_, seed) => simulate(seed * 7919, undefined, (server) => (server.overclaims = true))));
    expect(runs.flatMap((run) => run.faults).join('\n')).toMatch(/lost/);
  });

  test('a witness notes what comes twice', () => {
    const witness = new Witness('system', new FakeStream());
    const event = { id: 7, type: '', topic: 'system', time: '', data: null };
    witness.listener.reset();
    witness.listener.events([event, event]);
    expect(witness.faults).toEqual(['system: 7 after 7']);
  });
});
