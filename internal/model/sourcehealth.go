package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// NodeHealth is the health of a source as one node sees it.
type NodeHealth struct {
	Node string // of its data directory
	Host string // of the machine, for people; may be ""
	Mine bool   // it is what this process said
	SourceHealth
}

// nodesNamed is how many nodes are named in one message.
const nodesNamed = 3

// JoinHealth returns the health of a source that several nodes look at. Nodes
// that have not checked it yet do not count. When all agree, so it is. When none
// gets usable data, it is down, since at least one gets no answer. Else it
// answers some of them only: it is degraded, and the message names the nodes
// that have trouble, with what they met. It is since the last of the changes
// that led to it.
func JoinHealth(nodes []NodeHealth) SourceHealth {
	known := slices.DeleteFunc(slices.Clone(nodes), func(n NodeHealth) bool { return n.State == SourceUnknown })
	if len(known) == 0 {
		if len(nodes) == 0 {
			return SourceHealth{State: SourceUnknown}
		}
		return nodes[0].SourceHealth
	}
	slices.SortFunc(known, func(a, b NodeHealth) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), strings.Compare(a.Node, b.Node))
	})
	out := known[0].SourceHealth
	usable, same := 0, true
	for _, n := range known {
		if n.State.Usable() {
			usable++
		}
		same = same && n.State == known[0].State
		if n.Since.After(out.Since) {
			out.Since = n.Since
		}
		if n.CheckedAt.After(out.CheckedAt) {
			out.CheckedAt = n.CheckedAt
		}
		out.Latency = max(out.Latency, n.Latency)
	}
	switch {
	case same:
	case usable == 0:
		out.State = SourceDown
	default:
		out.State = SourceDegraded
	}
	if !same || slices.ContainsFunc(known, func(n NodeHealth) bool { return n.LastError != out.LastError }) {
		out.LastError = namedErrors(known)
	}
	return out
}

// namedErrors says which nodes have trouble with a source, and which.
func namedErrors(nodes []NodeHealth) string {
	var parts []string
	more := 0
	for _, n := range nodes {
		switch {
		case n.State == SourceUp:
		case len(parts) == nodesNamed:
			more++
		default:
			parts = append(parts, fmt.Sprintf("%s on node %s: %s", n.State, n.name(nodes), cmp.Or(n.LastError, "no reason is known")))
		}
	}
	if more > 0 {
		parts = append(parts, fmt.Sprintf("and on %d more", more))
	}
	return strings.Join(parts, "; ")
}

// name is what people call a node: its host, and its own name where several
// are on one host.
func (n NodeHealth) name(all []NodeHealth) string {
	for _, other := range all {
		if other.Host == n.Host && other.Node != n.Node {
			return strings.TrimSpace(n.Host + " " + n.Node)
		}
	}
	return cmp.Or(n.Host, n.Node)
}
