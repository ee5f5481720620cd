package loki

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"aiops/internal/model"
	"aiops/internal/source"
	"aiops/internal/source/outward"
)

// formatTimeout bounds the check of a query by the source.
const formatTimeout = 5 * time.Second

// Quote writes a text as LogQL reads it back, in double quotes and ASCII: no
// text can end the quotes, whatever it holds.
func Quote(text string) string { return strconv.QuoteToASCII(text) }

// checkText reports what is wrong with a query without asking anybody.
func checkText(query string) error {
	switch {
	case strings.TrimSpace(query) == "":
		return queryError("the query is empty; write LogQL, for example {app=\"checkout\"}", "")
	case len(query) > source.MaxQueryBytes:
		return queryError(fmt.Sprintf("the query has %d bytes; at most %d are allowed", len(query), source.MaxQueryBytes), "")
	case !utf8.ValidString(query):
		return queryError("the query is not valid UTF-8", "")
	}
	return nil
}

// lokiPlace is how Loki tells where a query is wrong. Lines and columns count
// from 1, columns in characters.
var lokiPlace = regexp.MustCompile(`(?:parse error )?at line (\d+), col (\d+):? ?`)

// queryError makes the error for a query that is at fault. Said names the place
// where Loki knows it.
func queryError(said, query string) *model.Error {
	e := &model.Error{Kind: model.KindQuery, Subject: model.SubjectLoki, Message: said}
	if m := lokiPlace.FindStringSubmatchIndex(said); m != nil && query != "" {
		line, err1 := strconv.Atoi(said[m[2]:m[3]])
		column, err2 := strconv.Atoi(said[m[4]:m[5]])
		if err1 == nil && err2 == nil {
			line, column, caret := source.Locate(query, offsetOf(query, line, column))
			e.Message = fmt.Sprintf("line %d, column %d: %s", line, column, strings.TrimSpace(said[:m[0]]+said[m[1]:]))
			e.Context = map[string]any{"line": line, "column": column, "caret": caret}
		}
	}
	e.Fields = []model.FieldError{{Pointer: "/query", Code: "logql", Detail: e.Message}}
	return e
}

// offsetOf is the byte at a line and column of text, or its nearest end.
func offsetOf(text string, line, column int) int {
	at := 0
	for ; line > 1; line-- {
		i := strings.IndexByte(text[at:], '\n')
		if i < 0 {
			return len(text)
		}
		at += i + 1
	}
	for ; column > 1 && at < len(text) && text[at] != '\n'; column-- {
		_, n := utf8.DecodeRuneInString(text[at:])
		at += n
	}
	return at
}

// checked remembers queries that the source found well formed, so that it is
// not asked for each again.
type checked struct {
	mu   sync.Mutex
	good map[string]bool
}

const mostChecked = 1000

func (c *checked) has(query string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.good[query]
}

func (c *checked) add(query string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.good) >= mostChecked || c.good == nil {
		c.good = map[string]bool{}
	}
	c.good[query] = true
}

// ParseQuery reports whether query is LogQL, by asking the source itself to
// format it. The error is of KindQuery, with the line, column and caret in its
// Context where Loki names the place. A source that does not answer within 5 s,
// or has no such operation, has no objection: the query is checked again when it
// runs.
func (c *Client) ParseQuery(query string) error {
	if err := checkText(query); err != nil {
		return err
	}
	if c.checked.has(query) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), formatTimeout)
	defer cancel()
	err := c.way.Do(ctx, outward.Request{Path: "/loki/api/v1/format_query", Query: url.Values{"query": {query}}, Safe: true}, func(resp *http.Response) error {
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
			return nil
		}
		if resp.StatusCode != http.StatusOK {
			return c.refusal(resp, query)
		}
		if what := outward.WrongContent(resp.Header); what != "" {
			return c.wrongContent(what)
		}
		var ans struct {
			Status string `json:"status"`
			Error  string `json:"error"`
		}
		if err := json.NewDecoder(io.LimitReader(resp.Body, errorBytes)).Decode(&ans); err != nil {
			return c.way.Unavailable(err, false, "the source's answer is not that of Loki; check the URL")
		}
		if ans.Status != "success" {
			return c.wrongQuery(ans.Error, query)
		}
		c.checked.add(query)
		return nil
	})
	if kind := model.KindOf(err); err != nil && kind != model.KindQuery {
		c.log.Debug("a query could not be checked by the source", "err", err)
		return nil
	}
	return err
}
