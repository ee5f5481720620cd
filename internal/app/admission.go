package app

import (
	"context"
	"encoding/json"
	"time"

	"aiops/internal/admission"
	"aiops/internal/api"
	"aiops/internal/config"
	"aiops/internal/model"
	"aiops/internal/pipeline"
)

// classOf is the table from the API's classes of requests to those of
// admission, which have the same names.
var classOf = map[api.Class]admission.Class{
	api.ClassProbe: admission.Probe, api.ClassControl: admission.Control, api.ClassStream: admission.Stream,
	api.ClassIngest: admission.Ingest, api.ClassUI: admission.UI, api.ClassRead: admission.Read, api.ClassBatch: admission.Batch,
}

// newAdmission connects what stands in front of the API.
func (p *program) newAdmission(c config.Config) (*admission.Admission, error) {
	return admission.New(c.Admission, admission.Options{
		Class:      func(method, path string) admission.Class { return classOf[api.ClassOf(method, path)] },
		Identity:   api.Subject,
		Refuse:     api.Refuse,
		Answer:     p.answer,
		OnChange:   p.loadChanged,
		Registerer: p.registry,
	})
}

// answer is how connections refuse GETs by themselves.
func (p *program) answer(err error) func(b []byte, h admission.Head) []byte {
	refusal := api.NewRefusal(err)
	return func(b []byte, h admission.Head) []byte {
		p.requests.refused(api.Class(h.Class.String()))
		return refusal.Append(b, h.RequestID, h.Traceparent, h.Path)
	}
}

// loadChanged logs a change of the load state and tells of it.
func (p *program) loadChanged(c admission.Change) {
	p.log.Info("load changed", "from", c.From, "to", c.To, "reason", c.Reason)
	data, err := json.Marshal(c)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := p.store.AppendEvent(ctx, model.Event{Type: model.EventLoadChanged, Topic: "system", Time: c.Time, Data: data}); err != nil {
		p.log.Warn("a change of the load was not recorded", "err", err)
	}
}

// pressure lets work of the pipeline that can wait yield to requests.
func (p *program) pressure() pipeline.Level {
	switch p.admission.State() {
	case admission.Overloaded:
		return pipeline.PressureSevere
	case admission.Elevated:
		return pipeline.PressureElevated
	}
	return pipeline.PressureNone
}
