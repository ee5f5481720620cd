package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// generator makes requests from a description: right ones, and ones that are
// wrong in one place.
type generator struct {
	rng *rand.Rand
	s   schemas
	d   described
}

// ids that exist, for path parameters by the path they stand in.
func (g *generator) pathValue(name string) string {
	switch {
	case name == "version":
		return "2"
	case name == "code":
		return "NOT_FOUND"
	case name == "component":
		return "database"
	case name == "task":
		return "task_3"
	case strings.Contains(g.d.path, "/detectors/"):
		return "det_1"
	case strings.Contains(g.d.path, "/known-events/"):
		return "evt_1"
	case strings.Contains(g.d.path, "/anomalies/"):
		return "an_1"
	case strings.Contains(g.d.path, "/logs/patterns/"):
		return testPattern
	case strings.Contains(g.d.path, "/tasks/"):
		return "task_1"
	case strings.Contains(g.d.path, "/tokens/"):
		return "key_1"
	case g.d.method == "DELETE", g.d.method == "PUT":
		return "src_free" // which no detector uses
	}
	return "src_main"
}

var oddTexts = []string{"", " ", "0", "-1", "null", "true", "NaN", "1e999", "%00", "%ff", "%F0%9F%92%A9", "..%2F..%2Fetc", "'%3B%20DROP%20TABLE", "{}", "[]", "a%20b", "%22", strings.Repeat("x", 600), strings.Repeat("9", 40)}

func (g *generator) odd() string { return oddTexts[g.rng.IntN(len(oddTexts))] }

// target fills in the path and adds query parameters. A broken one has one odd
// value, repeated parameter or unknown parameter.
func (g *generator) target(broken bool) string {
	path := g.d.path
	var inPath, query []map[string]any
	for _, p := range list(g.d.op["parameters"]) {
		switch p["in"] {
		case "path":
			inPath = append(inPath, p)
		case "query":
			query = append(query, p)
		}
	}
	breakAt := -1
	if broken {
		breakAt = g.rng.IntN(len(inPath) + len(query) + 2)
	}
	for i, p := range inPath {
		name := p["name"].(string)
		v := url.PathEscape(g.pathValue(name))
		if i == breakAt {
			if v = g.odd(); v == "" {
				v = "%20"
			}
		}
		path = strings.Replace(path, "{"+name+"}", v, 1)
	}
	var q []string
	for i, p := range query {
		name, at := p["name"].(string), i+len(inPath)
		switch {
		case at == breakAt:
			q = append(q, name+"="+g.odd())
			if g.rng.IntN(3) == 0 {
				q = append(q, name+"="+g.odd())
			}
		case !broken && g.rng.IntN(3) == 0 && name != "cursor" && name != "from" && name != "to" && name != "series" && name != "detector" && name != "matcher":
			q = append(q, name+"="+url.QueryEscape(fmt.Sprint(g.value(p["schema"].(map[string]any)))))
		}
	}
	switch breakAt {
	case len(inPath) + len(query):
		q = append(q, "unknown="+g.odd())
	case len(inPath) + len(query) + 1:
		q = append(q, "%zz;=&&&=")
	}
	if len(q) > 0 {
		path += "?" + strings.Join(q, "&")
	}
	return path
}

// value makes a value that a schema allows.
func (g *generator) value(schema map[string]any) any {
	if ref, ok := schema["$ref"].(string); ok {
		return g.value(g.s.resolve(ref))
	}
	if enum, ok := schema["enum"].([]any); ok {
		return enum[g.rng.IntN(len(enum))]
	}
	if ex, ok := schema["examples"].([]any); ok && len(ex) > 0 {
		return ex[0]
	}
	kind, _ := schema["type"].(string)
	if kinds, ok := schema["type"].([]any); ok {
		if g.rng.IntN(4) == 0 {
			return nil
		}
		kind = kinds[0].(string)
	}
	switch kind {
	case "string":
		if schema["format"] == "date-time" {
			return "2026-11-0" + fmt.Sprint(1+g.rng.IntN(7)) + "T00:00:00Z"
		}
		return "text"
	case "integer":
		return 1 + g.rng.IntN(3)
	case "number":
		return float64(1+g.rng.IntN(100)) / 100
	case "boolean":
		return g.rng.IntN(2) == 0
	case "array":
		return []any{g.value(schema["items"].(map[string]any))}
	case "object":
		out := map[string]any{}
		required := list2(schema["required"])
		properties, _ := schema["properties"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(properties)) {
			p := properties[name]
			if slices.Contains(required, name) || g.rng.IntN(2) == 0 {
				out[name] = g.value(p.(map[string]any))
			}
		}
		return out
	}
	return map[string]any{}
}

// body makes a body: the example, one made from the schema, or a broken one.
func (g *generator) body(n int) (text, contentType string) {
	request, ok := g.d.op["requestBody"].(map[string]any)
	if !ok {
		if g.d.method == http.MethodGet || n%4 != 3 {
			return "", ""
		}
		return `{"body": "nobody asked for"}`, "application/json"
	}
	media := request["content"].(map[string]any)["application/json"].(map[string]any)
	right, _ := json.Marshal(media["example"])
	if n%2 == 1 || media["example"] == nil {
		right, _ = json.Marshal(g.value(media["schema"].(map[string]any)))
	}
	if n < 8 {
		return string(right), "application/json"
	}
	var v map[string]any
	_ = json.Unmarshal(right, &v)
	names := slices.Sorted(maps.Keys(v))
	broken := []any{nil, 1, -1, 1e300, "", "x", strings.Repeat("y", 20_000), true, []any{}, []any{nil}, map[string]any{}, map[string]any{"a": map[string]any{"b": nil}}, "2026-13-99", "-5m", "99999999999h"}
	switch n % 12 {
	case 0:
		return "", "application/json"
	case 1:
		return string(right[:len(right)/2]), "application/json"
	case 2:
		return `{"a":1,"a":2}`, "application/json"
	case 3:
		return strings.Repeat("[", 100), "application/json"
	case 4:
		return string(right), []string{"text/plain", "", "application/xml", "multipart/form-data", "application/json; charset=latin1", "application/json; charset=utf-8"}[g.rng.IntN(6)]
	case 5:
		v["surprise"] = 1
	case 6:
		return []string{"null", "[]", "1", `"x"`, "{}", "{} {}", "\xff", `{"name":"\u0000"}`, `{"x":1e999}`, " "}[g.rng.IntN(10)], "application/json"
	case 7:
		if len(names) > 0 {
			delete(v, names[g.rng.IntN(len(names))])
		}
	default:
		if len(names) > 0 {
			v[names[g.rng.IntN(len(names))]] = broken[g.rng.IntN(len(broken))]
		}
	}
	text2, _ := json.Marshal(v)
	return string(text2), "application/json"
}

func list(v any) []map[string]any {
	var out []map[string]any
	items, _ := v.([]any)
	for _, item := range items {
		out = append(out, item.(map[string]any))
	}
	return out
}

func list2(v any) []string {
	var out []string
	items, _ := v.([]any)
	for _, item := range items {
		out = append(out, item.(string))
	}
	return out
}

// headers adds conditional and idempotency headers to some requests.
func (g *generator) headers(req *http.Request, n int) {
	switch n % 9 {
	case 3:
		req.Header.Set("If-Match", []string{`"999"`, "*", "x", `W/"7.abc"`, `"7"`}[g.rng.IntN(5)])
	case 4:
		req.Header.Set("If-None-Match", []string{"*", `"x"`, "", "W/"}[g.rng.IntN(4)])
	case 5:
		req.Header.Set("Idempotency-Key", []string{"k1", strings.Repeat("k", 300), "\x01", "ü"}[g.rng.IntN(4)])
	case 6:
		req.Header.Set("Content-Encoding", "gzip")
	case 7:
		req.Header.Set("Accept", "text/html")
	case 8:
		req.Header.Set("Sec-Fetch-Site", "cross-site")
	}
}
