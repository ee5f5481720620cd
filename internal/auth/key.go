package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"
)

// A key is aiops_PREFIX_SECRET. The prefix finds the key and is no secret;
// the name in front lets scanners of code and logs find keys that leaked.
const (
	keyMark      = "aiops_"
	prefixLength = 10 // characters of 5 bits
	secretBytes  = 32
	maxKeyLength = 128
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return encoding.EncodeToString(b)
}

// newKey makes a key, and returns it with its prefix and the hash that is kept.
func newKey() (key, prefix, hash string) {
	prefix = randomText(8)[:prefixLength]
	secret := randomText(secretBytes)
	return keyMark + prefix + "_" + secret, prefix, hashOf(secret)
}

// splitKey takes a key apart. It says false for what cannot be one.
func splitKey(key string) (prefix, secret string, ok bool) {
	if len(key) > maxKeyLength {
		return "", "", false
	}
	rest, ok := strings.CutPrefix(key, keyMark)
	if !ok {
		return "", "", false
	}
	prefix, secret, ok = strings.Cut(rest, "_")
	if !ok || len(prefix) != prefixLength || len(secret) != encoding.EncodedLen(secretBytes) || !plain(prefix) || !plain(secret) {
		return "", "", false
	}
	return prefix, secret, true
}

// plain reports whether s has only characters of the encoding.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// hashOf is what is kept of a secret. The secret has 256 random bits, so that
// a hash that is slow on purpose would protect nothing more.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
