package api

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the generated files instead of comparing them")

// TestGeneratedFiles compares the files that are made from this package's
// tables with what the tables say now. After a change run
// go test ./internal/api -run TestGeneratedFiles -rewrite.
func TestGeneratedFiles(t *testing.T) {
	t.Parallel()
	document, err := Document()
	if err != nil {
		t.Fatalf("Document: %v", err)
	}
	again, err := Document()
	if err != nil || !bytes.Equal(document, again) {
		t.Fatalf("two documents of the same program differ (err %v)", err)
	}
	for _, f := range []struct {
		path string
		want []byte
	}{
		{filepath.Join("..", "..", "web", "openapi.json"), document},
		{filepath.Join("..", "..", "docs", "errors.md"), errorsPage()},
	} {
		if *rewrite {
			if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f.path, f.want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(f.path)
		if err != nil {
			t.Errorf("reading %s: %v", f.path, err)
			continue
		}
		if !bytes.Equal(got, f.want) {
			t.Errorf("%s is out of date: run go test ./internal/api -run TestGeneratedFiles -rewrite", f.path)
		}
	}
}

// errorsPage renders the table of errors for people.
func errorsPage() []byte {
	var b bytes.Buffer
	b.WriteString("# Error codes\n\n" +
		"Generated from the table in `internal/api/errors.go`; the running program serves the same table at `/api/v1/errors`.\n\n" +
		"Every answer that is not a success is a problem document (RFC 9457, `application/problem+json`) with `type`, `title`, `status`,\n" +
		"`detail`, `instance`, `code`, `retryable`, `retry_after_ms`, `request_id`, `context` and `errors[]{pointer, in, code, detail}`.\n" +
		"`retryable: true` means: the same request can succeed later; wait for `Retry-After` seconds first. A 5xx tells no internals:\n" +
		"its `request_id` finds the cause in the log.\n\n" +
		"| code | status | retryable |\n|---|---|---|\n")
	for _, row := range Errors() {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |\n", row.Code, strings.ToLower(string(row.Code)), statuses(row), yesNo(row.Retryable))
	}
	for _, row := range Errors() {
		fmt.Fprintf(&b, "\n## %s\n\n%s (%s%s).\n\n%s\n\nWhat to do: %s\n", row.Code, row.Title, statuses(row), map[bool]string{true: ", retryable"}[row.Retryable], row.Meaning, row.Action)
	}
	return b.Bytes()
}

func statuses(row ErrorCode) string {
	if row.AltStatus != 0 {
		return fmt.Sprintf("%d or %d", row.Status, row.AltStatus)
	}
	return fmt.Sprint(row.Status)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
