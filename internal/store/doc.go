// Package store is the SQL truth: detectors, sources, anomalies with their
// evidence, model snapshots and versions, tasks, idempotency records and the
// numbered events that tell of every change. It runs on SQLite (one process)
// and on PostgreSQL (several), with the same behaviour; package storetest
// proves that on both.
//
// Invariants:
//
//   - What a method acknowledged survives kill -9 and a power cut. Writers queue
//     their functions; one goroutine runs many of them in one transaction and
//     acknowledges all of them after one commit (group commit).
//   - State and the event that tells of it are written in one transaction. Event
//     numbers start at 1, have no gaps and grow in the order of commit.
//   - After an I/O error, a failed fsync or damage to the file nothing more is
//     acknowledged: the store is failed, Failed is closed, and the program has to
//     exit and recover at the next start. A full disk is not such a failure: it is
//     refused with KindStorageFull and ends by itself.
//   - Secrets are encrypted before they reach the database.
//
// It refuses to decide: it knows no HTTP, judges no anomaly and schedules no
// detector. SQL drivers, the query layer and the job runner stay in here.
package store
