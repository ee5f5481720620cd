// Package auth knows who asks and what that identity may do.
//
// It owns API keys, browser sessions, the roles and the one table of what each
// role may do. It refuses to guess: an operation without a row in the table is
// denied, and so is a credential that cannot be checked. It knows no users with
// passwords and no other identity provider.
//
// Invariants: a secret is never stored, only its SHA-256, which is enough for
// 32 random bytes; it is shown once. A revoked key and an ended session are
// refused at once by the node that ended them, and within two seconds by
// others that share the database. Failed attempts are bounded per network
// address by a table of fixed size, which no flood of addresses can push
// anybody out of.
//
// docs/auth.md describes it from outside.
package auth
