import type { DetectorState, HealthStatus, Severity, SourceState } from '../api/types';
import type { Tone } from './Badge';

/** The tone of each state of a detector. */
export const detectorTone: Record<DetectorState, Tone> = {
  running: 'good',
  learning: 'learning',
  degraded: 'warning',
  failed: 'bad',
  stopped: 'off',
};

/** The tone of each severity. */
export const severityTone: Record<Severity, Tone> = { critical: 'bad', warning: 'warning', info: 'learning' };

/** The tone of each state of a source. */
export const sourceTone: Record<SourceState, Tone> = { up: 'good', degraded: 'warning', stale: 'bad', down: 'bad', unknown: 'off' };

/** The tone of each health of a part of the program. */
export const healthTone: Record<HealthStatus, Tone> = { healthy: 'good', degraded: 'warning', unhealthy: 'bad', unknown: 'off' };

/** The tone of a log line's level. */
export function levelTone(level: string): Tone {
  return level === 'error' || level === 'fatal' ? 'bad' : level === 'warn' ? 'warning' : 'off';
}
