import { useEffect, useMemo, useRef, type KeyboardEvent } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { formatTicks, tickDistances } from '../../shared/format/number';
import type { Unit } from '../../shared/format/unit';
import { useDrawnScheme } from '../../shared/ui/scheme';
import { formatTimeTicks } from './axis';
import { valueRange, type Columns } from './columns';
import { drawAnomalousValues, drawBand, drawKnown, drawKnownNames, drawRegions, readPalette } from './draw';
import type { Span } from './known';
import { regionAt, type Region } from './regions';
import classes from './TimeChart.module.css';

export interface TimeChartProps {
  columns: Columns;
  regions: readonly Region[];
  known: readonly Span[];
  /** The drawn range of time in seconds. */
  from: number;
  to: number;
  unit: Unit;
  height: number;
  /** What the chart shows, for those who cannot see it. */
  label: string;
  /** Without axes and readout, for small charts beside others. */
  compact?: boolean;
  /** Called with the row under the pointer or the arrow keys, or null. */
  onHover?: (row: number | null) => void;
  /** Called with the anomaly whose region was clicked. */
  onPick?: (anomalyId: string) => void;
}

/**
 * Draws one series: its value inside the band of normal values, the expected
 * value, anomalies as regions and dots, and known events as hatched bands. The canvas stays as it is while
 * new data comes; only a new size, unit or colour scheme makes a new one.
 */
export function TimeChart(props: TimeChartProps) {
  const { columns, regions, known, from, to, unit, height, label, compact = false } = props;
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const scheme = useDrawnScheme();
  const range = useMemo(() => valueRange(columns), [columns]);

  // uPlot asks for these while it draws, long after the render that made them.
  const drawn = useRef({ ...props, range });
  useEffect(() => {
    drawn.current = { ...props, range };
  });

  useEffect(() => {
    const element = holder.current!;
    const chart = new uPlot(options(element, drawn, unit, compact), dataOf(drawn.current.columns), element);
    plot.current = chart;
    const resize = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry!.contentRect.width);
      if (width > 0 && width !== chart.width) chart.setSize({ width, height: chart.height });
    });
    resize.observe(element);
    return () => {
      resize.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [unit, compact, scheme, height]);

  useEffect(() => {
    plot.current?.setData(dataOf(columns));
  }, [columns, regions, known, from, to, range]);

  return (
    <div
      ref={holder}
      className={classes.chart}
      role={compact ? undefined : 'group'}
      aria-hidden={compact || undefined}
      aria-roledescription={compact ? undefined : 'chart'}
      aria-label={compact ? undefined : label}
      tabIndex={compact ? undefined : 0}
      onKeyDown={compact ? undefined : (event) => moveCursor(event, plot.current, columns)}
      onBlur={() => plot.current?.setCursor({ left: -10, top: -10 })}
    />
  );
}

function dataOf(c: Columns): uPlot.AlignedData {
  return [c.t, c.value, c.expected];
}

/** Moves the cursor with the arrow keys, so that values can be read without a pointer. */
function moveCursor(event: KeyboardEvent, chart: uPlot | null, c: Columns) {
  if (!chart || c.t.length === 0) return;
  const at = chart.cursor.idx;
  const end = c.t.length - 1;
  const stride = event.shiftKey ? 10 : 1;
  const moves: Record<string, number | null> = {
    ArrowLeft: at == null ? end : Math.max(0, at - stride),
    ArrowRight: at == null ? end : Math.min(end, at + stride),
    Home: 0,
    End: end,
    Escape: null,
  };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const row = moves[event.key];
  if (row == null) chart.setCursor({ left: -10, top: -10 });
  else chart.setCursor({ left: chart.valToPos(c.t[row]!, 'x'), top: chart.valToPos(c.value[row] ?? chart.scales['y']!.min!, 'y') });
}

type Drawn = { current: TimeChartProps & { range: [number, number] } };

function options(element: HTMLElement, drawn: Drawn, unit: Unit, compact: boolean): uPlot.Options {
  const palette = readPalette();
  const ratio = uPlot.pxRatio;
  const font = `11px ${palette.font}`;
  const axis: uPlot.Axis = {
    stroke: palette.axis,
    font,
    grid: { stroke: palette.grid, width: 1 },
    ticks: { show: false },
    border: { show: false },
  };
  return {
    width: Math.max(50, Math.floor(element.clientWidth)),
    height: drawn.current.height,
    padding: compact ? [4, 0, 2, 0] : [8, 16, 0, 0],
    legend: { show: false },
    cursor: compact
      ? { show: false }
      : {
          drag: { x: false, y: false },
          y: false,
          points: { size: 8, width: 2, stroke: palette.value, fill: palette.surface },
          bind: {
            click: (u) => () => {
              const left = u.cursor.left ?? -1;
              const region = left >= 0 ? regionAt(drawn.current.regions, u.posToVal(left, 'x')) : undefined;
              if (region) drawn.current.onPick?.(region.id);
              return null;
            },
          },
        },
    scales: {
      x: { time: true, range: () => [drawn.current.from, drawn.current.to] },
      y: { range: () => drawn.current.range },
    },
    axes: compact
      ? [{ show: false }, { show: false }]
      : [
          { ...axis, size: 26, gap: 4, space: 70, values: (_, splits, __, ___, distance) => formatTimeTicks(splits, distance) },
          {
            ...axis,
            gap: 6,
            space: 36,
            size: (_, values) => Math.max(40, 14 + 6.6 * (values ?? []).reduce((n, v) => Math.max(n, v?.length ?? 0), 0)),
            incrs: tickDistances(unit),
            values: (_, splits) => formatTicks(splits, unit),
          },
        ],
    series: [
      {},
      { label: 'value', stroke: palette.value, width: compact ? 1.25 : 1.75, points: { show: false } },
      { label: 'expected', stroke: palette.expected, width: 1, dash: [5, 4], points: { show: false }, show: !compact },
    ],
    hooks: {
      drawClear: [
        (u) => {
          drawKnown(u, drawn.current.known, palette, ratio);
          drawBand(u, drawn.current.columns, palette, ratio);
          drawRegions(u, drawn.current.regions, palette, ratio);
        },
      ],
      draw: [
        (u) => {
          if (!compact) drawKnownNames(u, drawn.current.known, palette, ratio);
          drawAnomalousValues(u, drawn.current.columns, palette, ratio, compact ? 1.75 : 3);
        },
      ],
      setCursor: [(u) => drawn.current.onHover?.(u.cursor.left != null && u.cursor.left >= 0 ? (u.cursor.idx ?? null) : null)],
    },
  };
}
