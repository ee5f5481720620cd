// Package client is the program's HTTP API and its live stream for Go programs.
//
// Follow hands on what happens, each event once and in order, across lost
// connections. The protocol is described in docs/live.md.
//
// rest_gen.go is written by `make generate` from the document that the server
// serves; every operation is a method of ClientWithResponses. It imports nothing
// of this module, so that it can be used anywhere.
package client
