// Package admission decides which requests are served when there are more than
// the program can serve, and says how hard pressed the program is.
//
// It owns the order of the classes of traffic, the limit of requests in flight
// and how it adapts, the rates of single clients, the client's address behind
// trusted proxies, and the load state. It knows no route, no identity and no
// answer's form: the caller names each request's class and writes refusals.
//
// Invariants: probes are never refused. What people do in trouble (pause,
// acknowledge) waits for no other class. A refusal comes within tens of
// milliseconds. Long streams take no place among the requests in flight. Memory
// is bounded whatever number of clients there is.
package admission
