package api

import (
	"context"
	"net/http"
	"time"

	"aiops/internal/health"
)

func (s *server) registerHealthCheck() {
	register(s, operation{id: "get-health-check", method: http.MethodGet, path: "/api/v1/health", tag: tagSystem,
		summary: "Get the health in the format of draft-inadarei-api-health-check-06",
		description: "The same as /health in another vocabulary, for tools that read application/health+json. 503 when the status would be fail: " +
			"when a component without which nothing works is unhealthy.",
		codes: []Code{CodeValidation}}, s.healthCheck)
}

// HealthCheck is the health as draft-inadarei-api-health-check-06 writes it.
type HealthCheck struct {
	Status      string                          `json:"status" enum:"pass,warn" doc:"warn: something does not work as it should"`
	Version     string                          `json:"version" doc:"Of the API"`
	ReleaseID   string                          `json:"releaseId" doc:"Of the program"`
	Description string                          `json:"description"`
	Checks      map[string][]HealthCheckElement `json:"checks" doc:"By component and what is observed of it"`
}

// HealthCheckElement is what was observed of one component.
type HealthCheckElement struct {
	ComponentID   string     `json:"componentId"`
	ComponentType string     `json:"componentType" enum:"component,datastore,system"`
	ObservedValue float64    `json:"observedValue" doc:"How long the check took"`
	ObservedUnit  string     `json:"observedUnit" enum:"ms"`
	Status        string     `json:"status" enum:"pass,warn"`
	Time          *time.Time `json:"time,omitempty" doc:"Of the check; absent: never"`
	Output        string     `json:"output,omitempty" doc:"Why it does not pass"`
}

// ContentType names the format of the draft.
func (HealthCheck) ContentType(string) string { return "application/health+json" }

type healthCheckOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         HealthCheck
}

var componentTypes = map[string]string{"system": "system", "database": "datastore", "prometheus": "datastore", "loki": "datastore"}

func (s *server) healthCheck(_ context.Context, in *struct {
	Exclude []string `query:"exclude,explode" maxItems:"16" maxLength:"64" doc:"Leave this component out; may be repeated"`
}) (*healthCheckOutput, error) {
	report := s.report(in.Exclude)
	out := HealthCheck{Status: "pass", Version: "1", ReleaseID: s.opts.Version, Description: "aiops", Checks: map[string][]HealthCheckElement{}}
	var failing []string
	for _, c := range report.Components {
		e := HealthCheckElement{ComponentID: c.Name, ComponentType: "component", ObservedValue: c.LatencyMS, ObservedUnit: "ms", Status: "pass", Time: timeOf(c.CheckedAt)}
		if kind, known := componentTypes[c.Name]; known {
			e.ComponentType = kind
		}
		if c.Status != health.Healthy {
			e.Status, e.Output, out.Status = "warn", c.Message, "warn"
			if c.Critical && c.Status != health.Degraded {
				failing = append(failing, c.Name)
			}
		}
		out.Checks[c.Name+":responseTime"] = append(out.Checks[c.Name+":responseTime"], e)
	}
	if len(failing) > 0 {
		return nil, notReady(failing, nil)
	}
	return &healthCheckOutput{CacheControl: "no-store", Body: out}, nil
}
