package model

import (
	"encoding/json"
	"time"
)

// EventType names a fact, in the past tense.
type EventType string

// The events that the store writes.
const (
	EventDetectorCreated     EventType = "detector.created"
	EventDetectorUpdated     EventType = "detector.updated"
	EventDetectorDeleted     EventType = "detector.deleted"
	EventDetectorStarted     EventType = "detector.started"
	EventDetectorStopped     EventType = "detector.stopped"
	EventDetectorTrained     EventType = "detector.trained"
	EventShadowStarted       EventType = "detector.shadow_started"
	EventShadowPromoted      EventType = "detector.shadow_promoted"
	EventShadowDiscarded     EventType = "detector.shadow_discarded"
	EventKnownEventChanged   EventType = "known_event.changed"
	EventAnomalyOpened       EventType = "anomaly.opened"
	EventAnomalyUpdated      EventType = "anomaly.updated"
	EventAnomalyResolved     EventType = "anomaly.resolved"
	EventAnomalyAcknowledged EventType = "anomaly.acknowledged"
	EventAnomalyLabelled     EventType = "anomaly.labelled"
	EventSourceUp            EventType = "source.up"
	EventSourceDegraded      EventType = "source.degraded"
	EventSourceDown          EventType = "source.down"
	EventHealthChanged       EventType = "system.health_changed"
	EventLoadChanged         EventType = "system.load_changed"
	EventStreamReset         EventType = "stream.reset"
)

// Event is a fact with a number. Numbers start at 1, grow by one in the order
// in which the facts were committed, and have no gaps for a reader.
type Event struct {
	ID    int64           `json:"id"`
	Type  EventType       `json:"type"`
	Topic string          `json:"topic"` // such as detectors/{id}
	Time  time.Time       `json:"time"`
	Data  json.RawMessage `json:"data"`
}

// TaskState is the state of a task.
type TaskState string

// The states of a task. The last three are final.
const (
	TaskQueued    TaskState = "queued"
	TaskRunning   TaskState = "running"
	TaskSucceeded TaskState = "succeeded"
	TaskFailed    TaskState = "failed"
	TaskCancelled TaskState = "cancelled"
)

// Final reports whether a task in this state will not change any more.
func (s TaskState) Final() bool {
	return s == TaskSucceeded || s == TaskFailed || s == TaskCancelled
}

// Task is long work with progress that can be cancelled.
type Task struct {
	ID        string          `json:"id"`
	Kind      string          `json:"kind"` // backtest or train
	State     TaskState       `json:"state"`
	Progress  float64         `json:"progress"` // 0 to 1
	Args      json.RawMessage `json:"args,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     string          `json:"error,omitempty"` // safe to show
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
}
