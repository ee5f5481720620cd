package api

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// DetectorPatch is a merge patch of a DetectorInput (RFC 7386).
type DetectorPatch struct{ text json.RawMessage }

// UnmarshalJSON keeps a copy of the patch.
func (p *DetectorPatch) UnmarshalJSON(b []byte) error {
	p.text = append(json.RawMessage(nil), b...)
	return nil
}

// Schema is that of a DetectorInput with every field optional and nullable;
// huma asks for it.
func (DetectorPatch) Schema(r huma.Registry) *huma.Schema {
	const name = "DetectorPatch"
	ref := &huma.Schema{Ref: "#/components/schemas/" + name}
	if r.Map()[name] != nil {
		return ref
	}
	input := r.Schema(reflect.TypeFor[DetectorInput](), false, "")
	patch := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Properties: map[string]*huma.Schema{},
		Description: "A JSON merge patch (RFC 7386): what is left out stays, null restores the default."}
	for field, schema := range input.Properties {
		patch.Properties[field] = nullable(r, schema)
	}
	patch.PrecomputeMessages()
	r.Map()[name] = patch
	return ref
}

// nullable copies a schema and allows null, for objects in depth because a
// merge patch reaches into them.
func nullable(r huma.Registry, s *huma.Schema) *huma.Schema {
	for s.Ref != "" {
		s = r.SchemaFromRef(s.Ref)
	}
	c := *s
	c.Required = nil
	if c.Type != "" {
		c.Nullable = true
	}
	if len(c.Enum) > 0 {
		c.Enum = append(append([]any(nil), c.Enum...), nil)
	}
	if s.Properties != nil {
		c.Properties = map[string]*huma.Schema{}
		for name, p := range s.Properties {
			c.Properties[name] = nullable(r, p)
		}
	}
	if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
		c.AdditionalProperties = nullable(r, values)
	}
	c.PrecomputeMessages()
	return &c
}

// mergeDetector applies a patch. It returns the result with the faults of its
// form.
func (s *server) mergeDetector(base DetectorInput, patch DetectorPatch) (DetectorInput, []error, error) {
	var changes map[string]any
	if err := decodeExact(patch.text, &changes); err != nil {
		return base, nil, badJSON("", "type", "a merge patch is an object")
	}
	if changes["sensitivity"] != nil {
		base.FalseAlarmsPerWeek = nil // the two say the same thing
	}
	text, err := json.Marshal(base)
	if err != nil {
		return base, nil, err
	}
	var target map[string]any
	if err := decodeExact(text, &target); err != nil {
		return base, nil, err
	}
	merged, err := json.Marshal(mergePatch(target, changes))
	if err != nil {
		return base, nil, err
	}
	var loose any
	if err := json.Unmarshal(merged, &loose); err != nil {
		return base, nil, err
	}
	registry := s.api.OpenAPI().Components.Schemas
	schema := registry.Schema(reflect.TypeFor[DetectorInput](), false, "")
	path, result := huma.NewPathBuffer(nil, 0), &huma.ValidateResult{}
	path.Push("body")
	huma.Validate(registry, schema, path, huma.ModeWriteToServer, loose, result)
	var out DetectorInput
	if err := json.Unmarshal(merged, &out); err != nil && len(result.Errors) == 0 {
		return base, nil, badJSON("", "type", "a value does not fit its field")
	}
	return out, result.Errors, nil
}

// mergePatch is the algorithm of RFC 7386, section 2.
func mergePatch(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	old, _ := target.(map[string]any)
	merged := maps.Clone(old)
	if merged == nil {
		merged = map[string]any{}
	}
	for name, value := range changes {
		if value == nil {
			delete(merged, name)
			continue
		}
		merged[name] = mergePatch(merged[name], value)
	}
	return merged
}

// decodeExact decodes JSON and keeps the digits of numbers.
func decodeExact(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return dec.Decode(into)
}
