import type uPlot from 'uplot';
import { anomalousRuns, bandRuns, type Columns } from './columns';
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
