import type uPlot from 'uplot';
import { describe, expect, test } from 'vitest';
import { knownEvent } from '../../testing/fixtures';
import { drawKnown, drawKnownNames, type Palette } from './draw';
import { coveredBy, fitName, knownSpans, labelRows, spansAt, type Span } from './known';

const iso = (seconds: number) => new Date(seconds * 1000).toISOString();
const event = (id: string, from: number, to: number, mute = false) => knownEvent({ id, name: `name of ${id}`, from: iso(from), to: iso(to), mute });
const spans = (...events: ReturnType<typeof event>[]) => knownSpans(events, 10, 1000, 2000);

describe('spans', () => {
  test('are cut to the range, and know all of their time', () => {
    expect(spans(event('over', 900, 2100, true))).toEqual([{ id: 'over', name: 'name of over', from: 1000, to: 2000, begin: 900, end: 2100, mute: true }]);
    expect(spans(event('inside', 1200, 1300))).toMatchObject([{ from: 1200, to: 1300, mute: false }]);
  });

  test('outside of the range there is none, and without events neither', () => {
    expect(spans(event('before', 800, 900), event('after', 2000, 2100), knownEvent({ from: '', to: '' }))).toEqual([]);
    expect(spans(event('ends with it', 900, 1000))).toMatchObject([{ from: 1000, to: 1000 }]);
    expect(knownSpans(undefined, 10, 1000, 2000)).toEqual([]);
  });

  test('a moment takes a step', () => expect(spans(event('deploy', 1200, 1200))).toMatchObject([{ from: 1200, to: 1210, end: 1200 }]));

  test('stand in the order of their begin; of too many the latest are kept', () => {
    const many = Array.from({ length: 150 }, (_, i) => event(`e${i}`, 1900 - i, 1950));
    const drawn = spans(...many);
    expect(drawn).toHaveLength(100);
    expect([drawn[0]!.id, drawn.at(-1)!.id]).toEqual(['e99', 'e0']);
  });

  test('all that cover a time are found', () => {
    const all = spans(event('a', 1100, 1300), event('b', 1200, 1400));
    const at = (t: number) => spansAt(all, t).map((s) => s.id);
    expect([1099, 1100, 1250, 1300, 1400, 1401].map(at)).toEqual([[], ['a'], ['a', 'b'], ['a', 'b'], ['b'], []]);
  });

  test('overlap in one stretch', () => {
    expect(coveredBy(spans(event('a', 1100, 1400), event('inside', 1200, 1300), event('b', 1400, 1500), event('c', 1600, 1700)))).toEqual([
      [1100, 1500],
      [1600, 1700],
    ]);
  });
});

describe('labels', () => {
  const measure = (text: string) => [...text].length * 6;

  test('are cut to their room, or left out', () => {
    expect(fitName('deploy', 36, measure)).toBe('deploy');
    expect(fitName('database upgrade', 60, measure)).toBe('database…');
    expect(fitName('ab cdefghijk', 48, (t) => (t.includes('c') ? 60 : 20))).toBe('ab…');
    expect(fitName('💾'.repeat(20), 60, measure)).toBe(`${'💾'.repeat(9)}…`);
    expect(fitName('database upgrade', 47, measure)).toBe('');
  });

  test('take another row where they would cover each other', () => {
    const at = (left: number, right: number) => ({ left, right });
    expect(labelRows([at(0, 50), at(20, 70), at(30, 80), at(50, 90), at(60, 95)], 2)).toEqual([0, 1, -1, 0, -1]);
  });
});

const styleOf: Record<PropertyKey, string> = { fill: 'fillStyle', stroke: 'strokeStyle' };

/** A plot of 1,000 by 200 device pixels at (50, 8), a second each 1 px from 1,000 on, which notes what is drawn on it. */
function plot() {
  const calls: [name: string, ...values: unknown[]][] = [];
  const held: Record<PropertyKey, unknown> = {};
  const ctx = new Proxy(held, {
    get: (_, name) => (name in held ? held[name] : (...values: unknown[]) => (calls.push([String(name), ...values, ...(styleOf[name] ? [held[styleOf[name]]] : [])]), { width: String(values[0]).length * 6 })),
    set: (_, name, value) => ((held[name] = value), true),
  });
  const u = { ctx, bbox: { left: 50, top: 8, width: 1000, height: 200 }, valToPos: (t: number) => t - 950 } as unknown as uPlot;
  return { u, calls, of: (name: string) => calls.filter((c) => c[0] === name).map((c) => c.slice(1)) };
}

const palette = { known: 'teal', knownTint: 'tint', knownHatch: 'hatch', surface: 'white', font: 'serif' } as Palette;
const drawing = (draw: typeof drawKnown, all: Span[]) => {
  const p = plot();
  draw(p.u, all, palette, 1);
  return p;
};

describe('the drawing', () => {
  test('hatches a span over the whole height, with an edge where it begins or ends', () => {
    const { of, calls } = drawing(drawKnown, spans(event('a', 1100, 1300), event('cut', 1900, 2100)));
    const painted = calls.filter(([name]) => ['fill', 'stroke', 'clip'].includes(name)).map((c) => c.join(' '));
    expect(painted).toEqual(['clip', 'stroke teal', 'stroke teal', 'stroke teal', 'fill tint', 'clip', 'stroke hatch']);
    expect(of('rect').slice(1)).toEqual([
      [150, 8, 200, 200],
      [950, 8, 100, 200],
    ]);
    expect(of('setLineDash')).toContainEqual([[2, 3]]);
    const edges = of('moveTo').filter(([, y]) => y === 8).map(([x]) => x);
    expect(edges, 'none where the chart cuts it').toEqual([150, 350, 950]);
    const hatching = of('moveTo').filter(([, y]) => y === 208).map(([x]) => x as number);
    expect(hatching[0]).toBeLessThanOrEqual(50 - 200);
    expect(hatching.at(-1)).toBeGreaterThan(1050 - 8);
  });

  test('costs for many that overlap what it costs for one', () => {
    const many = Array.from({ length: 100 }, (_, i) => event(`e${i}`, 900 - i, 2100));
    expect(drawing(drawKnown, spans(...many)).calls).toEqual(drawing(drawKnown, spans(event('one', 900, 2100))).calls);
  });

  test('writes each name inside its span, in safe letters, once in each row', () => {
    const all = spans(event('a', 1100, 1300), event('b', 1110, 1310), { ...event('narrow', 1500, 1520) }, knownEvent({ id: 'c', name: '\u202egnp', from: iso(1600), to: iso(1700) }));
    const { of } = drawing(drawKnownNames, all);
    expect(of('fillText')).toEqual([
      ['name of a', 154, 14],
      ['name of b', 164, 28],
      ['\\u202egnp', 654, 14],
    ]);
    expect(of('strokeText'), 'with a border, so that the line does not cross it').toEqual(of('fillText'));
  });

  test('is nothing without spans', () => {
    expect(drawing(drawKnown, []).calls).toEqual([]);
    expect(drawing(drawKnownNames, []).calls).toEqual([]);
  });
});
