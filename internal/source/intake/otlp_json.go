package intake

import (
	"io"
	"strconv"
	"strings"

	"aiops/internal/model"
	"aiops/internal/source"
)

// decodeOTLPJSON reads the same as JSON, where trace ids are hexadecimal and
// numbers of 64 bits are texts. Names are as in the protocol, in camel case.
func decodeOTLPJSON(body io.Reader, b *batch) error {
	in := source.NewScanner(body)
	err := in.Object(func(name []byte) error {
		if string(name) != "resourceLogs" {
			return in.Skip()
		}
		return array(in, func() error { return b.jsonResource(in) })
	})
	if err != nil {
		return err
	}
	return in.Finish()
}

// array reads an array, or null.
func array(in *source.Scanner, element func() error) error {
	if null, err := in.IsNull(); null || err != nil {
		return err
	}
	return in.Array(element)
}

func (b *batch) jsonResource(in *source.Scanner) error {
	begin := len(b.lines)
	from := newResource()
	err := in.Object(func(name []byte) error {
		switch string(name) {
		case "resource":
			return in.Object(func(name []byte) error {
				if string(name) != "attributes" {
					return in.Skip()
				}
				return jsonAttributes(in, from.attribute)
			})
		case "scopeLogs":
			return array(in, func() error { return b.jsonScope(in) })
		}
		return in.Skip()
	})
	if err != nil {
		return err
	}
	return b.settle(begin, from.labels)
}

func (b *batch) jsonScope(in *source.Scanner) error {
	begin := len(b.lines)
	logger := ""
	err := in.Object(func(name []byte) error {
		switch string(name) {
		case "scope":
			return in.Object(func(name []byte) error {
				if string(name) != "name" {
					return in.Skip()
				}
				text, _, err := in.TextUpTo(maxMeta)
				logger = string(text)
				return err
			})
		case "logRecords":
			return array(in, func() error { return b.jsonRecord(in) })
		}
		return in.Skip()
	})
	for i := begin; i < len(b.lines) && logger != ""; i++ {
		if b.lines[i].Logger == "" {
			b.lines[i].Logger = logger
		}
	}
	return err
}

func (b *batch) jsonRecord(in *source.Scanner) error {
	var r record
	err := in.Object(func(name []byte) (err error) {
		var text []byte
		switch string(name) {
		case "timeUnixNano":
			r.time, err = jsonInt(in)
		case "observedTimeUnixNano":
			r.observed, err = jsonInt(in)
		case "severityNumber":
			r.severity, err = jsonSeverity(in)
		case "severityText":
			text, _, err = in.TextUpTo(maxMeta)
			r.severityText = string(text)
		case "eventName":
			text, _, err = in.TextUpTo(maxMeta)
			r.event = string(text)
		case "traceId":
			text, _, err = in.TextUpTo(maxMeta)
			r.trace = string(text)
		case "body":
			r.body, r.cut, err = jsonAny(in)
		case "attributes":
			err = jsonAttributes(in, r.attribute)
		default:
			err = in.Skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	return b.add(r.line(""))
}

// jsonInt reads a number, or a text that is one.
func jsonInt(in *source.Scanner) (int64, error) {
	c, err := in.Peek()
	if err != nil {
		return 0, err
	}
	var text []byte
	if c == '"' {
		text, _, err = in.TextUpTo(32)
	} else {
		text, err = in.Number()
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, source.SyntaxError("a number of 64 bits that is none")
	}
	return n, nil
}

// jsonSeverity reads a number, or the name of one, such as SEVERITY_NUMBER_WARN2.
func jsonSeverity(in *source.Scanner) (int64, error) {
	if c, err := in.Peek(); err != nil || c != '"' {
		return jsonInt(in)
	}
	text, _, err := in.TextUpTo(32)
	name := strings.TrimRight(strings.TrimPrefix(string(text), "SEVERITY_NUMBER_"), "234")
	return map[string]int64{"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}[name], err
}

func jsonAttributes(in *source.Scanner, take func(name, value string)) error {
	return array(in, func() error {
		var key, value string
		err := in.Object(func(name []byte) error {
			switch string(name) {
			case "key":
				text, _, err := in.TextUpTo(maxLabelName)
				key = string(text)
				return err
			case "value":
				var err error
				value, _, err = jsonAny(in)
				return err
			}
			return in.Skip()
		})
		if err == nil {
			take(key, value)
		}
		return err
	})
}

// jsonAny reads an AnyValue as a text: {"stringValue": …} as it is, everything
// else as JSON writes it.
func jsonAny(in *source.Scanner) (string, bool, error) {
	if null, err := in.IsNull(); null || err != nil {
		return "", false, err
	}
	var out []byte
	plain, cut := "", false
	err := in.Object(func(name []byte) (err error) {
		if string(name) == "stringValue" {
			var text []byte
			text, cut, err = in.TextUpTo(model.MaxLineBytes)
			plain = string(text)
			return err
		}
		out, err = appendJSON(out, in, string(name), 0)
		return err
	})
	if plain == "" && len(out) > 0 {
		plain, cut = cutText(out)
	}
	return plain, cut, err
}

// appendJSON appends the member of an AnyValue that is called name.
func appendJSON(out []byte, in *source.Scanner, name string, depth int) ([]byte, error) {
	if depth > maxValueDepth || len(out) > model.MaxLineBytes {
		return out, in.Skip()
	}
	nested := func(out []byte) ([]byte, error) {
		begin := len(out)
		err := in.Object(func(name []byte) (err error) {
			out, err = appendJSON(out, in, string(name), depth+1)
			return err
		})
		if len(out) == begin {
			out = append(out, "null"...)
		}
		return out, err
	}
	switch name {
	case "stringValue", "bytesValue":
		text, _, err := in.TextUpTo(model.MaxLineBytes)
		return appendQuoted(out, text), err
	case "boolValue":
		v, err := in.Boolean()
		return strconv.AppendBool(out, v), err
	case "intValue":
		n, err := jsonInt(in)
		return strconv.AppendInt(out, n, 10), err
	case "doubleValue":
		if c, err := in.Peek(); err != nil || c == '"' { // NaN, Infinity
			text, _, err := in.TextUpTo(32)
			return appendQuoted(out, text), err
		}
		text, err := in.Number()
		return append(out, text...), err
	case "arrayValue":
		return appendValues(out, in, '[', ']', nested)
	case "kvlistValue":
		return appendValues(out, in, '{', '}', func(out []byte) ([]byte, error) {
			begin := len(out)
			err := in.Object(func(name []byte) (err error) {
				switch string(name) {
				case "key":
					var key []byte
					if key, _, err = in.TextUpTo(maxLabelName); err == nil {
						out = append(appendQuoted(out, key), ':')
					}
				case "value":
					out, err = nested(out)
				default:
					err = in.Skip()
				}
				return err
			})
			if len(out) > begin && out[len(out)-1] == ':' {
				out = append(out, "null"...)
			}
			return out, err
		})
	}
	return out, in.Skip()
}

// appendValues appends {"values": […]} with the signs around.
func appendValues(out []byte, in *source.Scanner, open, closing byte, element func([]byte) ([]byte, error)) ([]byte, error) {
	out = append(out, open)
	first := true
	err := in.Object(func(name []byte) error {
		if string(name) != "values" {
			return in.Skip()
		}
		return array(in, func() (err error) {
			if len(out) > model.MaxLineBytes {
				return in.Skip()
			}
			if !first {
				out = append(out, ',')
			}
			first = false
			out, err = element(out)
			return err
		})
	})
	return append(out, closing), err
}
