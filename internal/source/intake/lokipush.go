package intake

import (
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"aiops/internal/model"
	"aiops/internal/source"
)

// LokiPush serves POST /loki/api/v1/push as Loki does: JSON, plain or gzip, and
// protobuf compressed with snappy. It answers 204 when all lines were taken,
// and 400 when some were refused for good; those are counted and all others
// were taken, as with Loki.
func (n *Intake) LokiPush() http.Handler {
	return n.handler(protocol{
		name: nameLokiPush, snappy: true, full: http.StatusInsufficientStorage,
		decode: func(r *http.Request) (decodeFunc, error) {
			header := r.Header.Get("Content-Type")
			kind, _, err := mime.ParseMediaType(header)
			switch {
			case header == "" || kind == typeProtobuf:
				return decodePush, nil
			case err == nil && kind == typeJSON:
				return decodePushJSON, nil
			}
			return nil, model.Errorf(model.KindInvalid, model.SubjectSource, "the content type is neither %s nor %s", typeJSON, typeProtobuf)
		},
		answer: func(*http.Request) answerFunc {
			return func(w http.ResponseWriter, b *batch) int {
				if said := b.refusal(); said != "" {
					http.Error(w, said, http.StatusBadRequest)
					return http.StatusBadRequest
				}
				w.WriteHeader(http.StatusNoContent)
				return http.StatusNoContent
			}
		},
	})
}

// decodePushJSON reads {"streams": [{"stream": {…}, "values": [["ns", "line", {…}], …]}, …]}.
func decodePushJSON(body io.Reader, b *batch) error {
	in := source.NewScanner(body)
	err := in.Object(func(name []byte) error {
		if string(name) != "streams" {
			return in.Skip()
		}
		return in.Array(func() error { return b.jsonStream(in) })
	})
	if err != nil {
		return err
	}
	return in.Finish()
}

func (b *batch) jsonStream(in *source.Scanner) error {
	begin := len(b.lines)
	labels := map[string]string{}
	err := in.Object(func(name []byte) error {
		switch string(name) {
		case "stream":
			return jsonLabels(in, labels)
		case "values":
			return in.Array(func() error { return b.jsonLine(in) })
		}
		return in.Skip()
	})
	if err != nil {
		return err
	}
	return b.settle(begin, labels)
}

// settle gives the lines from begin on their stream, or drops them with it.
func (b *batch) settle(begin int, labels map[string]string) error {
	ls, why, err := b.stream(labels)
	if err != nil {
		return err
	}
	if why != "" {
		b.drop(reasonLabels, len(b.lines)-begin, why)
		b.lines = b.lines[:begin]
		return nil
	}
	for i := begin; i < len(b.lines); i++ {
		b.lines[i].Stream = ls
	}
	return nil
}

// jsonLabels reads an object of strings, of which no more are kept than break
// a bound.
func jsonLabels(in *source.Scanner, into map[string]string) error {
	return in.Object(func(name []byte) error {
		key := string(name[:min(len(name), maxLabelName+1)])
		value, _, err := in.TextUpTo(maxLabelValue + 1)
		if err == nil && len(into) <= mostLabels {
			into[key] = string(value)
		}
		return err
	})
}

// jsonLine reads [time, line] or [time, line, metadata].
func (b *batch) jsonLine(in *source.Scanner) error {
	var l model.LogLine
	part := 0
	err := in.Array(func() error {
		part++
		switch part {
		case 1:
			text, err := in.Text()
			if err != nil {
				return err
			}
			if l.T, err = strconv.ParseInt(string(text), 10, 64); err != nil {
				return source.SyntaxError("a time that is no number of nanoseconds")
			}
			return nil
		case 2:
			text, cut, err := in.TextUpTo(model.MaxLineBytes)
			l.Text, l.Cut = string(text), cut
			return err
		case 3:
			return in.Object(func(name []byte) error {
				key := string(name[:min(len(name), maxMeta)])
				if c, err := in.Peek(); err != nil || c != '"' {
					return in.Skip()
				}
				value, _, err := in.TextUpTo(maxMeta)
				if err == nil {
					meta(&l, key, string(value))
				}
				return err
			})
		}
		return in.Skip()
	})
	if err != nil {
		return err
	}
	if part < 2 {
		return source.SyntaxError("a value without a time and a line")
	}
	return b.add(l)
}

// decodePush reads a PushRequest: streams = 1, each with labels = 1 and entries
// = 2, each of which has timestamp = 1 {seconds = 1, nanos = 2}, line = 2 and
// structured metadata = 3 {name = 1, value = 2}.
func decodePush(body io.Reader, b *batch) error {
	data, err := readAll(body)
	if err != nil {
		return err
	}
	return fields(data, func(f field) error {
		if f.number != 1 {
			return nil
		}
		return b.pushStream(f)
	})
}

func (b *batch) pushStream(stream field) error {
	data, err := stream.message()
	if err != nil {
		return err
	}
	begin := len(b.lines)
	text := ""
	err = fields(data, func(f field) (err error) {
		switch f.number {
		case 1:
			text, err = f.text()
		case 2:
			err = b.pushEntry(f)
		}
		return err
	})
	if err != nil {
		return err
	}
	labels, why := labelsOf(text)
	if why != "" {
		b.drop(reasonLabels, len(b.lines)-begin, why)
		b.lines = b.lines[:begin]
		return nil
	}
	return b.settle(begin, labels)
}

// labelsOf reads labels as Loki writes them, {app="a", env="b"}.
func labelsOf(text string) (map[string]string, string) {
	if len(text) > mostLabels*(maxLabelName+4*maxLabelValue) {
		return nil, "the labels of a stream are too long"
	}
	matchers, err := model.ParseSelector(text)
	if err != nil {
		return nil, "the labels of a stream cannot be read: " + message(err)
	}
	labels := make(map[string]string, len(matchers))
	for _, m := range matchers {
		if m.Op != model.MatchEqual {
			return nil, "the labels of a stream hold another sign than ="
		}
		labels[m.Name] = m.Value
	}
	return labels, ""
}

func (b *batch) pushEntry(entry field) error {
	data, err := entry.message()
	if err != nil {
		return err
	}
	var l model.LogLine
	var seconds, nanos int64
	err = fields(data, func(f field) error {
		switch f.number {
		case 1:
			at, err := f.message()
			if err != nil {
				return err
			}
			return fields(at, func(f field) (err error) {
				switch f.number {
				case 1:
					seconds, err = f.integer()
				case 2:
					nanos, err = f.integer()
				}
				return err
			})
		case 2:
			line, err := f.message()
			l.Text, l.Cut = cutText(line)
			return err
		case 3:
			return f.pair(&l)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if seconds > math.MaxInt64/int64(time.Second) || seconds < 0 || nanos < 0 || nanos >= int64(time.Second) {
		b.drop(reasonTime, 1, "the time of a line is before 1970 or more than a day ahead")
		return nil
	}
	l.T = seconds*int64(time.Second) + nanos
	return b.add(l)
}

// cutText copies as much of a line as is kept.
func cutText(line []byte) (string, bool) {
	if len(line) <= model.MaxLineBytes {
		return string(line), false
	}
	return string(line[:model.MaxLineBytes]), true
}

// pair reads a name and a value that stand beside a line.
func (f field) pair(l *model.LogLine) error {
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
			value, err = f.text()
		}
		return err
	})
	if err == nil {
		meta(l, strings.ToValidUTF8(name, "\ufffd"), value)
	}
	return err
}
