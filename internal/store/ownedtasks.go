package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Tasks of an owned kind have no job. A job is offered to every node, and one
// that must not run it can take it again and again before the node that has to.
// So each node looks itself for those of the detectors that it owns.

// ownedTake is how many tasks are begun at most by one look.
const ownedTake = 20

// runOwned runs tasks of the owned kinds until ctx ends. Then it takes no more,
// gives running ones taskDrain to finish, cancels the rest and returns when all
// have returned.
func (j *Jobs) runOwned(ctx context.Context) {
	if len(j.owned) == 0 {
		return
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var begun sync.WaitGroup
	for failing := false; pause(ctx, taskFetch); {
		err := j.takeOwned(ctx, work, &begun)
		if err != nil && ctx.Err() == nil && !failing {
			j.log.Warn("looking for the tasks of this node's detectors did not succeed; it is repeated", "err", err)
		}
		failing = err != nil
	}
	late := time.AfterFunc(taskDrain, cancel)
	defer late.Stop()
	begun.Wait()
}

// takeOwned begins the queued tasks of detectors that no other node owns, as far
// as there is room for their kind. One that was put back goes behind the others.
func (j *Jobs) takeOwned(ctx, work context.Context, begun *sync.WaitGroup) error {
	args := []any{j.s.instance}
	var kinds []string
	for kind, room := range j.ownedRoom() {
		if room > 0 {
			args = append(args, kind)
			kinds = append(kinds, fmt.Sprint("$", len(args)))
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	found, err := rows[taskRow](ctx, j.s.read, j.s.read.DB, `SELECT `+taskColumns+` FROM tasks
		WHERE state = 'queued' AND kind IN (`+strings.Join(kinds, ", ")+`)
		AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.detector_id = tasks.detector_id AND leases.instance <> $1)
		ORDER BY updated_at, id LIMIT `+fmt.Sprint(ownedTake), args...)
	if err != nil {
		return j.s.wrap(err, "looking for tasks")
	}
	for _, r := range found {
		if !j.occupy(r) {
			continue
		}
		begun.Go(func() {
			defer j.vacate(r)
			j.workOwned(work, r)
		})
	}
	return nil
}

// workOwned runs a task that was found.
func (j *Jobs) workOwned(ctx context.Context, r taskRow) {
	ctx, cancel := context.WithTimeout(ctx, taskLimit)
	defer cancel()
	task, mine, err := j.claim(ctx, r.ID, 0)
	if err == nil && mine {
		_, err = j.run(ctx, task) // one that was put back is found again
	}
	if err != nil && ctx.Err() == nil {
		j.log.Warn("a task was not run to its end; it is repeated", "task", r.ID, "err", err)
	}
}

// ownedRoom returns how many more tasks of each owned kind may be begun.
func (j *Jobs) ownedRoom() map[string]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	room := make(map[string]int, len(j.owned))
	for kind, most := range j.owned {
		room[kind] = most
	}
	for _, kind := range j.begun {
		room[kind]--
	}
	return room
}

// occupy reports whether a task may begin, and takes its place when it may.
func (j *Jobs) occupy(r taskRow) bool {
	room := j.ownedRoom()[r.Kind] // only the loop takes places
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, has := j.begun[r.ID]; has || room <= 0 {
		return false
	}
	j.begun[r.ID] = r.Kind
	return true
}

func (j *Jobs) vacate(r taskRow) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.begun, r.ID)
}
