import type { Anomaly } from '../../shared/api/types';
import { formatValue } from '../../shared/format/number';
import type { unitOf } from '../../shared/format/unit';
import { LabelList } from '../../shared/ui/LabelList';

type Says = Pick<Anomaly, 'value' | 'expected' | 'series'>;

/** What an alarm in a list is about: its value, what was expected, and the series. */
export function AlarmSays({ alarm, unit }: { alarm: Says; unit: ReturnType<typeof unitOf> }) {
  return (
    <>
      <span>
        {formatValue(alarm.value, unit)}
        {alarm.expected != null && ` instead of ${formatValue(alarm.expected, unit)}`}
      </span>
      <LabelList labels={alarm.series.labels} />
    </>
  );
}
