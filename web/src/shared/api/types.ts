import type { components } from './schema';

type Schemas = components['schemas'];

export type Detector = Schemas['Detector'];
export type DetectorState = Detector['status']['state'];
export type SeriesStatus = Schemas['Series'];
export type Replay = Schemas['Replay'];
export type Point = Schemas['Point'];
export type Anomaly = Schemas['Anomaly'];
export type Severity = Anomaly['severity'];
export type Explanation = Schemas['Explanation'];
export type Source = Schemas['Source'];
export type SourceState = Source['health']['state'];
export type Health = Schemas['Health'];
export type HealthStatus = Health['status'];
export type Deployment = Schemas['Deployment'];
export type LogPattern = Schemas['LogPattern'];
export type LogPatternEdit = Schemas['LogPatternEdit'];
export type LogLine = Schemas['LogLine'];
export type LogEvidence = Schemas['LogEvidence'];
