package auth

import (
	"slices"

	"aiops/internal/model"
)

// Access is the least that an operation asks for.
type Access int

// The levels of access, in order. The zero value is in no row: what has no row
// is denied to everybody.
const (
	Denied   Access = iota
	Open            // anybody, without a credential
	Viewer          // model.RoleViewer and above
	Operator        // model.RoleOperator and above
	Admin           // model.RoleAdmin
)

// table is the one table of roles and operations. The names are the operation
// ids of the API; other protocols go by the path they are served at, and topics
// of the live stream by their first part behind "follow-".
var table = map[string]Access{
	// Probes and what is the same for everybody who has the program.
	"get-livez": Open, "get-alive": Open, "get-readyz": Open, "get-readyz-component": Open, "get-ready": Open, "get-startupz": Open,
	"get-openapi-json": Open, "get-openapi-yaml": Open, "list-errors": Open, "get-error": Open,

	"create-session": Open, "delete-session": Open, "get-session": Viewer,
	"list-tokens": Admin, "create-token": Admin, "revoke-token": Admin,

	"get-health": Viewer, "get-health-check": Viewer, "get-component-health": Viewer, "get-deployment": Viewer, "get-metrics": Viewer,
	"reload": Admin, "get-log-level": Viewer, "set-log-level": Admin,

	"list-detectors": Viewer, "get-detector": Viewer, "get-detector-status": Viewer, "get-detector-health": Viewer,
	"list-detector-series": Viewer, "replay-detector": Viewer, "validate-detector": Viewer,
	"create-detector": Operator, "replace-detector": Operator, "update-detector": Operator, "delete-detector": Operator,
	"start-detector": Operator, "stop-detector": Operator, "train-detector": Operator, "detect": Operator,
	"backtest-detector": Operator, "backtest-definition": Operator,

	"list-models": Viewer, "promote-model": Operator, "rollback-model": Operator,
	"get-shadow": Viewer, "start-shadow": Operator, "promote-shadow": Operator, "discard-shadow": Operator,
	"list-detector-versions": Viewer, "get-detector-version": Viewer, "diff-detector-versions": Viewer, "revert-detector": Operator,
	"suggest-detector": Operator, "search-detector": Operator, "apply-suggestion": Operator,

	"list-known-events": Viewer, "get-known-event": Viewer, "create-known-event": Operator, "replace-known-event": Operator, "delete-known-event": Operator,

	"list-anomalies": Viewer, "get-anomaly": Viewer, "explain-anomaly": Viewer,
	"acknowledge-anomaly": Operator, "resolve-anomaly": Operator, "label-anomaly": Operator,

	// A source has an address that this program connects to, and credentials.
	"list-sources": Viewer, "get-source": Viewer, "get-source-health": Viewer, "list-collectors": Viewer, "query-source": Viewer,
	"test-source": Operator, "create-source": Admin, "replace-source": Admin, "delete-source": Admin,

	"list-log-patterns": Viewer, "get-log-pattern": Viewer, "list-log-lines": Viewer,
	"update-log-pattern": Operator, "analyze-logs": Operator,

	"list-tasks": Viewer, "get-task": Viewer, "cancel-task": Operator,

	// Other protocols. The WebSocket is open because its first message may be
	// what authenticates it.
	"/api/v1/ws": Open, "/api/v1/events": Viewer, "list-live-clients": Admin,
	"/prometheus/*": Viewer, "/api/v1/write": Operator, "/loki/api/v1/push": Operator, "/v1/logs": Operator,

	"follow-actions": Viewer, "follow-anomalies": Viewer, "follow-detectors": Viewer, "follow-incidents": Viewer,
	"follow-series": Viewer, "follow-sources": Viewer, "follow-system": Viewer,
}

// Needs returns what an operation asks for, Denied when it has no row.
func Needs(operation string) Access { return table[operation] }

// Operations returns the names of every row, sorted.
func Operations() []string {
	out := make([]string, 0, len(table))
	for name := range table {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// level is the access that a role gives; an unknown role gives none.
func level(r model.Role) Access {
	switch r {
	case model.RoleViewer:
		return Viewer
	case model.RoleOperator:
		return Operator
	case model.RoleAdmin:
		return Admin
	}
	return Denied
}

// Permits reports whether a role may use an operation.
func Permits(r model.Role, operation string) bool {
	need := Needs(operation)
	return need != Denied && level(r) >= need
}
