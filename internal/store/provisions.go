package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"aiops/internal/model"
)

type provisionRow struct {
	Node      string `bun:"node"`
	Host      string `bun:"host"`
	Print     string `bun:"print"`
	AppliedAt int64  `bun:"applied_at"`
	Live      int    `bun:"live"`
}

// Fingerprint returns a short keyed text that differs when b does. It tells
// nothing of b to who lacks the master key.
func (s *Store) Fingerprint(b []byte) string {
	sum := sha256.Sum256(append([]byte("provisions\n"), b...))
	return base64.StdEncoding.EncodeToString(s.keys.mac(sum[:]))
}

// Provisions returns which definitions the file of each node had, those in force
// first.
func (s *Store) Provisions(ctx context.Context) ([]model.Provision, error) {
	found, err := rows[provisionRow](ctx, s.read, s.read.DB, `SELECT p.node, p.host, p.print, p.applied_at, CASE WHEN n.expires_at > `+s.eng.NowSQL()+` THEN 1 ELSE 0 END AS live
		FROM provisions p LEFT JOIN nodes n ON n.name = p.node AND n.instance <> '' ORDER BY p.applied_at DESC, p.node`)
	if err != nil {
		return nil, s.wrap(err, "reading who provisioned what")
	}
	out := make([]model.Provision, len(found))
	for i, r := range found {
		out[i] = model.Provision{Node: r.Node, Host: r.Host, Print: r.Print, AppliedAt: fromMillis(r.AppliedAt), Live: r.Live == 1, Mine: r.Node == s.node}
	}
	return out, nil
}

// SaveProvision keeps the fingerprint of the definitions of this node's file,
// which have just been applied. Those of nodes that are forgotten go with them.
func (s *Store) SaveProvision(ctx context.Context, host, print string) error {
	return s.commit(ctx, "writing who provisioned what", func(ctx context.Context, tx *tx) error {
		if err := tx.exec(ctx, `DELETE FROM provisions WHERE node <> $1 AND NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.name = provisions.node)`, s.node); err != nil {
			return fmt.Errorf("forgetting nodes: %w", err)
		}
		// Later than all others, even when two fall into one millisecond.
		return tx.exec(ctx, `INSERT INTO provisions (node, host, print, applied_at)
			SELECT $1, $2, $3, CASE WHEN coalesce(max(applied_at), 0) >= `+tx.nowSQL+` THEN max(applied_at) + 1 ELSE `+tx.nowSQL+` END FROM provisions WHERE 1 = 1
			ON CONFLICT (node) DO UPDATE SET host = excluded.host, print = excluded.print, applied_at = excluded.applied_at`, s.node, cleanText(host), print)
	})
}
