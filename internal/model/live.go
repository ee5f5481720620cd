package model

import "time"

// LiveStream tells of one client of the live stream.
type LiveStream struct {
	ID            string
	Kind          string // websocket or sse
	Address       string
	Name          string // of the identity; "" while it is not known
	Role          Role
	ConnectedAt   time.Time
	LastSeenAt    time.Time // the last sign of life of a websocket
	State         string    // waiting (for auth), live, replaying or closing
	Topics        []string
	QueueFrames   int
	QueueBytes    int
	FramesSent    int64
	FramesDropped int64 // live points that were replaced or had no room
	Cursor        int64 // everything of its topics up to this event was sent
	LagEvents     int64 // events that were fanned out and are not sent to it yet, of all topics; 0 when nothing waits
}
