// Package web holds the built page. It owns nothing else: the files are made
// from src by the web build, and package api serves them.
package web

import (
	"embed"
	"io/fs"
)

// The pattern matches this file as well, so that the program builds before the
// page does.
//
//go:embed all:dist*
var dist embed.FS

// Dist returns the built files with index.html at the root, or nil when the
// page was not built before the program was.
func Dist() fs.FS {
	built, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil
	}
	if _, err := fs.Stat(built, "index.html"); err != nil {
		return nil
	}
	return built
}
