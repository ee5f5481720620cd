package intake

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"aiops/internal/model"
)

// OTLP serves POST /v1/logs, OpenTelemetry's protocol over HTTP: protobuf and
// JSON, plain or gzip. It answers 200; when some records were refused for good,
// with a partial success that says how many and why.
func (n *Intake) OTLP() http.Handler {
	return n.handler(protocol{
		name: nameOTLP, full: http.StatusServiceUnavailable, // OTLP knows no other that is sent again
		decode: func(r *http.Request) (decodeFunc, error) {
			switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
			case typeProtobuf:
				return decodeOTLP, nil
			case typeJSON:
				return decodeOTLPJSON, nil
			}
			return nil, model.Errorf(model.KindInvalid, model.SubjectSource, "the content type is neither %s nor %s", typeJSON, typeProtobuf)
		},
		answer: func(r *http.Request) answerFunc {
			if isProtobuf(r) {
				return answerOTLP
			}
			return answerOTLPJSON
		},
	})
}

// answerOTLP writes partial_success = 1 {rejected_log_records = 1,
// error_message = 2}, or nothing at all.
func answerOTLP(w http.ResponseWriter, b *batch) int {
	w.Header().Set("Content-Type", typeProtobuf)
	if said := b.refusal(); said != "" {
		var partial, out []byte
		partial = protowire.AppendTag(partial, 1, protowire.VarintType)
		partial = protowire.AppendVarint(partial, uint64(b.rejected()))
		partial = protowire.AppendTag(partial, 2, protowire.BytesType)
		partial = protowire.AppendString(partial, said)
		out = protowire.AppendTag(out, 1, protowire.BytesType)
		_, _ = w.Write(protowire.AppendBytes(out, partial))
	}
	return http.StatusOK
}

func answerOTLPJSON(w http.ResponseWriter, b *batch) int {
	w.Header().Set("Content-Type", typeJSON)
	out := map[string]any{}
	if said := b.refusal(); said != "" {
		out["partialSuccess"] = map[string]string{"rejectedLogRecords": strconv.Itoa(b.rejected()), "errorMessage": said}
	}
	_ = json.NewEncoder(w).Encode(out)
	return http.StatusOK
}

// streamAttributes are the attributes of a resource that make its stream, in
// OpenTelemetry's names. They are few on purpose: an attribute that differs
// from line to line would make a stream of each.
var streamAttributes = map[string]string{
	"service.name":                "service_name",
	"service.namespace":           "service_namespace",
	"deployment.environment":      "deployment_environment",
	"deployment.environment.name": "deployment_environment",
	"host.name":                   "host_name",
	"cloud.region":                "cloud_region",
	"k8s.cluster.name":            "k8s_cluster_name",
	"k8s.namespace.name":          "k8s_namespace_name",
	"k8s.deployment.name":         "k8s_deployment_name",
	"k8s.statefulset.name":        "k8s_statefulset_name",
	"k8s.daemonset.name":          "k8s_daemonset_name",
	"k8s.cronjob.name":            "k8s_cronjob_name",
	"k8s.container.name":          "k8s_container_name",
}

const (
	unknownService = "unknown_service"
	maxValueDepth  = 16 // of values within values
	mostAttributes = 64 // of one record are looked at
)

// resource is what the records of one resource and scope have in common.
type resource struct {
	labels map[string]string
}

func newResource() *resource {
	return &resource{labels: map[string]string{"service_name": unknownService}}
}

func (r *resource) attribute(name, value string) {
	if label := streamAttributes[name]; label != "" && value != "" {
		r.labels[label] = value
	}
}

// record is a log record as it is read.
type record struct {
	time, observed int64
	severity       int64
	severityText   string
	body           string
	cut            bool
	event          string
	trace          string
	attributes     []string // name and value in turn
}

func (r *record) attribute(name, value string) {
	if len(r.attributes) < 2*mostAttributes {
		r.attributes = append(r.attributes, name, value)
	}
}

// line makes a line of a record. A record without a body shows its event and
// its attributes.
func (r *record) line(logger string) model.LogLine {
	l := model.LogLine{T: r.time, Text: r.body, Cut: r.cut, Level: severityLevel(r.severity), Logger: logger}
	if validTrace(r.trace) {
		l.TraceID = r.trace
	}
	if l.T == 0 {
		l.T = r.observed
	}
	if l.Level == "" && len(r.severityText) <= maxMeta {
		l.Level = r.severityText
	}
	for i := 0; i+1 < len(r.attributes); i += 2 {
		meta(&l, r.attributes[i], r.attributes[i+1])
	}
	if l.Text == "" {
		l.Text, l.Cut = r.describe()
	}
	return l
}

// validTrace reports whether id is 32 hexadecimal digits that are not all zero.
func validTrace(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == 16 && strings.Trim(id, "0") != ""
}

func (r *record) describe() (string, bool) {
	var b strings.Builder
	b.WriteString(r.event)
	for i := 0; i+1 < len(r.attributes); i += 2 {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(r.attributes[i] + "=" + strconv.Quote(r.attributes[i+1]))
	}
	text := b.String()
	return text[:min(len(text), model.MaxLineBytes)], len(text) > model.MaxLineBytes
}

// severityLevel maps OpenTelemetry's numbers: four to each level.
func severityLevel(n int64) string {
	switch {
	case n >= 21 && n <= 24:
		return model.LevelFatal
	case n >= 17 && n <= 20:
		return model.LevelError
	case n >= 13 && n <= 16:
		return model.LevelWarn
	case n >= 9 && n <= 12:
		return model.LevelInfo
	case n >= 1 && n <= 8:
		return model.LevelDebug
	}
	return ""
}

// decodeOTLP reads an ExportLogsServiceRequest: resource logs = 1, each with
// resource = 1 and scope logs = 2, which have scope = 1 and log records = 2.
func decodeOTLP(body io.Reader, b *batch) error {
	data, err := readAll(body)
	if err != nil {
		return err
	}
	return fields(data, func(f field) error {
		if f.number != 1 {
			return nil
		}
		return b.resourceLogs(f)
	})
}

func (b *batch) resourceLogs(f field) error {
	data, err := f.message()
	if err != nil {
		return err
	}
	begin := len(b.lines)
	from := newResource()
	// The resource may stand behind its records, so it is looked for first.
	err = fields(data, func(f field) error {
		if f.number != 1 {
			return nil
		}
		resource, err := f.message()
		if err != nil {
			return err
		}
		return fields(resource, func(f field) error {
			if f.number != 1 {
				return nil
			}
			return keyValue(f, 0, from.attribute)
		})
	})
	if err != nil {
		return err
	}
	err = fields(data, func(f field) error {
		if f.number != 2 {
			return nil
		}
		return b.scopeLogs(f)
	})
	if err != nil {
		return err
	}
	return b.settle(begin, from.labels)
}

func (b *batch) scopeLogs(f field) error {
	data, err := f.message()
	if err != nil {
		return err
	}
	logger := ""
	return fields(data, func(f field) error {
		switch f.number {
		case 1:
			scope, err := f.message()
			if err != nil {
				return err
			}
			return fields(scope, func(f field) (err error) {
				if f.number == 1 {
					logger, err = f.text()
				}
				return err
			})
		case 2:
			return b.logRecord(f, logger)
		}
		return nil
	})
}

func (b *batch) logRecord(f field, logger string) error {
	data, err := f.message()
	if err != nil {
		return err
	}
	var r record
	err = fields(data, func(f field) (err error) {
		switch f.number {
		case 1:
			r.time, err = f.integer()
		case 2:
			r.severity, err = f.integer()
		case 3:
			r.severityText, err = f.text()
		case 5:
			r.body, r.cut, err = anyText(f, 0)
		case 6:
			err = keyValue(f, 0, r.attribute)
		case 9:
			var id []byte
			if id, err = f.message(); err == nil && len(id) == 16 {
				r.trace = hex.EncodeToString(id)
			}
		case 11:
			r.observed, err = f.integer()
		case 12:
			r.event, err = f.text()
		}
		return err
	})
	if err != nil {
		return err
	}
	return b.add(r.line(logger[:min(len(logger), maxMeta)]))
}

// keyValue reads a KeyValue: key = 1, value = 2.
func keyValue(f field, depth int, take func(name, value string)) error {
	data, err := f.message()
	if err != nil {
		return err
	}
	var name, value string
	err = fields(data, func(f field) (err error) {
		switch f.number {
		case 1:
			name, err = f.text()
		case 2:
			value, _, err = anyText(f, depth)
		}
		return err
	})
	if err == nil {
		take(name, value)
	}
	return err
}

// anyText reads an AnyValue as a text: strings as they are, everything else as
// JSON writes it.
func anyText(f field, depth int) (string, bool, error) {
	data, err := f.message()
	if err != nil {
		return "", false, err
	}
	var text string
	var cut bool
	err = fields(data, func(f field) (err error) {
		if f.number == 1 {
			var line []byte
			if line, err = f.message(); err == nil {
				text, cut = cutText(line)
			}
			return err
		}
		var out []byte
		if out, err = appendAny(nil, f, depth); err == nil {
			text, cut = cutText(out)
		}
		return err
	})
	return text, cut, err
}

// appendAny appends one of the fields of an AnyValue as JSON: string = 1, bool
// = 2, int = 3, double = 4, array = 5, list of pairs = 6, bytes = 7. No more is
// appended once a line is full.
func appendAny(out []byte, f field, depth int) ([]byte, error) {
	if depth > maxValueDepth || len(out) > model.MaxLineBytes {
		return append(out, `"…"`...), nil
	}
	switch f.number {
	case 1:
		data, err := f.message()
		return appendQuoted(out, data), err
	case 2:
		return strconv.AppendBool(out, f.value != 0), nil
	case 3:
		return strconv.AppendInt(out, int64(f.value), 10), nil
	case 4:
		return strconv.AppendFloat(out, math.Float64frombits(f.value), 'g', -1, 64), nil
	case 5:
		return appendList(out, f, '[', ']', func(out []byte, f field) ([]byte, error) { return appendValue(out, f, depth+1) })
	case 6:
		return appendList(out, f, '{', '}', func(out []byte, f field) ([]byte, error) { return appendPair(out, f, depth+1) })
	case 7:
		data, err := f.message()
		out = append(out, '"')
		out = base64.StdEncoding.AppendEncode(out, data[:min(len(data), model.MaxLineBytes)])
		return append(out, '"'), err
	}
	return out, nil
}

// appendQuoted writes a string as JSON does.
func appendQuoted(out, text []byte) []byte {
	quoted, err := json.Marshal(string(text[:min(len(text), model.MaxLineBytes)]))
	if err != nil {
		return append(out, `""`...)
	}
	return append(out, quoted...)
}

// appendList writes the values = 1 of an array or a list of pairs.
func appendList(out []byte, f field, open, closing byte, element func([]byte, field) ([]byte, error)) ([]byte, error) {
	data, err := f.message()
	if err != nil {
		return out, err
	}
	out = append(out, open)
	first := true
	err = fields(data, func(f field) (err error) {
		if f.number != 1 || len(out) > model.MaxLineBytes {
			return nil
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out, err = element(out, f)
		return err
	})
	return append(out, closing), err
}

func appendValue(out []byte, f field, depth int) ([]byte, error) {
	data, err := f.message()
	if err != nil {
		return out, err
	}
	empty := true
	err = fields(data, func(f field) (err error) {
		if empty {
			out, err = appendAny(out, f, depth)
		}
		empty = false
		return err
	})
	if empty {
		out = append(out, "null"...)
	}
	return out, err
}

func appendPair(out []byte, f field, depth int) ([]byte, error) {
	data, err := f.message()
	if err != nil {
		return out, err
	}
	var name []byte
	var value field
	err = fields(data, func(f field) (err error) {
		switch f.number {
		case 1:
			name, err = f.message()
		case 2:
			value = f
			_, err = f.message()
		}
		return err
	})
	if err != nil {
		return out, err
	}
	out = append(appendQuoted(out, name), ':')
	if value.number == 0 {
		return append(out, "null"...), nil
	}
	return appendValue(out, value, depth)
}
