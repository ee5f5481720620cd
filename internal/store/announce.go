package store

import (
	"context"

	"aiops/internal/model"
)

// MaxAnnouncement is how many bytes a text of Announce may have: PostgreSQL
// takes less than 8,000.
const MaxAnnouncement = 7999

// announcementsKept is how many announcements wait for who takes them; more are
// dropped and counted.
const announcementsKept = 256

// Announce sends short texts to every node that shares the database, this one
// included. They are not stored: who does not listen at that moment never hears
// them. On SQLite there is nobody, and nothing happens. A text that is empty or
// too long is KindInvalid.
func (s *Store) Announce(ctx context.Context, texts []string) error {
	query := s.eng.AnnounceSQL()
	if query == "" || len(texts) == 0 {
		return nil
	}
	for _, text := range texts {
		if text == "" || len(text) > MaxAnnouncement {
			return model.Errorf(model.KindInvalid, "", "an announcement of %d bytes; 1 to %d are allowed", len(text), MaxAnnouncement)
		}
	}
	return s.aside(ctx, "announcing to other nodes", func(ctx context.Context, tx *tx) error {
		// Nothing is stored, so nothing has to wait for the disk.
		if err := tx.exec(ctx, `SELECT set_config('synchronous_commit', 'off', true)`); err != nil {
			return err
		}
		for _, text := range texts {
			if err := tx.exec(ctx, query, text); err != nil {
				return err
			}
		}
		return nil
	})
}

// Announcements returns the channel of what nodes announced. Who takes too
// slowly misses some.
func (s *Store) Announcements() <-chan string { return s.heard }
