package intake

import (
	"fmt"
	"path/filepath"
	"regexp"

	"aiops/internal/model"
)

// File is a set of files that are followed as they grow.
type File struct {
	Path      string            `yaml:"path"`      // absolute, may hold * ? and [ ]
	Labels    map[string]string `yaml:"labels"`    // of the stream; "filename" is added
	Multiline Multiline         `yaml:"multiline"` // how lines that belong together are found
}

// Multiline says how several lines of a file make one line of the log.
type Multiline struct {
	Start string `yaml:"start"` // pattern (RE2) of a first line; "": every line stands for itself
}

// Config is what is taken in.
type Config struct {
	Dir   string // where positions in files are kept; required with Files
	Files []File
	Stamp StampFunc // of the lines of files; nil: a line has the time at which it was read
}

const (
	mostFiles      = 100 // patterns
	mostFileLabels = 16
)

// Validate reports everything that is wrong with c, at pointers below /files.
// It opens no file.
func (c Config) Validate() error {
	var v model.Invalid
	if len(c.Files) > mostFiles {
		v.Add("/files", "too_many", "%d patterns of files are given; at most %d are allowed", len(c.Files), mostFiles)
	}
	for i, f := range c.Files {
		at := fmt.Sprintf("/files/%d", i)
		if !filepath.IsAbs(f.Path) {
			v.Add(at+"/path", "path", "the path %q does not start with /", f.Path)
		} else if _, err := filepath.Match(f.Path, "/"); err != nil {
			v.Add(at+"/path", "pattern", "the path %q is not a valid pattern", f.Path)
		}
		if len(f.Labels) > mostFileLabels {
			v.Add(at+"/labels", "too_many", "%d labels are given; at most %d are allowed", len(f.Labels), mostFileLabels)
		}
		for name, value := range f.Labels {
			if why := badLabel(name, value); why != "" {
				v.Add(at+"/labels/"+name, "label", "%s", why)
			}
		}
		if p := f.Multiline.Start; len(p) > model.MaxPatternBytes {
			v.Add(at+"/multiline/start", "too_long", "the pattern has %d bytes; at most %d are allowed", len(p), model.MaxPatternBytes)
		} else if _, err := regexp.Compile(p); err != nil {
			v.Add(at+"/multiline/start", "pattern", "the pattern is no regular expression (RE2): %s", err)
		}
	}
	return v.Err(model.SubjectSource)
}
