// Package client is the program's HTTP API for Go programs.
//
// rest_gen.go is written by `make generate` from the document that the server
// serves; every operation is a method of ClientWithResponses. It imports nothing
// of this module, so that it can be used anywhere.
package client
