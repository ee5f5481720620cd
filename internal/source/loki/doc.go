// Package loki asks Grafana Loki for log lines and for numbers made of them,
// over its HTTP API, and follows queries live.
//
// It owns what is Loki's: the form of answers, pages of lines, the tail over a
// WebSocket and the joining of both without gap or repetition. How a source is
// reached, and what happens when it is not, is outward's. Queries are written
// by people and checked by Loki itself; what is added to them goes in quoted.
package loki
