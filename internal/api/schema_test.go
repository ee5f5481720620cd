package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// schemas checks values against the document's schemas. It knows the words
// that the document uses and refuses others, so that none goes unchecked.
type schemas struct{ root map[string]any }

var knownWords = map[string]bool{
	"$ref": true, "type": true, "properties": true, "required": true, "additionalProperties": true, "items": true, "enum": true, "format": true,
	"minimum": true, "maximum": true, "exclusiveMinimum": true, "exclusiveMaximum": true, "minLength": true, "maxLength": true, "pattern": true,
	"minItems": true, "maxItems": true, "maxProperties": true,
	// said to people, not checked
	"description": true, "examples": true, "default": true, "patternDescription": true, "writeOnly": true, "contentMediaType": true,
}

func (s schemas) resolve(ref string) map[string]any {
	var at any = s.root
	for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
		m, ok := at.(map[string]any)
		if !ok {
			panic("the reference " + ref + " leads nowhere")
		}
		at = m[part]
	}
	m, ok := at.(map[string]any)
	if !ok {
		panic("the reference " + ref + " leads nowhere")
	}
	return m
}

// check returns every way in which v breaks schema.
func (s schemas) check(schema map[string]any, v any, at string) []string {
	for word := range schema {
		if !knownWords[word] {
			return []string{at + ": the checker does not know " + word}
		}
	}
	if ref, ok := schema["$ref"].(string); ok {
		return s.check(s.resolve(ref), v, at)
	}
	var faults []string
	bad := func(format string, args ...any) { faults = append(faults, at+": "+fmt.Sprintf(format, args...)) }
	if !typeMatches(schema["type"], v) {
		bad("%T is not of type %v", v, schema["type"])
		return faults
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		bad("%v is none of %v", v, enum)
	}
	switch v := v.(type) {
	case string:
		faults = append(faults, s.checkText(schema, v, at)...)
	case float64:
		for word, broken := range map[string]func(limit float64) bool{
			"minimum": func(l float64) bool { return v < l }, "maximum": func(l float64) bool { return v > l },
			"exclusiveMinimum": func(l float64) bool { return v <= l }, "exclusiveMaximum": func(l float64) bool { return v >= l },
		} {
			if limit, ok := schema[word].(float64); ok && broken(limit) {
				bad("%v breaks %s %v", v, word, limit)
			}
		}
	case []any:
		if n, ok := schema["maxItems"].(float64); ok && float64(len(v)) > n {
			bad("%d items", len(v))
		}
		if items, ok := schema["items"].(map[string]any); ok {
			for i, item := range v {
				faults = append(faults, s.check(items, item, fmt.Sprintf("%s[%d]", at, i))...)
			}
		}
	case map[string]any:
		faults = append(faults, s.checkObject(schema, v, at)...)
	}
	return faults
}

func (s schemas) checkText(schema map[string]any, v, at string) []string {
	var faults []string
	if n, ok := schema["minLength"].(float64); ok && float64(utf8.RuneCountInString(v)) < n {
		faults = append(faults, at+": too short")
	}
	if n, ok := schema["maxLength"].(float64); ok && float64(utf8.RuneCountInString(v)) > n {
		faults = append(faults, at+": too long")
	}
	if p, ok := schema["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
		faults = append(faults, at+": "+v+" does not match "+p)
	}
	if schema["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339Nano, v); err != nil {
			faults = append(faults, at+": "+v+" is no RFC 3339 time")
		}
	}
	return faults
}

func (s schemas) checkObject(schema, v map[string]any, at string) []string {
	var faults []string
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			faults = append(faults, at+": "+name.(string)+" is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if p, ok := properties[name].(map[string]any); ok {
			faults = append(faults, s.check(p, v[name], at+"."+name)...)
			continue
		}
		switch more := schema["additionalProperties"].(type) {
		case bool:
			if !more {
				faults = append(faults, at+": "+name+" is not in the schema")
			}
		case map[string]any:
			faults = append(faults, s.check(more, v[name], at+"."+name)...)
		}
	}
	return faults
}

func typeMatches(types, v any) bool {
	switch types := types.(type) {
	case nil:
		return true
	case string:
		switch types {
		case "string":
			_, ok := v.(string)
			return ok
		case "number":
			_, ok := v.(float64)
			return ok
		case "integer":
			n, ok := v.(float64)
			return ok && n == math.Trunc(n)
		case "boolean":
			_, ok := v.(bool)
			return ok
		case "array":
			_, ok := v.([]any)
			return ok
		case "object":
			_, ok := v.(map[string]any)
			return ok
		case "null":
			return v == nil
		}
		panic("the checker does not know the type " + types)
	case []any:
		return slices.ContainsFunc(types, func(t any) bool { return typeMatches(t, v) })
	}
	panic(fmt.Sprintf("the checker does not know the type %v", types))
}

// TestSchemaChecker is the control of every test that uses the checker: it has
// to find each of these faults.
func TestSchemaChecker(t *testing.T) {
	t.Parallel()
	var root map[string]any
	must(t, json.Unmarshal([]byte(`{"components": {"schemas": {"A": {"type": "object", "additionalProperties": false, "required": ["n"], "properties": {
		"n": {"type": ["number", "null"], "minimum": 1}, "s": {"type": "string", "enum": ["x"]}, "t": {"type": "string", "format": "date-time"},
		"l": {"type": "array", "items": {"type": "integer"}}, "d": {"type": "string", "pattern": "^a$"}, "m": {"type": "object", "additionalProperties": {"type": "string"}}}}}}}`), &root))
	s := schemas{root}
	a := map[string]any{"$ref": "#/components/schemas/A"}
	for text, good := range map[string]bool{
		`{"n": 1}`: true, `{"n": null}`: true, `{"n": 1, "s": "x", "t": "2026-11-08T12:00:00Z", "l": [1], "d": "a", "m": {"k": "v"}}`: true,
		`{}`: false, `{"n": 0}`: false, `{"n": "1"}`: false, `{"n": 1, "s": "y"}`: false, `{"n": 1, "t": "yesterday"}`: false, `{"n": 1, "l": [1.5]}`: false,
		`{"n": 1, "d": "b"}`: false, `{"n": 1, "other": 1}`: false, `{"n": 1, "m": {"k": 1}}`: false, `[]`: false, `null`: false,
	} {
		var v any
		must(t, json.Unmarshal([]byte(text), &v))
		if faults := s.check(a, v, "$"); (len(faults) == 0) != good {
			t.Errorf("%s: good %v, faults %v", text, good, faults)
		}
	}
	if len(s.check(map[string]any{"if": true}, nil, "$")) == 0 {
		t.Error("an unknown word went unnoticed")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
