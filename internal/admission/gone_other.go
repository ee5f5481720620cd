//go:build !unix

package admission

// gone lets a byte be read, with which the connection gives itself up.
func gone(uintptr) bool { return true }
