package model

import "time"

// Role is how much an identity may do. Each includes the ones before it.
type Role string

// The roles.
const (
	RoleViewer   Role = "viewer"   // reads
	RoleOperator Role = "operator" // also works with detectors, anomalies and data
	RoleAdmin    Role = "admin"    // also decides who may do what and where data comes from
)

// Roles returns the roles, the least first.
func Roles() []Role { return []Role{RoleViewer, RoleOperator, RoleAdmin} }

// APIKey is what a program or a person proves itself with. The secret itself
// is not kept.
type APIKey struct {
	ID        string // key_…
	Name      string
	Role      Role
	Prefix    string // the part of the key that is no secret and finds it
	Hash      string // SHA-256 of the secret, hexadecimal
	CreatedBy string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
	RevokedAt time.Time // zero: it is not
}

// Valid reports whether the key can be used at a time.
func (k APIKey) Valid(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

// Session is a browser that was signed in with a key. It ends with the key.
type Session struct {
	ID        string // ses_…
	Hash      string // SHA-256 of the cookie's value, hexadecimal
	KeyID     string
	CreatedAt time.Time
	ExpiresAt time.Time
}
