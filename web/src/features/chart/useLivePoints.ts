import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useNow } from '../../shared/live/clock';
import { appendPoint } from '../../shared/live/eventCache';
import { useLive } from '../../shared/live/hooks';
import { pointsTopic } from '../../shared/live/protocol';

/**
 * Appends the live points of a series to its charts while the component is
 * shown. Returns whether points come; without them the chart has to ask.
 */
export function useLivePoints(detectorId: string, series: string, stepSeconds: number): boolean {
  const client = useQueryClient();
  const now = useNow();
  const [cameAt, setCameAt] = useState(0);
  useLive(pointsTopic(detectorId, series), {
    point: (_, data) => {
      setCameAt(Date.now());
      // A detector that catches up leaves steps out.
      if (appendPoint(client, detectorId, series, data, Date.now())) {
        void client.invalidateQueries({ queryKey: ['replay', 'live', detectorId, series] }, { cancelRefetch: false });
      }
    },
  });
  return now - cameAt < Math.max(10_000, 3000 * stepSeconds);
}
