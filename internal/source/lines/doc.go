// Package lines keeps recent log lines on disk, within bounds of age and
// bytes, and finds them again.
//
// A line that Append took is in a write-ahead log before Append returns, and
// on the disk itself within a second: the end of the process loses nothing, a
// power cut the lines of the last second. Lines are held in memory until there
// are enough of them, then written as one segment of compressed blocks, one
// stream a block. Segments never change; they are removed as a whole when they
// are too old or too many.
//
// The package refuses to judge lines: it neither mines nor counts them, and
// what it is given it gives back byte for byte. Memory is bounded by the
// configuration, whatever lines hold. The formats are in docs/formats.
package lines
