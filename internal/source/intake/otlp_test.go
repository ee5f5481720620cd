package intake

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"aiops/internal/model"
)

// OpenTelemetry's own exporter sends, with and without compression.
func TestOTLPFromTheOfficialExporter(t *testing.T) {
	t.Parallel()
	for _, compression := range []otlploghttp.Compression{otlploghttp.NoCompression, otlploghttp.GzipCompression} {
		n, s := setup(t)
		refuse := true
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if refuse { // the exporter has to come again
				refuse = false
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = io.Copy(io.Discard, r.Body)
				return
			}
			n.OTLP().ServeHTTP(w, r)
		}))
		defer server.Close()
		exporter, err := otlploghttp.New(t.Context(), otlploghttp.WithEndpointURL(server.URL+"/v1/logs"), otlploghttp.WithCompression(compression),
			otlploghttp.WithRetry(otlploghttp.RetryConfig{Enabled: true, InitialInterval: time.Millisecond, MaxInterval: time.Second, MaxElapsedTime: time.Minute}))
		if err != nil {
			t.Fatal(err)
		}
		provider := sdklog.NewLoggerProvider(
			sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)),
			sdklog.WithResource(sdkresource.NewSchemaless(attribute.String("service.name", "checkout"), attribute.String("service.instance.id", "7"))),
		)
		at := time.Now().Truncate(time.Microsecond)
		for i, text := range hostile {
			var r log.Record
			r.SetTimestamp(at.Add(time.Duration(i)))
			r.SetSeverity(log.SeverityError2)
			r.SetBody(attribute.StringValue(text))
			provider.Logger("shop.cart").Emit(context.Background(), r)
		}
		if err := provider.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		server.CloseClientConnections()
		got := s.taken()
		if len(got) != len(hostile) {
			t.Fatalf("%d lines came, want %d", len(got), len(hostile))
		}
		for i, l := range got {
			want := model.LogLine{T: at.UnixNano() + int64(i), Stream: model.Labels{{Name: "service_name", Value: "checkout"}}, Text: hostile[i], Level: "error", Logger: "shop.cart"}
			if !reflect.DeepEqual(l, want) {
				t.Errorf("line %d:\n got %+v\nwant %+v", i, l, want)
			}
		}
	}
}

func str(s string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: s}}
}

func kv(k string, v *commonpb.AnyValue) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: k, Value: v}
}

// Both encodings of the same records, as the official messages write them,
// become the same lines.
func TestOTLPRecords(t *testing.T) {
	t.Parallel()
	trace, _ := hex.DecodeString("4bf92f3577b34da6a3ce929d0e0e4736")
	list := &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: &commonpb.ArrayValue{Values: []*commonpb.AnyValue{
		str("a"), {Value: &commonpb.AnyValue_IntValue{IntValue: -7}}, {Value: &commonpb.AnyValue_BoolValue{BoolValue: true}}, {Value: &commonpb.AnyValue_DoubleValue{DoubleValue: 1.5}}, {},
	}}}}
	nested := &commonpb.AnyValue{Value: &commonpb.AnyValue_KvlistValue{KvlistValue: &commonpb.KeyValueList{Values: []*commonpb.KeyValue{kv("msg", str("x\"y")), kv("list", list)}}}}
	data, err := proto.Marshal(&logspb.LogsData{ResourceLogs: []*logspb.ResourceLogs{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{kv("service.name", str("cart")), kv("k8s.namespace.name", str("shop")), kv("process.pid", str("7"))}},
		ScopeLogs: []*logspb.ScopeLogs{{
			Scope: &commonpb.InstrumentationScope{Name: "scope"},
			LogRecords: []*logspb.LogRecord{
				{TimeUnixNano: 5, SeverityNumber: 13, Body: str("warned"), TraceId: trace},
				{ObservedTimeUnixNano: 6, SeverityText: "SEVERE", Body: nested},
				{TimeUnixNano: 7, EventName: "cart.emptied", Attributes: []*commonpb.KeyValue{kv("items", &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: 3}})}},
			},
		}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	asJSON := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[
		{"timeUnixNano":"5","severityNumber":"SEVERITY_NUMBER_WARN","body":{"stringValue":"warned"},"traceId":"4BF92F3577B34DA6A3CE929D0E0E4736"},
		{"observedTimeUnixNano":6,"severityText":"SEVERE","body":{"kvlistValue":{"values":[{"key":"msg","value":{"stringValue":"x\"y"}},{"key":"list","value":{"arrayValue":{"values":[{"stringValue":"a"},{"intValue":"-7"},{"boolValue":true},{"doubleValue":1.5},{}]}}}]}}},
		{"timeUnixNano":"7","eventName":"cart.emptied","attributes":[{"key":"items","value":{"intValue":3}}],"unknown":[{}]}],"scope":{"name":"scope"}}],
		"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}},{"key":"k8s.namespace.name","value":{"stringValue":"shop"}}]}}]}`
	stream := model.Labels{{Name: "k8s_namespace_name", Value: "shop"}, {Name: "service_name", Value: "cart"}}
	want := []model.LogLine{
		{T: 5, Stream: stream, Text: "warned", Level: "warn", Logger: "scope", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736"},
		{T: 6, Stream: stream, Text: `{"msg":"x\"y","list":["a",-7,true,1.5,null]}`, Level: "SEVERE", Logger: "scope"},
		{T: 7, Stream: stream, Text: `cart.emptied items="3"`, Logger: "scope"},
	}
	for kind, body := range map[string][]byte{typeProtobuf: data, typeJSON: []byte(asJSON)} {
		n, s := setup(t)
		w := send(n.OTLP(), body, "Content-Type", kind)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != kind {
			t.Fatalf("%s: %d %s", kind, w.Code, w.Body)
		}
		got := s.taken()
		for i := range got {
			got[i].TraceID = strings.ToLower(got[i].TraceID)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", kind, got, want)
		}
	}
}

func TestOTLPPartialSuccess(t *testing.T) {
	t.Parallel()
	records := &logspb.LogsData{ResourceLogs: []*logspb.ResourceLogs{{ScopeLogs: []*logspb.ScopeLogs{{LogRecords: []*logspb.LogRecord{
		{TimeUnixNano: uint64(time.Now().Add(48 * time.Hour).UnixNano()), Body: str("ahead")}, {Body: str("now")},
	}}}}}}
	data, err := proto.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	n, s := setup(t)
	w := send(n.OTLP(), data, "Content-Type", typeProtobuf)
	var rejected uint64
	var said string
	err = fields(w.Body.Bytes(), func(f field) error {
		return fields(f.data, func(f field) error {
			if f.number == 1 {
				rejected = f.value
			} else {
				said = string(f.data)
			}
			return nil
		})
	})
	if err != nil || w.Code != 200 || rejected != 1 || !strings.Contains(said, "a day ahead") {
		t.Errorf("%d: %d rejected, %q (%v)", w.Code, rejected, said, err)
	}
	if got := s.taken(); len(got) != 1 || got[0].Text != "now" || got[0].Stream.Value("service_name") != unknownService {
		t.Errorf("taken: %+v", got)
	}
	asJSON := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"9223372036854775807","body":{"stringValue":"x"}}]}]}]}`
	w = send(n.OTLP(), []byte(asJSON), "Content-Type", typeJSON)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"rejectedLogRecords":"1"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Values within values are bounded in depth and in size.
func TestOTLPNesting(t *testing.T) {
	t.Parallel()
	deep := str("x")
	for range 2000 {
		deep = &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: &commonpb.ArrayValue{Values: []*commonpb.AnyValue{deep}}}}
	}
	var many []*commonpb.AnyValue
	for range 100_000 {
		many = append(many, str("yyyyyyyyyy"))
	}
	wide := &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: &commonpb.ArrayValue{Values: many}}}
	data, err := proto.Marshal(&logspb.LogsData{ResourceLogs: []*logspb.ResourceLogs{{ScopeLogs: []*logspb.ScopeLogs{{LogRecords: []*logspb.LogRecord{{Body: deep}, {Body: wide}}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	n, s := setup(t)
	if w := send(n.OTLP(), data, "Content-Type", typeProtobuf); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	got := s.taken()
	if len(got) != 2 || len(got[0].Text) > 100 || len(got[1].Text) != model.MaxLineBytes || !got[1].Cut {
		t.Errorf("%d lines of %d and %d bytes", len(got), len(got[0].Text), len(got[1].Text))
	}
	asJSON := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":` + strings.Repeat(`{"arrayValue":{"values":[`, 20) + `{"stringValue":"x"}` + strings.Repeat(`]}}`, 20) + `}]}]}]}`
	if w := send(n.OTLP(), []byte(asJSON), "Content-Type", typeJSON); w.Code != 200 {
		t.Error(w.Code, w.Body)
	}
}

func FuzzOTLP(f *testing.F) {
	data, _ := proto.Marshal(&logspb.LogsData{ResourceLogs: []*logspb.ResourceLogs{{ScopeLogs: []*logspb.ScopeLogs{{LogRecords: []*logspb.LogRecord{{TimeUnixNano: 5, Body: str("x")}}}}}}})
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) { checkDecode(t, decodeOTLP, data) })
}

func FuzzOTLPJSON(f *testing.F) {
	f.Add([]byte(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5","body":{"kvlistValue":{"values":[{"key":"a","value":{"intValue":1}}]}}}]}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) { checkDecode(t, decodeOTLPJSON, data) })
}
