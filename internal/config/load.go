package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"aiops/internal/model"
)

// maxFileBytes bounds the configuration file and each secret file.
const maxFileBytes = 1 << 20

// Problem is one thing that is wrong with a configuration file.
type Problem struct {
	Line    int // from 1; 0 when the place is not known
	Column  int
	Message string
	Excerpt string // the line at fault with a caret below the column, or ""
}

// Error holds everything that is wrong with a configuration file.
type Error struct {
	File     string
	Problems []Problem
}

// Error returns every problem as file:line:column: message, with the line and
// a caret below.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": " + p.Message)
		if p.Excerpt != "" {
			b.WriteByte('\n')
			b.WriteString(p.Excerpt)
		}
	}
	return b.String()
}

// LookupFunc finds an environment variable, as os.LookupEnv does.
type LookupFunc func(name string) (string, bool)

// ValidateDetectorFunc checks the definition of a detector on a source of a
// type, "" when the type is not known; its faults are a model.Error with pointers
// into the definition. It fills defaults in.
type ValidateDetectorFunc func(d *model.Detector, source model.SourceType) error

// Load reads the file at path ("" is no file), lets AIOPS_* variables override
// it, fills defaults in and validates everything. The error is an *Error when
// the file is at fault.
func Load(path string, env LookupFunc, validate ValidateDetectorFunc) (Config, error) {
	if path == "" {
		return Parse("", nil, env, validate)
	}
	data, err := readBounded(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(path, data, env, validate)
}

// Parse is Load for a file's content that is already read; name is used in
// errors.
func Parse(name string, data []byte, env LookupFunc, validate ValidateDetectorFunc) (Config, error) {
	var c Config
	file, err := decode(name, data, env, &c)
	if err != nil {
		return c, err
	}
	if err := c.override(env); err != nil {
		return c, err
	}
	if err := c.readSecrets(); err != nil {
		return c, err
	}
	c.ApplyDefaults()
	var faults model.Invalid
	c.checks(&faults)
	c.checkSources(&faults)
	c.Telemetry.check(&faults)
	c.checkDetectors(&faults, validate)
	return c, file.faults(faults.Err(""))
}

// decode parses data strictly into to, with the environment's values in place.
func decode(name string, data []byte, env LookupFunc, to any) (*document, error) {
	file := &document{name: name, lines: strings.Split(string(data), "\n")}
	parsed, err := parser.ParseBytes(data, 0)
	if err != nil {
		return file, file.fail(file.problem(err))
	}
	file.ast = parsed
	if len(parsed.Docs) > 1 {
		return file, file.fail(Problem{Message: "the file holds more than one YAML document; keep one"})
	}
	if len(parsed.Docs) == 0 || parsed.Docs[0].Body == nil {
		return file, nil
	}
	expansion := &expander{env: env, file: file}
	ast.Walk(expansion, parsed.Docs[0].Body)
	if len(expansion.problems) > 0 {
		return file, file.fail(expansion.problems...)
	}
	if err := yaml.NodeToValue(parsed.Docs[0].Body, to, yaml.Strict()); err != nil {
		return file, file.fail(file.problem(err))
	}
	return file, nil
}

// override applies the environment variables that stand for settings.
func (c *Config) override(env LookupFunc) error {
	text := func(name string, to *string) {
		if v, ok := env(name); ok && v != "" {
			*to = v
		}
	}
	text("AIOPS_LISTEN", &c.Server.Listen)
	text("AIOPS_DATA_DIR", &c.DataDir)
	text("AIOPS_LOG_LEVEL", &c.Log.Level)
	text("AIOPS_LOG_FORMAT", &c.Log.Format)
	if v, ok := env("AIOPS_DATABASE_URL"); ok && v != "" {
		c.Storage.SQLite.Path, c.Storage.Postgres.URL = "", model.Secret(v)
	}
	if v, ok := env("AIOPS_MASTER_KEY"); ok && v != "" {
		c.Storage.MasterKey = model.Secret(v)
	}
	if v, ok := env("AIOPS_SCRAPE_INTERVAL"); ok && v != "" {
		d, err := model.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("AIOPS_SCRAPE_INTERVAL: %w", err)
		}
		c.Builtin.Interval = d
	}
	return nil
}

// readSecrets replaces secrets of the form file:/path by the file's content
// without its final line end.
func (c *Config) readSecrets() error {
	secrets := []*model.Secret{&c.Storage.MasterKey, &c.Storage.PreviousMasterKey, &c.Storage.Postgres.URL}
	for i := range c.Builtin.Targets {
		secrets = append(secrets, &c.Builtin.Targets[i].Password, &c.Builtin.Targets[i].BearerToken)
	}
	headers := []map[string]model.Secret{c.Telemetry.OTLP.Headers}
	for i := range c.Sources {
		s := &c.Sources[i]
		secrets = append(secrets, &s.Password, &s.BearerToken)
		headers = append(headers, s.Headers)
	}
	for _, h := range headers {
		for name, value := range h {
			if err := readSecret(&value); err != nil {
				return err
			}
			h[name] = value
		}
	}
	for _, s := range secrets {
		if err := readSecret(s); err != nil {
			return err
		}
	}
	return nil
}

func readSecret(s *model.Secret) error {
	path, ok := strings.CutPrefix(s.Reveal(), "file:")
	if !ok {
		return nil
	}
	data, err := readBounded(path)
	if err != nil {
		return fmt.Errorf("reading a secret: %w", err)
	}
	*s = model.Secret(bytes.TrimRight(data, "\r\n"))
	return nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
	}
	return data, err
}

func (c *Config) checkSources(v *model.Invalid) {
	names := map[string]int{}
	for i, s := range c.Sources {
		at := fmt.Sprintf("/sources/%d", i)
		if first, ok := names[s.Name]; ok && s.Name != "" {
			v.Add(at+"/name", "duplicate", "source %q is already defined as number %d", s.Name, first+1)
		}
		names[s.Name] = i
		definition := s.Definition()
		addFaults(v, at, definition.Validate())
	}
}

func (c *Config) checkDetectors(v *model.Invalid, validate ValidateDetectorFunc) {
	sources := map[string]model.SourceType{model.BuiltinSource: model.SourceBuiltin}
	for _, s := range c.Sources {
		sources[s.Name] = s.Type
	}
	names := map[string]int{}
	for i, d := range c.Detectors {
		at := fmt.Sprintf("/detectors/%d", i)
		if first, ok := names[d.Name]; ok && d.Name != "" {
			v.Add(at+"/name", "duplicate", "detector %q is already defined as number %d", d.Name, first+1)
		}
		names[d.Name] = i
		definition, err := d.Definition()
		of, known := sources[definition.Source]
		if err == nil && !known {
			v.Add(at+"/source", "unknown_source", "no source is named %q; define it under sources", definition.Source)
			continue
		}
		if err == nil && validate != nil {
			err = validate(&definition, of)
		}
		addFaults(v, at, err)
	}
}

// addFaults adds the faults of a part of the file at pointer.
func addFaults(v *model.Invalid, at string, err error) {
	if err == nil {
		return
	}
	var e *model.Error
	if !errors.As(err, &e) || len(e.Fields) == 0 {
		v.Add(at, "invalid", "%s", err)
		return
	}
	for _, f := range e.Fields {
		v.Add(at+f.Pointer, f.Code, "%s", f.Detail)
	}
}

// document is a parsed file that can be pointed into.
type document struct {
	name  string
	lines []string
	ast   *ast.File
}

func (d *document) fail(problems ...Problem) error {
	name := d.name
	if name == "" {
		name = "configuration"
	}
	return &Error{File: name, Problems: problems}
}

// faults turns the fields of an error into places in the file; nil stays nil.
func (d *document) faults(err error) error {
	var e *model.Error
	if !errors.As(err, &e) {
		return err
	}
	problems := make([]Problem, 0, len(e.Fields))
	for _, f := range e.Fields {
		problems = append(problems, d.at(f.Pointer, f.Detail))
	}
	return d.fail(problems...)
}

// problem turns an error of the YAML library into a Problem.
func (d *document) problem(err error) Problem {
	var e yaml.Error
	if errors.As(err, &e) && e.GetToken() != nil && e.GetToken().Position != nil {
		p := e.GetToken().Position
		return d.place(p.Line, p.Column, e.GetMessage())
	}
	return Problem{Message: err.Error()}
}

func (d *document) place(line, column int, message string) Problem {
	p := Problem{Line: line, Column: column, Message: message}
	if line >= 1 && line <= len(d.lines) {
		number := strconv.Itoa(line)
		text := strings.ReplaceAll(d.lines[line-1], "\t", " ")
		p.Excerpt = fmt.Sprintf("  %s | %s\n  %s | %s^", number, text, strings.Repeat(" ", len(number)), strings.Repeat(" ", max(column-1, 0)))
	}
	return p
}

// at finds the place of a JSON pointer, or of the nearest parent that the file
// has when the key itself is missing.
func (d *document) at(pointer, message string) Problem {
	for p := pointer; p != ""; p = p[:strings.LastIndexByte(p, '/')] {
		if d.ast == nil || len(d.ast.Docs) == 0 {
			break
		}
		path, err := yaml.PathString(yamlPath(p))
		if err != nil {
			continue
		}
		node, err := path.FilterFile(d.ast)
		if err != nil || node == nil || node.GetToken() == nil {
			continue
		}
		at := node.GetToken().Position
		if m, ok := node.(*ast.MappingNode); ok && len(m.Values) > 0 {
			at = m.Values[0].Key.GetToken().Position
		}
		return d.place(at.Line, at.Column, message)
	}
	return Problem{Message: strings.TrimPrefix(pointer, "/") + ": " + message}
}

// yamlPath turns /detectors/0/step into $.detectors[0].step.
func yamlPath(pointer string) string {
	var b strings.Builder
	b.WriteByte('$')
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if _, err := strconv.Atoi(part); err == nil {
			b.WriteString("[" + part + "]")
		} else {
			b.WriteString("." + part)
		}
	}
	return b.String()
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expander replaces ${NAME} in scalar values. It works on the parsed tree, so
// a value cannot change the structure of the file.
type expander struct {
	env      LookupFunc
	file     *document
	problems []Problem
}

// Visit implements ast.Visitor.
func (e *expander) Visit(node ast.Node) ast.Visitor {
	if m, ok := node.(*ast.MappingValueNode); ok {
		ast.Walk(e, m.Value)
		return nil
	}
	s, ok := node.(*ast.StringNode)
	if !ok {
		return e
	}
	if !variable.MatchString(s.Value) {
		return e
	}
	s.Value = variable.ReplaceAllStringFunc(s.Value, func(match string) string {
		name := match[2 : len(match)-1]
		v, ok := e.env(name)
		if !ok {
			p := s.GetToken().Position
			e.problems = append(e.problems, e.file.place(p.Line, p.Column, fmt.Sprintf("the environment variable %s is not set", name)))
		}
		return v
	})
	// The decoder reads some types from the token's source text, so that has
	// to hold the value as well, quoted so that it stays one scalar.
	s.Token.Type, s.Token.Value, s.Token.Origin = token.DoubleQuoteType, s.Value, strconv.Quote(s.Value)
	return e
}

// LoadDetector reads a file that holds one detector, with the same keys as
// under detectors in the configuration.
func LoadDetector(path string, env LookupFunc, validate ValidateDetectorFunc) (model.Detector, error) {
	data, err := readBounded(path)
	if err != nil {
		return model.Detector{}, fmt.Errorf("reading the detector: %w", err)
	}
	var d Detector
	file, err := decode(path, data, env, &d)
	if err != nil {
		return model.Detector{}, err
	}
	definition, err := d.Definition()
	if err == nil {
		of := model.SourceType("") // of another source only the program that runs knows
		if definition.Source == model.BuiltinSource {
			of = model.SourceBuiltin
		}
		err = validate(&definition, of)
	}
	var faults model.Invalid
	addFaults(&faults, "", err)
	definition.Provisioned = false
	return definition, file.faults(faults.Err(model.SubjectDetector))
}
