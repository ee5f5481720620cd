import type uPlot from 'uplot';
import { anomalousRuns, bandRuns, type Columns } from './columns';
import { plainText } from '../../shared/format/text';
import { coveredBy, fitName, labelRows, type Span } from './known';
import type { Region } from './regions';

/** The colours of a chart, as tokens.css has them for the current scheme. */
export interface Palette {
  value: string;
  expected: string;
  band: string;
  bandEdge: string;
  grid: string;
  axis: string;
  anomaly: string;
  known: string;
  knownTint: string;
  knownHatch: string;
  surface: string;
  regions: Record<Region['severity'], string>;
  font: string;
}

/** Reads the palette from the page's tokens. */
export function readPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const token = (name: string) => style.getPropertyValue(name).trim();
  return {
    value: token('--chart-value'),
    expected: token('--chart-expected'),
    band: token('--chart-band'),
    bandEdge: token('--chart-band-edge'),
    grid: token('--chart-grid'),
    axis: token('--chart-axis'),
    anomaly: token('--chart-anomaly'),
    known: token('--chart-known'),
    knownTint: token('--chart-known-tint'),
    knownHatch: token('--chart-known-hatch'),
    surface: token('--surface'),
    regions: { critical: token('--chart-critical-region'), warning: token('--chart-warning-region'), info: token('--chart-info-region') },
    font: token('--font') || 'sans-serif',
  };
}

/** Runs `paint` with its drawing cut to the plot. */
function inPlot(u: uPlot, paint: (ctx: CanvasRenderingContext2D) => void) {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  // uPlot leaves the dashes of the series it drew last.
  ctx.setLineDash([]);
  paint(ctx);
  ctx.restore();
}

/** Paints the regions of anomalies: a tint over the whole height and a bar at the top. */
export function drawRegions(u: uPlot, regions: readonly Region[], palette: Palette, ratio: number) {
  const { top, height } = u.bbox;
  inPlot(u, (ctx) => {
    for (const r of regions) {
      const from = u.valToPos(r.from, 'x', true);
      const width = Math.max(u.valToPos(r.to, 'x', true) - from, 2 * ratio);
      ctx.fillStyle = palette.regions[r.severity];
      ctx.fillRect(from, top, width, height);
      ctx.fillStyle = palette.anomaly;
      ctx.fillRect(from, top, width, 3 * ratio);
    }
  });
}

/** How far the lines of the hatching are apart, in pixels of the page. */
const hatchDistance = 7;

/**
 * Paints the spans of known events: hatching over the whole height, and a dashed
 * line where one begins or ends inside the plot. Spans that overlap are hatched
 * once, so that many cost as much as one.
 */
export function drawKnown(u: uPlot, spans: readonly Span[], palette: Palette, ratio: number) {
  if (spans.length === 0) return;
  const { left, top, width, height } = u.bbox;
  const x = (t: number) => u.valToPos(t, 'x', true);
  inPlot(u, (ctx) => {
    ctx.lineWidth = ratio;
    ctx.strokeStyle = palette.known;
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    for (const s of spans) {
      for (const edge of [s.begin >= s.from && s.from, s.end <= s.to && s.to]) {
        if (edge === false) continue;
        ctx.beginPath();
        ctx.moveTo(x(edge), top);
        ctx.lineTo(x(edge), top + height);
        ctx.stroke();
      }
    }
    ctx.setLineDash([]);
    ctx.beginPath();
    for (const [from, to] of coveredBy(spans)) ctx.rect(x(from), top, Math.max(x(to) - x(from), 2 * ratio), height);
    ctx.fillStyle = palette.knownTint;
    ctx.fill();
    ctx.clip();
    ctx.strokeStyle = palette.knownHatch;
    ctx.beginPath();
    for (let at = left - height; at < left + width; at += hatchDistance * ratio) {
      ctx.moveTo(at, top + height);
      ctx.lineTo(at + height, top);
    }
    ctx.stroke();
  });
}

const labelLine = 14;
const labelLines = 3;
/** What lies between a label and the edges of its span, in pixels of the page. */
const labelGap = 4;

/** Writes the names of known events at the top of their spans, cut to their room; what finds none is left to the list beside the chart. */
export function drawKnownNames(u: uPlot, spans: readonly Span[], palette: Palette, ratio: number) {
  if (spans.length === 0) return;
  inPlot(u, (ctx) => {
    ctx.font = `600 ${11 * ratio}px ${palette.font}`;
    ctx.textBaseline = 'top';
    ctx.textAlign = 'left';
    ctx.lineJoin = 'round';
    ctx.lineWidth = 3 * ratio;
    ctx.strokeStyle = palette.surface;
    ctx.fillStyle = palette.known;
    const measure = (text: string) => ctx.measureText(text).width / ratio;
    const labels = spans.flatMap((s) => {
      const left = u.valToPos(s.from, 'x', true) / ratio + labelGap;
      const text = fitName(plainText(s.name), u.valToPos(s.to, 'x', true) / ratio - labelGap - left, measure);
      return text ? [{ text, left, right: left + measure(text) + 2 * labelGap }] : [];
    });
    const rows = labelRows(labels, labelLines);
    labels.forEach(({ text, left }, i) => {
      if (rows[i]! < 0) return;
      const y = u.bbox.top + (6 + rows[i]! * labelLine) * ratio;
      ctx.strokeText(text, left * ratio, y);
      ctx.fillText(text, left * ratio, y);
    });
  });
}

/** Paints the band of normal values. A side without an edge reaches to the border of the plot. */
export function drawBand(u: uPlot, c: Columns, palette: Palette, ratio: number) {
  const { top, height } = u.bbox;
  inPlot(u, (ctx) => {
    for (const [first, last] of bandRuns(c)) {
      const edge = (column: Columns['lower'], i: number, otherwise: number) =>
        column[i] == null ? otherwise : u.valToPos(column[i]!, 'y', true);
      ctx.beginPath();
      for (let i = first; i <= last; i++) ctx.lineTo(u.valToPos(c.t[i]!, 'x', true), edge(c.upper, i, top));
      for (let i = last; i >= first; i--) ctx.lineTo(u.valToPos(c.t[i]!, 'x', true), edge(c.lower, i, top + height));
      ctx.closePath();
      ctx.fillStyle = palette.band;
      ctx.fill();
      ctx.strokeStyle = palette.bandEdge;
      ctx.lineWidth = ratio;
      for (const column of [c.upper, c.lower]) {
        if (column[first] == null) continue;
        ctx.beginPath();
        for (let i = first; i <= last; i++) ctx.lineTo(u.valToPos(c.t[i]!, 'x', true), u.valToPos(column[i]!, 'y', true));
        ctx.stroke();
      }
    }
  });
}

/** Paints anomalous values: stretches of them as a line, and a dot on each as far as there is room for dots. */
export function drawAnomalousValues(u: uPlot, c: Columns, palette: Palette, ratio: number, radius: number) {
  const at = (i: number): [number, number] => [u.valToPos(c.t[i]!, 'x', true), u.valToPos(c.value[i]!, 'y', true)];
  inPlot(u, (ctx) => {
    ctx.fillStyle = palette.anomaly;
    ctx.strokeStyle = palette.anomaly;
    ctx.lineWidth = 1.75 * ratio;
    ctx.lineJoin = 'round';
    for (const [first, last] of anomalousRuns(c)) {
      ctx.beginPath();
      for (let i = first; i <= last; i++) ctx.lineTo(...at(i));
      ctx.stroke();
      const between = last > first ? (at(last)[0] - at(first)[0]) / (last - first) : Infinity;
      if (between < 3 * radius * ratio) continue;
      for (let i = first; i <= last; i++) {
        ctx.beginPath();
        ctx.arc(...at(i), radius * ratio, 0, 2 * Math.PI);
        ctx.fill();
      }
    }
  });
}
