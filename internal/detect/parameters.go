package detect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"aiops/internal/model"
)

// ParameterType is the JSON type of a parameter.
type ParameterType string

// The types of parameters.
const (
	TypeNumber  ParameterType = "number"
	TypeInteger ParameterType = "integer"
)

// Parameter describes one key of a model's parameters. The range is inclusive.
type Parameter struct {
	Name     string
	Type     ParameterType
	Default  float64 // NaN: there is none, and leaving it out has the meaning that Summary gives
	Min, Max float64
	Summary  string
}

// Info describes a model for people and for documents.
type Info struct {
	Name       string
	Summary    string
	Parameters []Parameter
	// MinHistory says how many samples, one step apart, the model needs with
	// its default parameters before it judges.
	MinHistory func(step time.Duration) int
}

// values holds the parameters of one model, in the order of its table row.
type values struct {
	defs []Parameter
	v    []float64
}

// number returns the parameter called name, NaN when it has neither a value
// nor a default.
func (p values) number(name string) float64 {
	for i, d := range p.defs {
		if d.Name == name {
			return p.v[i]
		}
	}
	panic("BUG: model without the parameter " + name)
}

// integer returns the parameter called name, which has a default.
func (p values) integer(name string) int { return int(p.number(name)) }

// parseParameters reads a JSON object strictly: every fault goes to bad.
func parseParameters(raw json.RawMessage, defs []Parameter, bad *model.Invalid) values {
	p := values{defs: defs, v: make([]float64, len(defs))}
	for i, d := range defs {
		p.v[i] = d.Default
	}
	if len(bytes.TrimSpace(raw)) == 0 || string(bytes.TrimSpace(raw)) == "null" {
		return p
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		bad.Add("/parameters", "invalid_type", "parameters must be a JSON object such as {\"window\": 240}")
		return p
	}
	seen := make(map[string]bool, len(defs))
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			bad.Add("/parameters", "invalid_json", "parameters are not valid JSON: %v", err)
			return p
		}
		name := tok.(string) // the decoder has made sure that a key is a string
		var value any
		if err := dec.Decode(&value); err != nil {
			bad.Add(pointer(name), "invalid_json", "the value of %q is not valid JSON: %v", name, err)
			return p
		}
		if seen[name] {
			bad.Add(pointer(name), "duplicate", "%q is given more than once", name)
			continue
		}
		seen[name] = true
		p.set(name, value, bad)
	}
	if _, err := dec.Token(); err != nil {
		bad.Add("/parameters", "invalid_json", "parameters are not valid JSON: %v", err)
		return p
	}
	if _, err := dec.Token(); err != io.EOF {
		bad.Add("/parameters", "invalid_json", "something follows the object of parameters")
	}
	return p
}

func (p values) set(name string, value any, bad *model.Invalid) {
	for i, d := range p.defs {
		if d.Name != name {
			continue
		}
		if value == nil {
			return // null is the default
		}
		n, ok := value.(json.Number)
		if !ok {
			bad.Add(pointer(name), "invalid_type", "%q must be %s", name, d.Type.article())
			return
		}
		f, err := n.Float64()
		switch {
		case err != nil || f < d.Min || f > d.Max:
			bad.Add(pointer(name), "out_of_range", "%q must be between %v and %v", name, d.Min, d.Max)
		case d.Type == TypeInteger && f != math.Trunc(f):
			bad.Add(pointer(name), "invalid_type", "%q must be a whole number", name)
		default:
			p.v[i] = f + 0 // no negative zero
		}
		return
	}
	if len(p.defs) == 0 {
		bad.Add(pointer(name), "unknown_parameter", "there is no parameter %q; this model has none", name)
		return
	}
	names := make([]string, len(p.defs))
	for i, d := range p.defs {
		names[i] = d.Name
	}
	bad.Add(pointer(name), "unknown_parameter", "there is no parameter %q; this model has %s", name, strings.Join(names, ", "))
}

func (t ParameterType) article() string {
	if t == TypeInteger {
		return "an integer"
	}
	return "a " + string(t)
}

// pointer returns the JSON pointer of a parameter.
func pointer(name string) string {
	return fmt.Sprintf("/parameters/%s", strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
}
