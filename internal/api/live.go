package api

import (
	"context"
	"net/http"
	"time"

	"aiops/internal/model"
)

func (s *server) registerLive() {
	register(s, operation{id: "list-live-clients", fresh: true, method: http.MethodGet, path: "/api/v1/ws/clients", tag: tagLive,
		summary:     "List who follows the live stream",
		description: "Oldest first: topics, queue, drops and lag of each stream.", codes: []Code{CodeValidation}}, s.liveClients)
}

// LiveClient is one stream.
type LiveClient struct {
	ID            string    `json:"id" example:"c7"`
	Kind          string    `json:"kind" enum:"websocket,sse"`
	Address       string    `json:"address" doc:"Network address that it comes from"`
	Name          string    `json:"name" doc:"Whose stream it is; empty while that is not known"`
	Role          string    `json:"role" enum:",viewer,operator,admin"`
	ConnectedAt   time.Time `json:"connected_at"`
	LastSeenAt    time.Time `json:"last_seen_at" doc:"Last sign of life of a WebSocket"`
	State         string    `json:"state" enum:"waiting,live,replaying,closing" doc:"waiting: it has not authenticated itself yet"`
	Topics        []string  `json:"topics"`
	QueueFrames   int       `json:"queue_frames" doc:"Frames that wait to be sent"`
	QueueBytes    int       `json:"queue_bytes"`
	FramesSent    int64     `json:"frames_sent"`
	FramesDropped int64     `json:"frames_dropped" doc:"Live points that were replaced by newer ones or had no room; events are never dropped"`
	Cursor        int64     `json:"cursor" doc:"Everything of its topics up to this event was sent"`
	LagEvents     int64     `json:"lag_events" doc:"How far the cursor is behind the newest event, 0 when nothing waits for it"`
}

type liveClientsInput struct {
	Limit int `query:"limit" minimum:"1" maximum:"20000" default:"1000" doc:"How many to list"`
}

type liveClientsOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         struct {
		Total       int          `json:"total" doc:"How many there are"`
		LastEventID int64        `json:"last_event_id" doc:"Number of the last event that was sent to anybody"`
		Items       []LiveClient `json:"items"`
	}
}

func (s *server) liveClients(_ context.Context, in *liveClientsInput) (*liveClientsOutput, error) {
	out := &liveClientsOutput{CacheControl: "no-store"}
	var streams []model.LiveStream
	if s.opts.Live != nil {
		streams, out.Body.LastEventID = s.opts.Live.Streams()
	}
	out.Body.Total = len(streams)
	streams = streams[:min(in.Limit, len(streams))]
	out.Body.Items = make([]LiveClient, len(streams))
	for i, c := range streams {
		if c.Topics == nil {
			c.Topics = []string{}
		}
		out.Body.Items[i] = LiveClient{ID: c.ID, Kind: c.Kind, Address: c.Address, Name: c.Name, Role: string(c.Role), ConnectedAt: c.ConnectedAt.UTC(),
			LastSeenAt: c.LastSeenAt.UTC(), State: c.State, Topics: c.Topics, QueueFrames: c.QueueFrames, QueueBytes: c.QueueBytes,
			FramesSent: c.FramesSent, FramesDropped: c.FramesDropped, Cursor: c.Cursor, LagEvents: c.LagEvents}
	}
	return out, nil
}
