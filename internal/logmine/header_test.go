package logmine

import (
	"strings"
	"testing"
	"time"

	"aiops/internal/model"
)

func TestParseHeader(t *testing.T) {
	t.Parallel()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	at := time.Date(2026, 11, 27, 12, 30, 45, 0, time.UTC)
	for _, tc := range []struct {
		text string
		want Header
	}{
		{"order 7 placed", Header{Message: "order 7 placed"}},
		{"", Header{}},
		{"  ", Header{Message: "  "}},
		{"{", Header{Message: "{"}},
		// JSON
		{`{"level":"warn","ts":1795782645.5,"logger":"pay","msg":"card \"x\" refused","trace_id":"` + trace + `","n":{"a":[1,"]"]}}`,
			Header{Message: `card "x" refused`, Level: "warn", Logger: "pay", TraceID: trace, Time: at.UnixNano() + 5e8}},
		{`{"@timestamp":"2026-11-27T12:30:45Z","log.level":"ERROR","message":"disk full","log.logger":"a.b"}`,
			Header{Message: "disk full", Level: "error", Logger: "a.b", Time: at.UnixNano()}},
		{`{"timestamp":"2026-11-27T13:30:45.250+01:00","level":"INFO","fields":{"message":"started","port":80},"target":"srv::http"}`,
			Header{Message: "started", Level: "info", Logger: "srv::http", Time: at.UnixNano() + 25e7}},
		{`{"log":"2026-11-27 12:00:00 ERROR boom\n","stream":"stderr","time":"2026-11-27T12:30:45Z"}`,
			Header{Message: "boom", Level: "error", Time: at.UnixNano()}},
		{`{"level":30,"name":"web","msg":"\u00fc\ud834\udd1e\ud834 ok"}`, Header{Message: "ü𝄞\ufffd ok", Level: "info", Logger: "web"}},
		{`{"a":1,"b":"c"}`, Header{Message: `{"a":1,"b":"c"}`}},
		{`{"level":"error","a":1}`, Header{Message: `{"level":"error","a":1}`, Level: "error"}},
		{`{"msg":"cut of`, Header{Message: `{"msg":"cut of`}},
		{`{"msg":"a"} and more`, Header{Message: `{"msg":"a"} and more`}},
		{`{"msg":"a\\"}`, Header{Message: `a\`}},
		// logfmt
		{`ts=2026-11-27T12:30:45Z level=info caller=main.go:7 msg="listening now" addr=:80`, Header{Message: "listening now", Level: "info", Time: at.UnixNano()}},
		{`level=error msg=cannot open file err="no such file" logger=db`, Header{Message: "cannot open file", Level: "error", Logger: "db"}},
		{`user=7 took=3ms`, Header{Message: "user=7 took=3ms"}},
		{`level=debug user=7`, Header{Message: "level=debug user=7", Level: "debug"}},
		{`rate = 5`, Header{Message: "rate = 5"}},
		// syslog
		{`<34>1 2026-11-27T12:30:45Z host su 77 ID47 - 'su root' failed`, Header{Message: "'su root' failed", Level: "fatal", Logger: "su", Time: at.UnixNano()}},
		{`<165>1 2026-11-27T12:30:45Z host app - ID47 [x@1 a="]\"" b="c"][y@2] started`, Header{Message: "started", Level: "info", Logger: "app", Time: at.UnixNano()}},
		{`<11>Nov 27 12:30:45 host cron[77]: job failed`, Header{Message: "job failed", Level: "error", Logger: "cron"}},
		{`<14>app[3]: hello`, Header{Message: "hello", Level: "info", Logger: "app"}},
		{`<14>plain`, Header{Message: "plain", Level: "info"}},
		{`<999>x`, Header{Message: "<999>x"}},
		{`Nov  7 12:30:45 host sshd(pam)[19939]: session opened`, Header{Message: "session opened", Logger: "sshd(pam)"}},
		{`2026-11-27T12:30:45Z host nginx[7]: ready`, Header{Message: "ready", Logger: "nginx", Time: at.UnixNano()}},
		// plain headers
		{`2026-11-27 12:30:45,123 INFO [main] org.shop.Cart: item added`, Header{Message: "item added", Level: "info", Logger: "org.shop.Cart"}},
		{`12:30:45.123 [main] WARN  c.s.Cart - item gone`, Header{Message: "item gone", Level: "warn", Logger: "c.s.Cart"}},
		{`2026-11-27T12:30:45.000+00:00  INFO 1 --- [main] c.e.App : Started`, Header{Message: "Started", Level: "info", Logger: "c.e.App", Time: at.UnixNano()}},
		{`2026-11-27 12:30:45,123 - shop.cart - ERROR - no stock`, Header{Message: "no stock", Level: "error", Logger: "shop.cart"}},
		{`ERROR:root:no stock`, Header{Message: "no stock", Level: "error", Logger: "root"}},
		{`[2026-11-27T12:30:45Z INFO shop::cart] ready`, Header{Message: "ready", Level: "info", Logger: "shop::cart", Time: at.UnixNano()}},
		{`[Fri Nov 27 12:30:45.123 2026] [core:error] [pid 7:tid 9] no file`, Header{Message: "no file", Level: "error", Logger: "core"}},
		{`2026/11/27 12:30:45 [error] 12#34: *7 upstream timed out`, Header{Message: "*7 upstream timed out", Level: "error"}},
		{`2026/11/27 12:30:45 main.go:12: hello there`, Header{Message: "hello there", Logger: "main.go:12"}},
		{`2026/11/27 12:30:45 5 items sold`, Header{Message: "5 items sold"}},
		{`2026/11/27 12:30:45 error opening file`, Header{Message: "error opening file"}},
		{`2026-11-27 12:30:45.123 UTC [123] LOG:  checkpoint starting`, Header{Message: "checkpoint starting", Level: "info", Time: at.UnixNano() + 123e6}},
		{"2026-11-27T12:30:45.000Z\tINFO\tcart/item.go:12\tsold", Header{Message: "sold", Level: "info", Time: at.UnixNano(), Logger: "cart/item.go"}},
		{`I1127 12:30:45.000001  77 cart.go:12] sold`, Header{Message: "sold", Level: "info", Logger: "cart.go"}},
		{`I, [2026-11-27T12:30:45.1 #77]  INFO -- : sold`, Header{Message: "sold", Level: "info"}},
		{`11-27 12:30:45.123  1702  2395 D WindowManager: shown`, Header{Message: "shown", Level: "debug", Logger: "WindowManager"}},
		{`261127 123045 148 INFO dfs.Node$Part: sent`, Header{Message: "sent", Level: "info", Logger: "dfs.Node$Part"}},
		{`[2026-11-27 12:30:45] shop.WARNING: low stock`, Header{Message: "low stock", Level: "warn", Logger: "shop"}},
		{`2026-11-27T12:30:45Z stdout F {"level":"info","msg":"inside"}`, Header{Message: "inside", Level: "info", Time: at.UnixNano()}},
		{"\x1b[32mINFO\x1b[0m ready", Header{Message: "ready", Level: "info"}},
		{`[main] INFO ready`, Header{Message: "ready", Level: "info"}},
		{`[main] ready`, Header{Message: "[main] ready"}},
		{`2026-11-27 12:30:45 INFO [` + trace + `] paid`, Header{Message: "paid", Level: "info", TraceID: trace}},
		{`Error opening file`, Header{Message: "Error opening file"}},
		{`error: no such file`, Header{Message: "error: no such file", Level: "error"}},
		{`WARN low stock`, Header{Message: "low stock", Level: "warn"}},
		{`127.0.0.1 - - [27/Nov/2026:12:30:45 +0000] "GET / HTTP/1.1" 200 7`, Header{Message: `127.0.0.1 - - [27/Nov/2026:12:30:45 +0000] "GET / HTTP/1.1" 200 7`}},
		{"2026-11-27 12:30:45", Header{Message: "2026-11-27 12:30:45"}},
		{"\x00\xff\u202e<b>", Header{Message: "\x00\xff\u202e<b>"}},
	} {
		if got := ParseHeader(tc.text); got != tc.want {
			t.Errorf("ParseHeader(%q)\n got %+v\nwant %+v", tc.text, got, tc.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	line := model.LogLine{Text: "WARN low", Level: "SEVERE", Stream: model.Labels{{Name: "level", Value: "debug"}}}
	Describe(&line)
	if line.Message != "low" || line.Level != model.LevelError {
		t.Errorf("the sender's level is kept: %+v", line)
	}
	line = model.LogLine{Text: "low", Level: "loud", Stream: model.Labels{{Name: "level", Value: "debug"}}}
	if Describe(&line); line.Level != model.LevelDebug {
		t.Errorf("the stream's level counts when nothing else says one: %+v", line)
	}
}

func FuzzParseHeader(f *testing.F) {
	for _, s := range headerSamples {
		f.Add(s)
	}
	f.Add(`<34>1 2026-11-27T12:30:45Z h a - - [x a="\]`)
	f.Add(`{"log":"{\"log\":\"{\\\"log\\\":\\\"x\\\"}\"}"}`)
	f.Add("I, [\x1b[0m")
	f.Fuzz(func(t *testing.T, text string) {
		h := ParseHeader(text)
		if (h.Message == "") != (text == "") {
			t.Fatalf("the message of %q is %q", text, h.Message)
		}
		if len(h.Message) > len(text) {
			t.Fatalf("the message of %q is longer: %q", text, h.Message)
		}
		if len(h.Logger) > longestLogger || len(h.TraceID) > longestTrace {
			t.Fatalf("%q has a logger or trace id beyond the bounds: %+v", text, h)
		}
		if h.Level != "" && ParseLevel(h.Level) != h.Level {
			t.Fatalf("%q has the level %q", text, h.Level)
		}
	})
}

var headerSamples = []string{
	`{"level":"info","ts":"2026-11-27T12:30:45.123Z","logger":"checkout.payment","caller":"pay/card.go:120","msg":"card charged","amount":1299,"currency":"EUR","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}`,
	`ts=2026-11-27T12:30:45.123Z level=info caller=card.go:120 msg="card charged" amount=1299 currency=EUR trace_id=4bf92f3577b34da6a3ce929d0e0e4736`,
	`2026-11-27 12:30:45,123 INFO [main] org.shop.checkout.Payment: card charged, amount 1299 EUR for order 71123`,
	`<14>1 2026-11-27T12:30:45.123Z host-7 checkout 812 ID47 - card charged, amount 1299 EUR for order 71123`,
	`Nov 27 12:30:45 host-7 checkout[812]: card charged, amount 1299 EUR for order 71123`,
	`card charged, amount 1299 EUR for order 71123`,
}

// The mean over the forms is the figure: 1,000,000 lines a second are 1 µs.
func BenchmarkParseHeader(b *testing.B) {
	for _, s := range headerSamples {
		b.Run(strings.ReplaceAll(s[:12], " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if h := ParseHeader(s); h.Message == "" {
					b.Fatal("no message")
				}
			}
		})
	}
}
